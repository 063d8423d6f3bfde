/* SPDX-License-Identifier: Apache-2.0 */
/* local/local.h: how a recipient of local(8) becomes deliveries.
 *
 * A *job* is one recipient of a request. It begins as one *step*, and each expansion (alias, .forward, :include:) makes steps
 * that know where they came from. What is to be done with a step is an item in the job's list; items run as tasks, many at
 * once, so that an alias with many members costs their work and not the sum of their waits. Mail for other hosts, and
 * what has to be seen as mail anew, is gathered and posted as new messages when all items are done and none is deferred.
 * The job's result is the worst of its deliveries, each of which has a line in the log. */
#ifndef LOCAL_LOCAL_H
#define LOCAL_LOCAL_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/arena.h"
#include "lib/base/list.h"
#include "lib/base/map.h"
#include "lib/conf/settings_local.h"
#include "lib/mail/agent.h"
#include "lib/mail/route.h"
#include "lib/run/task.h"
#include "lib/store/courier.h"
#include "lib/table/maps.h"

/* As whom something is done. uid 0: the mail system itself, which means default_privs for commands and files. */
struct rights {
    const char *user, *home, *shell;
    uid_t uid;
    gid_t gid;
};

enum expansion { EXPAND_ALIAS = 1, EXPAND_FORWARD = 2, EXPAND_INCLUDE = 4 };
enum context { CONTEXT_COMMAND = 1, CONTEXT_FILE = 2, CONTEXT_FORWARD = 4 };

/* What is known of an address on its way. Never changed once it is in an item; lives in the job's arena. */
struct step {
    const struct step *parent; /* NULL: the request's recipient */
    unsigned level;
    const char *address;               /* raw form */
    const char *local, *user, *domain; /* in lower case; user: local without its extension */
    const char *extension;             /* NULL: none */
    char delimiter;
    const char *original, *dsn_original;
    int64_t notify;
    const char *sender;       /* may be the owner- alias of a list */
    const char *owner;        /* who is told: owner- alias, or the user of a .forward file; NULL */
    enum expansion expansion; /* what it came out of; 0: none */
    const char *from;         /* the name that was expanded; NULL */
    const char *unmatched;    /* extension to be passed on to addresses; NULL */
    const char *delivered;    /* for Delivered-To */
    const char *forward_file; /* this step's .forward file; NULL */
    struct rights rights;
};

struct batch;

struct job {
    struct delivery *d;
    unsigned index;
    struct arena *arena;
    const struct step *first; /* the request's recipient */
    struct list items;
    unsigned running;
    struct task_group group;
    struct task_cond changed;
    struct map *seen; /* what was done already, as far as duplicate_filter_limit goes */
    struct map *loop; /* addresses in the message's Delivered-To headers */
    struct list batches;
    unsigned sent, deferred, bounced;
    struct delivery_status first_sent, first_deferred;
    struct buf bounces; /* text of all that bounced */
    struct delivery_status first_bounced;
};

/* ---- main.c: what all share ---- */
struct local {
    struct local_settings s;
    struct rights default_rights;
    unsigned command_mask, file_mask; /* EXPAND_...: where |commands and /files may stand */
    unsigned delivered_mask;          /* CONTEXT_... */
    unsigned propagate;               /* EXPAND_... */
    unsigned locks;                   /* MBOX_LOCK_... */
    char **environment;               /* of commands, before what is known of the message */
    struct maps *transport_maps, *command_maps, *fallback_maps;
    const struct maps *filter; /* local_delivery_status_filter */
    struct router *router;
};
extern struct local local;

/* ---- job.c ---- */
void may_wait job_run(struct delivery *, unsigned index, struct map *loop);

/* A step that comes out of another one, to be filled in and given to an item. */
struct step *step_below(struct job *, const struct step *);

void job_add_recipient(struct job *, const struct step *);
/* text: a destination as it stands in an alias. */
void job_add_destination(struct job *, const struct step *, const char *text);

/* Was this done before? Remembers it. Case counts: files and commands differ by it. */
bool job_seen(struct job *, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool job_saw(const struct job *, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The same for an address, whose case does not count. kind: of what was done with it. */
bool job_seen_address(struct job *, const char *kind, const char *address);

/* How a delivery of the step ended: logged, and counted. Texts are kept, not copied. */
void job_result(struct job *, const struct step *, const struct delivery_status *);
void job_count(struct job *, const struct step *, const struct delivery_status *); /* without a line in the log */
void job_sent(struct job *, const struct step *, const char *reason);
void job_failed(struct job *, const struct step *, const char *dsn, const char *reason);
void job_deferred(struct job *, const struct step *, const char *dsn, const struct err *);

/* ---- recipient.c: what happens with an address that is local ---- */
void may_wait recipient_deliver(struct job *, const struct step *);
/* Fills in local, user, extension and domain from address. */
void recipient_split(const struct job *, struct step *);

/* ---- alias.c ---- */
int alias_prepare(const struct conf *, struct arena *, struct err *) MUST_USE;
/* Expands the step under this name. *found: there was an alias, and the step is dealt with. */
void may_wait alias_expand(struct job *, const struct step *, const char *name, const char *unmatched, bool *found);

/* ---- destination.c ---- */
void may_wait destination_deliver(struct job *, const struct step *, const char *text);
/* All destinations of a list, its addresses routed together. */
void may_wait destinations_add(struct job *, const struct step *, const char *const *texts, size_t count);

/* ---- user.c: .forward and mailbox ---- */
void may_wait user_deliver(struct job *, const struct step *);

/* ---- store.c: jobs for couriers ---- */
/* The answer, or NULL: deferred. */
const struct msg_user_done *may_wait store_call(struct job *, const struct step *, const struct rights *,
                                                const struct msg_user_job *, bool content);
struct msg_user_job store_job(struct job *, const struct step *, int work, const char *path, unsigned context);
void may_wait file_deliver(struct job *, const struct step *, const char *path);
void may_wait command_deliver(struct job *, const struct step *, const struct rights *, const char *command);
const struct rights *rights_of(const struct step *);

/* ---- forward.c ---- */
void forward_prepare(void);
void forward_add(struct job *, const struct step *);
void may_wait forward_send(struct job *);

/* ---- loop.c ---- */
/* The addresses in the Delivered-To headers of the message, in lower case. -1: can't be read. */
int loop_scan(struct source *, struct map *, struct err *) MUST_USE;

/* ---- passwd.c ---- */
/* *found false: there is no such user. */
int may_wait passwd_find(struct arena *, const char *name, struct rights *, bool *found, struct err *) MUST_USE;
int may_wait passwd_find_uid(struct arena *, uid_t, struct rights *, bool *found, struct err *) MUST_USE;

/* ---- names.c: $user, $home and so on in a parameter's value ---- */
/* Characters of values that are not in filter become '_'. "" where $extension is asked for and there is none. *extended (may be NULL): $extension was there and was used. */
int names_expand(struct arena *, const struct step *, const struct rights *, const char *text, const char *filter,
                 const char **result, bool *extended, struct err *) MUST_USE;

/* ---- biff.c ---- */
void biff_notify(const char *user, int64_t position);

#endif
