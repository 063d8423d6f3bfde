/* SPDX-License-Identifier: Apache-2.0 */
/* lib/service/service_internal.h: what the parts of the service share; for lib/service/service*.c only.
 *
 * service.c         start: arguments, configuration, log, sandbox
 * service_serve.c   the listening sockets and the sessions on them
 * service_standard.c  a single session, on standard input and output
 * service_end.c     ends: by master's word, idle, used up; and what is done when little is to do */
#ifndef LIB_SERVICE_SERVICE_INTERNAL_H
#define LIB_SERVICE_SERVICE_INTERNAL_H

#include "lib/conf/settings_service.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/service/service.h"

enum service_socket { SOCKET_STREAM, SOCKET_DATAGRAM, SOCKET_FIFO, SOCKET_PASS };

struct service_state {
    const struct service *service;
    struct conf *conf;
    struct arena *arena;
    struct service_settings settings;
    const char *name;
    char **args;
    enum service_socket type;
    unsigned socket_count, process_limit, use_limit; /* use_limit 0: none */
    bool unprivileged, chroot, standalone, has_master, is_short;
    bool ending, terminating; /* the second: soon */
    usec_t end_time;          /* when terminating */
    usec_t watchdog_time;
    unsigned sessions, used;
    struct task_cond session_ended;
    struct task_group start_tasks;
    struct task_group tasks;     /* the daemon's own */
    struct task_group acceptors; /* one for each socket, and master's voice */
    struct task_group session_tasks;
    struct task_group end_tasks;
};
extern struct service_state service_state;

/* service_serve.c */
void service_listen(void);
void service_close_listeners(void);
void service_session_ended(void);

/* service_standard.c */
void service_serve_standard_input(void);

/* service_end.c */
void service_watch_master(void);
void service_start_watchdog(void);
void service_report_ready(void);
void service_end(bool terminate);
void service_note_activity(void); /* a session began or ended */
void service_note_quiet(void);    /* the last session has ended */
void service_start_housekeeping(void);

#endif
