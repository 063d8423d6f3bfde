/* SPDX-License-Identifier: Apache-2.0 */
/* lib/service/master_protocol.h: between master and the processes that it starts.
 *
 * A process finds its end of a socket pair (SOCK_SEQPACKET) as descriptor MASTER_STATUS_FD, and the service's listening
 * sockets as MASTER_LISTEN_FD and up. When the pair reads as closed, master is gone and the process ends in good order.
 * MASTER_LOCK_FD is only held: the next master waits until nobody does.
 * Options on the command line: see lib/service/service.h. */
#ifndef LIB_SERVICE_MASTER_PROTOCOL_H
#define LIB_SERVICE_MASTER_PROTOCOL_H

#include <stdint.h>

enum { MASTER_LOCK_FD = 4, MASTER_STATUS_FD = 5, MASTER_LISTEN_FD = 6 };

/* From the process: one struct each. */
enum master_report_kind {
    MASTER_READY = 1,       /* serves; value: MASTER_READY_... */
    MASTER_LOAD = 2,        /* value: sessions that it holds now */
    MASTER_RETIRING = 3,    /* takes no new connections: master watches the sockets again */
    MASTER_HANDED_OVER = 4, /* retires, and a successor may start though it still lives */
    MASTER_ALIVE = 5,       /* the loop turns; value: seconds without such a word after which it does not */
    MASTER_QUIET_NOW = 6,   /* the answer to MASTER_QUIET */
};

enum {
    MASTER_READY_MANY_WORKERS = 1, /* struct service: many_workers, overlaps, delivers */
    MASTER_READY_OVERLAPS = 2,
    MASTER_READY_DELIVERS = 4,
};

struct master_report {
    uint32_t kind;
    uint32_t value;
};

/* To the process: one byte each. */
enum {
    MASTER_RETIRE = 'R',    /* end when the sessions that are there have ended */
    MASTER_TERMINATE = 'T', /* end soon: the system stops */
    MASTER_QUIET =
        'Q', /* MASTER_TERMINATE will come: begin nothing, and say MASTER_QUIET_NOW when nothing is under way */
};

#endif
