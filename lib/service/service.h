/* SPDX-License-Identifier: Apache-2.0 */
/* lib/service/service.h: what every daemon's main() shares.
 *
 * main() is one line: return service_main(argc, argv, &smtpd_service);
 * service_main() reads the arguments that master gives (-n name -t type -u -c -s sockets -m maxproc, then those of
 * master.cf: -o name=value -v ...), reads main.cf, starts the log and the loop, goes to the queue directory, then calls
 * prepare() (still with the privileges of the start), enters the sandbox, calls start() in a task, and serves: each
 * connection on an inherited socket is a task that runs serve(). It ends when master asks (SIGTERM, or after a reload), when
 * it was idle for max_idle, or has served max_use connections (where main.cf sets that), unless `resident`: no new
 * connections, clients of links are told to finish (link_retire_servers()), drain(), wait for the sessions (when the
 * system stops for service_drain_time at most, else as long as they last), end.
 *
 * A daemon can be run by hand too: `smtpd -C DIR -n NAME -S` serves its standard input and output, once: a socket, or whatever
 * it is. */
#ifndef LIB_SERVICE_SERVICE_H
#define LIB_SERVICE_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/conf/conf.h"
#include "lib/run/link.h"
#include "lib/run/net.h"
#include "lib/run/sandbox.h"
#include "lib/run/task.h"

struct service {
    const char *program; /* "smtpd": role on links, default tag in the log */

    /* Reads settings and opens what needs the privileges or the file system of the start (tables, TLS keys, files).
     * May fill in sandbox->write_paths and so on. Must not wait. */
    int (*prepare)(const struct conf *, struct sandbox *, struct err *);

    /* In the sandbox, in a task: opens links, replays, starts tasks of its own (service_tasks()). NULL: nothing to do. */
    int (*start)(struct err *);

    /* One connection, as a task; owns fd. For links: link_accept() and return. socket: which of the service's sockets. */
    void (*serve)(int fd, const struct net_addr *peer, unsigned socket);

    /* A datagram service (postlogd) or a FIFO: called in a task when the socket is readable, until the socket has no
     * more (read until EAGAIN). NULL for stream services. */
    void (*readable)(int fd);

    /* The service is to end: stop taking work; runs as a task, may wait until what is under way is safe. Its sessions
     * and links are still there. NULL: nothing. */
    void (*drain)(void);

    /* The system stops: sessions that wait for their client should end now, not at service_drain_time. Called once, when
     * that is known (service_is_terminating() is true from then on), be it before drain() or after; must not wait. NULL: nothing. */
    void (*hurry)(void);

    /* The system is about to stop, and those whom we need are still there: begin nothing new, and return when nothing
     * is under way, or that takes too long. Runs as a task before hurry() and drain(), but never after them. NULL: nothing. */
    void (*quiet)(void);

    /* `postfix logrotate`: open log files anew. NULL: nothing. */
    void (*reopen)(void);

    struct sandbox sandbox;    /* calls, rights; user and chroot come from master.cf's fields */
    const char *watchdog_time; /* the parameter that says for how long the loop may stand still; NULL: daemon_timeout */
    bool resident;             /* never ends by itself (qmgr, cleanup with a segment, anvil...) */
    bool many_workers;         /* several processes may share the work (see worker_processes_limit) */
    bool overlaps;             /* one process, but a successor may start while one that retires finishes what it has */
    bool delivers;             /* a delivery agent: with maxproc 1 not even that, so that two deliveries never meet */
    bool is_interactive;       /* people wait for each answer: it is not scheduled in batches */
    bool logs_itself;          /* postlogd: the log goes where prepare() directs it, not to the postlog socket */
};

int service_main(int argc, char **argv, const struct service *);

/* What the service knows of itself, from prepare() on. */
const char *service_name(void); /* the service's name in master.cf: "smtp", "2525", "submission" */
const struct conf *service_conf(void);
struct arena *service_arena(void); /* lives as long as the process: for settings */
struct task_group *service_tasks(
    void); /* for tasks that live as long as the service; cancelled and joined at the end */
unsigned service_process_limit(
    void);                        /* maxproc of master.cf: how many sessions or deliveries; if the administrator gave
                                         * none, what there are descriptors and mappings for */
bool service_is_standalone(void); /* run with -S */
void service_is_short(void); /* in prepare(): this process won't live long enough to give pages of its program back */
bool service_is_ending(void);
bool service_is_terminating(void); /* ending because the system stops: soon */
void service_retire(void);         /* ends this process in good order; a new one takes its place when it is wanted */
void service_handed_over(void);    /* in drain(): what is still to do here is in nobody's way; a successor may start */

/* Arguments of master.cf that are not options of all services ("flags=Rq", "user=vmail"); NULL at the end. */
char **service_args(void);

/* Tells master how many sessions this process holds: it starts another worker when they are many. Batched. Calls of
 * serve() are counted without it; this is for agents, whose work comes over links. */
void service_report_load(unsigned sessions);

/* The path of another service's socket, private or public, as seen from this process (chroot or not): "private/cleanup"
 * or "public/cleanup". Relative, because every service runs in the queue directory. */
const char *service_socket_path(const char *class_and_name);

#endif
