/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/link_internal.h: what the parts of the link share; for lib/run/link*.c only.
 *
 * link.c       life: connect, accept, hello, the end
 * link_out.c   frames out: gathered, written at the end of the turn, descriptors with their own frame
 * link_in.c    frames in: cut from what was read, checked, handed to handlers
 * link_call.c  calls: request numbers, waiting, answers
 *
 * A link is freed when nothing holds it any more (`holders`): a task that waits in link_call() for room, a request that
 * is not answered, a task handler, a turn-end hook that is due, the reading loop. */
#ifndef LIB_RUN_LINK_INTERNAL_H
#define LIB_RUN_LINK_INTERNAL_H

#include "lib/base/buf.h"
#include "lib/base/list.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"

struct event;

enum {
    LINK_VERSION = 1,
    LINK_CODE_HELLO = 1,
    LINK_CODE_RETIRE = 2,  /* empty; from a server: see link_drain_servers() */
    LINK_HELLO_LIMIT = 64, /* so the first byte of a HELLO is no capital letter: see link_accept_public() */
    LINK_FLAG_REQUEST = 1, /* wants an answer */
    LINK_FLAG_ANSWER = 2,
};

struct link_head {
    uint32_t len; /* of what follows the head */
    uint16_t type;
    uint8_t flags;
    uint8_t fd_count;
    uint32_t request;
    uint32_t message_len;
};
_Static_assert(sizeof(struct link_head) == 16, "the head goes over the wire as it is");

/* Descriptors on their way out: they go with the byte at `position`. */
struct link_out_fds {
    struct link_out_fds *next;
    uint64_t position;
    int fds[LINK_MAX_FDS];
    unsigned count;
};

/* A call that waits for its answer; its number is its place in the table + 1. Abandoned: in use, but nobody waits. */
struct link_slot {
    bool used;
    uint32_t next_free;
    const struct msg_type *want;
    struct link_wait *wait; /* a task in link_call() */
    void (*done)(void *ctx, struct link_message *reply, const struct err *);
    void *done_ctx;
};

struct link {
    unsigned magic;
    bool server;
    char *path; /* client */
    const struct link_handler *handlers;
    unsigned handler_count;
    void *ctx;
    void (*closed)(void *ctx, struct link *);
    void (*trigger)(void *ctx, const char *bytes, size_t len);

    int fd;              /* -1: not connected */
    unsigned generation; /* counts connections, so that a reading loop notices the end of its own */
    struct event *readable, *writable;
    bool hello_seen;
    bool retiring;   /* the server wants no new calls: ends when none is outstanding */
    bool is_rest;    /* what a link has left behind with a server that retires: see leave_behind() in link.c */
    bool freed;      /* link_free() was called, or a server's or a rest's connection ended: goes with the last holder */
    bool closed_due; /* closed() waits for the tasks in `requests` */
    bool blocked;    /* the kernel took no more; `writable` is armed */
    bool paused;     /* LINK_IN_LIMIT: not read until requests have been answered */
    unsigned holders;
    struct loop_timer hello_timer;
    struct loop_timer recheck_timer; /* after a short read: see read_all() */

    const char *peer_program; /* from the roles */
    uint32_t peer_bit;
    pid_t peer_pid;

    struct buf in;                /* the front part of a frame that is not complete */
    int in_fds[2 * LINK_MAX_FDS]; /* of that frame, and of one that may follow in the same read */
    unsigned in_fd_count;

    struct buf out;
    uint64_t out_position; /* of out's first byte in all that was ever sent */
    struct link_out_fds *out_fds, **out_fds_end;
    struct loop_hook flush;

    struct link_slot *slots;
    uint32_t slot_count, slot_free; /* number of the first free slot; 0: none */
    unsigned outstanding;
    struct task_cond room;

    struct list requests;
    size_t held; /* bytes of requests that are not answered */
    struct list rests, rest_link;
    struct list server_link; /* in link_state.servers */
    struct list all_link;
};

struct link_request {
    struct list link; /* in struct link's requests: while a task serves it */
    struct link *owner;
    struct arena *arena; /* the request lies in it */
    uint32_t number;
    size_t size; /* what it takes, roughly */
    bool oneway, answered, in_handler;
    const struct link_handler *handler;
    struct link_message *in;
    struct task *task;
};

/* link.c */
struct link_state {
    const struct link_protocol *protocol;
    const char *program;
    uid_t trusted_uid;
    const struct msg_type **by_code;
    unsigned code_count;
    char *scratch;         /* what a read fills, and a reading loop empties before it returns */
    struct arena *passing; /* for what goes when a handler in the loop returns */
    struct task_group tasks;
    struct list all;
    struct list servers; /* links with a connection that we accepted */
    unsigned server_count;
    bool draining; /* new ones are to go, too */
    struct task_cond server_gone;
};
extern struct link_state link_state;
void link_hold(struct link *);
void link_release(struct link *);
/* Ends the connection: calls fail with `why`. Nothing happens if there is none. */
void link_end(struct link *, const char *why);
int link_ensure_connected(struct link *, bool *try_later, struct err *) MUST_USE;
int link_take_hello(struct link *, struct slice message, struct err *) MUST_USE;
void link_take_retire(struct link *);
const char *link_name(const struct link *);

/* link_out.c */
/* -1: the frame is too large (ERR_PERM), or descriptors can't be duplicated (then the connection has ended). */
int link_queue(struct link *, const struct link_head *, const struct msg_type *, const void *message,
               struct slice payload, const int *fds, struct err *) MUST_USE;
void link_want_flush(struct link *); /* at the end of this turn */
void link_flush(struct link *);
void link_drop_output(struct link *);

/* link_in.c */
void link_read(struct link *);
void link_drop_input(struct link *);
void link_cancel_requests(struct link *);
void link_report_closed(struct link *);

/* link_call.c */
int link_take_answer(struct link *, const struct link_head *, const struct msg_type *, struct slice bytes,
                     const int *fds, struct err *) MUST_USE;
void link_fail_calls(struct link *, const char *why);
void link_move_calls(struct link *from, struct link *to);

#endif
