/* SPDX-License-Identifier: Apache-2.0 */
/* imap/session.h: an IMAP session after its login (RFC 3501, RFC 9051), in the process of its user. One connection is one
 * task: it reads a command, runs its handler, tells what changed in the selected mailbox, answers.
 *
 * A handler returns a reply, which the session loop sends behind all untagged responses. Handlers never keep pointers to
 * messages over anything that may wait: they look them up again by UID. */
#ifndef IMAP_SESSION_H
#define IMAP_SESSION_H

#include <stdbool.h>

#include "imap/mailboxes.h"
#include "imap/view.h"
#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/imap/input.h"
#include "lib/mail/messages.h"
#include "lib/run/stream.h"
#include "lib/run/task.h"
#include "lib/service/user_process.h"

enum imap_status {
    IMAP_OK,
    IMAP_NO,
    IMAP_BAD,
    IMAP_GONE /* the connection is over: nothing is sent */,
    IMAP_SENT /* the handler has sent it */
};

struct imap_reply {
    enum imap_status status;
    const char *code; /* "READ-ONLY", in brackets before the text; NULL: none */
    const char *text;
};

/* States in which a command is legal. */
enum { IN_LOGGED_IN = 1, IN_SELECTED = 2 };
enum {
    CMD_BY_UID = 1,  /* exists as UID COMMAND too */
    CMD_NUMBERS = 4, /* names messages by their numbers, where it does not come as UID */
    CMD_KEEPS = 2,   /* expunged messages are not told of behind it, unless it came as UID (RFC 3501 section 7.4.1) */
};

struct session;
struct command {
    const char *verb;
    struct imap_reply (*handler)(struct session *);
    unsigned states, flags;
};

struct session {
    struct session *next; /* of all in this process */
    struct stream *stream;
    struct arena *arena; /* the session's */
    struct arena *cmd;   /* the command's */
    struct imap_input in;
    struct mailboxes *mailboxes;
    const struct msg_session *from;
    struct task *task;

    const char *tag;               /* of the command under way */
    struct open_mailbox *selected; /* NULL: none */
    struct view view;
    uint64_t told; /* selected->changes when session_sync() looked last */
    bool read_only;
    bool is_fresh; /* selected by this command, from a folder that was looked at for it */
    bool by_uid;   /* the command came as UID ... */
    bool utf8;     /* ENABLE UTF8=ACCEPT or IMAP4rev2 */
    bool rev2;
    bool compressed;
    bool uid_only;           /* ENABLE UIDONLY */
    bool condstore, qresync; /* imap/condstore.h */
    bool search_modseq;      /* the search under way asks for mod-sequences */
    bool has_saved;          /* SEARCH ... RETURN (SAVE) */
    uint32_t *saved;         /* UIDs */
    size_t saved_count;
    bool done, stopping;
    bool mailbox_failed; /* the selected one: the goodbye says so */
    bool parked;         /* it goes on elsewhere: imap/park.h */
    bool cannot_park;    /* was tried */
    bool resumed;        /* it was parked before */
    const char *end_reason;
    uint64_t bytes_out;
};

/* The whole session; owns fd. */
void may_wait session_serve(struct mailboxes *, int fd, const struct msg_session *, struct slice input);
/* One that was parked. */
void may_wait session_resume(struct mailboxes *, int fd, const struct msg_session *, struct slice state,
                             struct user_told);

extern const char session_idle_text[], session_stop_text[]; /* BYE */

/* What follows "+ idling": waits for DONE, tells what changes meanwhile; ends in time, or is parked (then IMAP_GONE). */
struct imap_reply may_wait session_idle(struct session *, usec_t due);
void session_stop_all(void);

struct imap_reply imap_ok(const char *text);
struct imap_reply imap_no(struct session *, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
struct imap_reply imap_error(struct session *, const struct err *); /* NO with the error's text and a fitting code */
struct imap_reply imap_bad(struct session *);                       /* what in.err says: BAD, or the end */

/* Tells what has changed in the selected mailbox; expunges: also who is gone. */
int may_wait session_sync(struct session *, bool expunges, struct err *) MUST_USE;

/* session_sync() failed where no command's answer can say so: the session ends. */
void session_lose_mailbox(struct session *, const struct err *);

void may_wait session_write(struct session *, struct slice);
void may_wait session_printf(struct session *, const char *fmt, ...) PRINTF_LIKE(2, 3);

void session_unselect(struct session *);

/* The set as UIDs of the view's messages, ascending, in the command's arena. Sequence numbers that are out of range: BAD. */
int session_set_uids(struct session *, struct imap_set *, uint32_t **uids, size_t *count);

/* "(\Seen \Flagged $Forwarded)" */
void session_put_flags(struct buf *, const struct folder *, const struct folder_message *, bool recent);

extern const char session_own_rights[];

/* What CAPABILITY says; made once, from the settings. */
extern const char *session_capabilities;
void session_make_capabilities(struct arena *);

#define CMD(verb, handler, states, flags) struct imap_reply may_wait handler(struct session *);
#include "imap/commands.def"
#undef CMD

#endif
