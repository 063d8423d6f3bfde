/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/link.h: the one connection between two of our processes that talk.
 *
 * A persistent Unix stream socket, multiplexed by request number. Frames sent during a turn of the loop are gathered
 * and written once at its end; what arrives is read in one large read and handed out. A frame is
 *   u32 length of what follows the 16-byte head | u16 type | u8 flags | u8 descriptors | u32 request | u32 message length
 * in host order, then the message (msg.h), then the payload (opaque bytes). The first frame each way is HELLO, with the
 * protocol's version and the sender's program name; the kernel's word for the peer's uid is checked against the uids
 * allowed. A malformed frame, a type the table does not let that program send, a frame over LINK_FRAME_LIMIT: the link
 * ends, never the process. What would become such a frame is not sent: the call fails (ERR_PERM); an answer ends the link.
 *
 * Back-pressure: link_call() waits while LINK_OUT_LIMIT bytes are unsent, and while LINK_WINDOW calls of ours are
 * outstanding. Those who do not wait (link_send(), link_call_async()) ask link_is_full() before they take on more work.
 * Whoever asks faster than he is answered is not read any more while the requests under way take LINK_IN_LIMIT bytes; and
 * whoever does not read what he is sent loses the link at LINK_UNREAD_LIMIT.
 *
 * Descriptors belong to the frame that they were sent with: it starts a sendmsg() of its own, so the kernel hands them
 * out with its bytes. Descriptors that no frame announced, or that the kernel cut off, end the link.
 *
 * Life, client side: link_connect() once; when the connection breaks, outstanding calls fail with ERR_CLOSED and the
 * next use connects again. When the server retires (a reload, a table that changed), calls under way get their answers on the
 * old connection and new ones go to its successor at once (a link with handlers waits for those under way). Server side: link_accept() for each accepted connection; the handler table says what may be
 * asked. When the connection ends, the tasks that serve its requests are cancelled (nobody waits for their answers any
 * more), and the link frees itself after the last of them. */
#ifndef LIB_RUN_LINK_H
#define LIB_RUN_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/run/msg.h"

enum {
    LINK_FRAME_LIMIT = 65 << 20, /* largest frame: the largest envelope (IMAGE_ENVELOPE_LIMIT) and what goes with it */
    LINK_PAYLOAD_INLINE = 64 << 10, /* content above this travels through a socket of its own */
    LINK_OUT_LIMIT = 1 << 20,
    LINK_UNREAD_LIMIT = 256 << 20,
    LINK_IN_LIMIT = 256 << 20,
    LINK_WINDOW = 2048, /* calls outstanding by link_call() */
    LINK_MAX_FDS = 4,   /* descriptors with one frame */
};

struct link;

/* Roles: bits of the programs, for msg_type.senders; names and bits are set once at start-up (lib/mail/messages.h). */
struct link_role {
    const char *program;
    uint32_t bit;
};

/* All message types and roles that this process knows: kept, not copied, in any order. */
struct link_protocol {
    const struct msg_type *const *types;
    unsigned type_count;
    const struct link_role *roles;
    unsigned role_count;
};

/* Before the first link. program: our own name, as in the roles. trusted_uid: besides root, who may
 * be at the other end: mail_owner, or ourselves where we are an ordinary user. */
void link_init(const struct link_protocol *, const char *program, uid_t trusted_uid);

/* What a handler gets, and what link_call() returns. Lives in the arena of the call. Descriptors belong to the
 * receiver, who closes them (unused ones too; see link_close_fds). */
struct link_message {
    const struct msg_type *type;
    void *message;
    struct slice payload;
    int fds[LINK_MAX_FDS];
    unsigned fd_count;
};
void link_close_fds(struct link_message *);

/* A request being served. */
struct link_request;

/* Handlers of a server (or of a client, for what the server sends unasked). task: run as a task of its own, which may
 * wait; else called in the loop as the frame is read, and must not wait. in and its memory stay until the request is
 * answered, or for one-way messages until the handler returns. A task handler that returns without answering a request
 * drops the link (our bug). */
struct link_handler {
    const struct msg_type *type;
    bool task;
    void (*fn)(struct link_request *, struct link_message *in, void *ctx);
};

/* Server: takes over the accepted descriptor. closed(ctx, link) is called once when it has ended (may be NULL), after
 * the last task handler has returned, but perhaps before requests that a handler in the loop has put aside are
 * answered. Returns NULL and closes the descriptor if the peer is not allowed. */
