/* SPDX-License-Identifier: Apache-2.0 */
/* lib/service/service.h: what every daemon's main() shares.
 *
 * main() is one line: return service_main(argc, argv, &smtpd_service);
 * service_main() reads the arguments that master gives (-n name -t type -u -c -s sockets -m maxproc -w workers -o name=value -v ...), reads main.cf, starts
 * the log and the loop, then calls prepare() (still with the privileges of the start), enters the sandbox, calls start()
 * in a task, and serves: each connection on an inherited socket is a task that runs serve(). It ends when master asks
 * (SIGTERM, or after a reload), when it was idle for max_idle, or has served max_use connections, unless `resident`:
 * no new connections, drain(), wait for the tasks for service_drain_time at most, end.
 *
 * A daemon can be run by hand too, for tests: `smtpd -c DIR -n NAME -S` serves standard input and output once. */
#ifndef LIB_SERVICE_SERVICE_H
#define LIB_SERVICE_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

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

    /* A datagram service (postlogd): called when the socket is readable; NULL for stream services. */
    void (*readable)(int fd);

    /* The service is to end: stop taking work; runs as a task, may wait until what is under way is safe. NULL: nothing. */
    void (*drain)(void);

    struct sandbox sandbox; /* calls, rights; user and chroot come from master.cf's fields */
    bool resident;          /* never ends by itself (qmgr, cleanup with a segment, anvil...) */
};

int service_main(int argc, char **argv, const struct service *);

/* What the service knows of itself, from start() on. */
const char *service_name(void);       /* the service's name in master.cf: "smtp", "2525", "submission" */
const struct conf *service_conf(void);
struct task_group *service_tasks(void); /* for tasks that live as long as the service; cancelled and joined at the end */
unsigned service_process_limit(void);   /* maxproc of master.cf: how many sessions or deliveries; a large number if the
                                         * administrator gave none */
bool service_is_ending(void);

/* Tells master how many sessions this process holds: it starts another worker when they are many. Batched. */
void service_report_load(unsigned sessions);

/* The path of another service's socket, private or public, as seen from this process (chroot or not): "private/cleanup". In the
 * arena of the process. */
const char *service_socket_path(const char *class_and_name);

#endif
