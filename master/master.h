/* SPDX-License-Identifier: Apache-2.0 */
/* master/master.h: the parts of master.
 *
 * main.c         arguments, pid file, signals, going into the background
 * services.c     the services as master.cf has them now: start, reload
 * demand.c       when a process is wanted: sockets, wake-ups, load
 * listen.c       their sockets
 * child.c        their processes: start, reports, death
 * stop.c         the end, in the order that loses nothing
 * environment.c  what processes inherit
 *
 * A service whose process lives is none of master's business: the process accepts by itself. Master watches the sockets
 * of a service only while nobody serves them, and starts a process when one becomes readable. All of it is tasks on the
 * loop; master reads nothing that comes from outside. */
#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/arena.h"
#include "lib/base/list.h"
#include "lib/conf/conf.h"
#include "lib/conf/master_cf.h"
#include "lib/conf/settings_master.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/task.h"

/* In which phase of a stop a service ends. */
enum stop_phase { STOP_RECEIVERS, STOP_CLEANUP, STOP_QMGR, STOP_OTHERS, STOP_LOG, STOP_PHASES };

struct listener {
    struct net_addr addr; /* of inet services */
    int fd;
};

struct service {
    struct list link;
    char *name;
    enum service_type type;
    bool is_private;
    char *path;                        /* of its socket below the queue directory; NULL for inet */
    const struct master_service *conf; /* NULL: no longer in master.cf; goes with its last process */
    enum stop_phase phase;
    struct listener *listeners;
    size_t listener_count;
    struct list children;
    unsigned child_count;
    bool was_used;                         /* a process was started once */
    bool many_workers, overlaps, delivers; /* what its last process said; see lib/service/service.h */
    bool stopping;                         /* no new processes */
    usec_t not_before;                     /* throttled until then; 0: not */
    unsigned failures;                     /* in a row */
    struct loop_timer throttle_timer, wakeup_timer;
    bool watch; /* nobody serves the sockets */
    struct task_cond watch_changed;
    struct watcher *watcher_list;
    struct task_group watchers; /* one for each socket */
};

struct child {
    struct list link;
    struct service *service;
    char *program; /* its path, for the log */
    pid_t pid;
    int status_fd;
    usec_t started;
    bool ready, retiring, told_to_end, handed_over;
    bool is_quiet;
    bool is_suspect;               /* silent for too long, and will be killed if that goes on */
    usec_t silence;                /* how long it may be; 0: as long as it likes */
    struct loop_timer alive_timer; /* until it is too long */
    unsigned load;
    struct task_group reader;
};

struct master {
    struct conf *conf;
    struct arena *arena; /* of this configuration */
    struct master_settings settings;
    struct master_cf master_cf;
    const char *version;
    struct list services;
    bool is_root, stopping;
    bool loading; /* services_load() walks the list */
    uid_t owner_uid;
    gid_t owner_gid;
    char **environment;
    int pid_file, lock_file;
    struct task_group tasks;
    struct task_cond child_died; /* or is quiet */
};
extern struct master master;

/* services.c. The first call starts the services, later ones change them; main.cf is read anew. On error all stays as it
 * was. */
int may_wait services_load(struct err *) MUST_USE;
void service_free_if_gone(struct service *); /* not during a stop, which walks the list and waits */

/* demand.c */
/* Something changed: watches its sockets, starts a process, or neither. */
void service_update(struct service *);
/* As if somebody had poked its socket. */
void service_wake(struct service *);
void service_set_wakeup(struct service *);
unsigned service_worker_limit(const struct service *);
void demand_start_watching(struct service *);
void may_wait demand_stop_watching(struct service *);

/* At the end of a stop: has a process serve what waits in the sockets though nobody is there any more (the log's lines),
 * and waits until it is ready, some seconds at most. */
void may_wait demand_serve_rest(struct service *);

/* listen.c. Opens what is missing and closes what is no longer wanted; sockets that stay are not touched. */
int listen_update(struct service *, struct err *) MUST_USE;
void listen_close(struct service *, bool remove_path);

/* child.c */
void child_start(struct service *);
void child_tell(struct child *, char word); /* MASTER_RETIRE, MASTER_TERMINATE, MASTER_QUIET */
void child_reap_all(void);

/* stop.c */
void stop_in_order(void); /* starts it; the loop ends at its end */
void stop_at_once(void);
enum stop_phase stop_phase_of(const struct master_service *);

/* environment.c. What services are started with: the variables that import_environment lets through, MAIL_CONFIG, and a PATH.
 * For exec(); in the arena. NULL: the parameter is malformed. */
char **environment_of_services(struct arena *, const struct conf *, struct err *);

#endif