struct link *link_accept(int fd, const struct link_handler *, unsigned handler_count, void *ctx,
                         void (*closed)(void *ctx, struct link *));

/* The same for a socket that foreign programs poke too (public/qmgr, public/pickup): bytes that are no HELLO but start
 * with a capital letter are given to trigger(ctx, bytes, len), whoever wrote them (the socket's directory says who may),
 * and the connection ends. */
struct link *link_accept_public(int fd, const struct link_handler *, unsigned handler_count, void *ctx,
                                void (*closed)(void *ctx, struct link *),
                                void (*trigger)(void *ctx, const char *bytes, size_t len));

struct arena *link_request_arena(struct link_request *);
struct link *link_request_link(struct link_request *);
bool link_request_is_oneway(const struct link_request *);
/* Answers and ends the request: its memory goes, but in the request's own handler only when that returns. Never waits; if the link has gone, only the memory is given back. Descriptors are duplicated before it returns. */
void link_reply(struct link_request *, const struct msg_type *, const void *message, struct slice payload,
                const int *fds, unsigned fd_count);

/* Client: a link to the service at path (kept as a copy), connected at the first use and again after it broke.
 * handlers may be NULL. closed(ctx, link) is called each time that the connection ends, after its calls have failed, or is left
 * to a server that retires; it may call link_free(). */
struct link *link_connect(const char *path, const struct link_handler *, unsigned handler_count, void *ctx,
                          void (*closed)(void *ctx, struct link *));
void link_free(struct link **); /* outstanding calls fail */
const char *link_peer_program(const struct link *);
pid_t link_peer_pid(const struct link *); /* 0: not connected */
bool link_is_connected(const struct link *);

/* Sends a request and waits for its answer, of type `want` (another type: ERR_SYNTAX and the link ends).
 * -1: ERR_CLOSED, ERR_TIMEOUT, ERR_CANCELLED: whether the other side did it is not known. Cancelled calls are
 * forgotten when their answer comes. payload and message are copied. */
int may_wait link_call(struct link *, struct arena *, const struct msg_type *, const void *message,
                       struct slice payload, const int *fds, unsigned fd_count, const struct msg_type *want,
                       struct link_message *reply, usec_t deadline, struct err *) MUST_USE;

/* The same for a payload that nobody needs any more once it is copied: it is released before the wait for the answer
 * (and also when the call fails), so that thousands who wait hold nothing. */
int may_wait link_call_giving(struct link *, struct arena *, const struct msg_type *, const void *message,
                              struct buf *payload, const struct msg_type *want, struct link_message *reply,
                              usec_t deadline, struct err *) MUST_USE;

/* Sends without waiting for an answer; on a link that is not connected (and does not connect at once, without waiting) it fails.
 * Never waits: what is over LINK_OUT_LIMIT is taken all the same, link_is_full() tells. */
int link_send(struct link *, const struct msg_type *, const void *message, struct slice payload, const int *fds,
              unsigned fd_count, struct err *) MUST_USE;
bool link_is_full(const struct link *);

/* Sends a request; done(ctx, reply, err) is called in the loop with the answer (reply NULL: it failed, err says why).
 * For those who have thousands outstanding (qmgr): no task for each. reply's memory goes when done returns. */
/* err's text tells why when it fails at once (-1): then done is not called. */
int link_call_async(struct link *, const struct msg_type *, const void *message, struct slice payload, const int *fds,
                    unsigned fd_count, const struct msg_type *want,
                    void (*done)(void *ctx, struct link_message *reply, const struct err *), void *done_ctx,
                    struct err *) MUST_USE;

/* Ends service in good order: tells the clients of all server links (and of those that come yet) that no new calls
 * should be made here; each finishes what is outstanding, closes, and connects anew at its next use (to a successor on
 * the same socket), which need not wait for that. */
void link_retire_servers(void);
/* The same, and waits until the last of them has gone. -1: cancelled, or ERR_TIMEOUT: some are left. */
int may_wait link_drain_servers(usec_t deadline, struct err *) MUST_USE;
unsigned link_server_count(void);

/* Gives back the buffers that are empty, for when the process has been idle for a while. */
void link_trim(void);

/* How many calls are waiting for an answer. */
unsigned link_outstanding(const struct link *);

#endif
