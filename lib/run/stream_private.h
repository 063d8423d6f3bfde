/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/stream_private.h: what stream.c and stream_tls.c share.
 *
 * Clear text is read from the descriptor straight into `in`, and `out` is written straight to it. With TLS the layer
 * reads the descriptor itself, through stream_raw_read(), and what it has to send goes into `wire`. stream.c reaches
 * it through a table, so that programs that never call stream_start_tls() link no TLS library. */
#ifndef LIB_RUN_STREAM_PRIVATE_H
#define LIB_RUN_STREAM_PRIVATE_H

#include <sys/types.h>

#include "lib/base/buf.h"
#include "lib/run/stream.h"
#include "lib/run/task.h"

enum stream_io { STREAM_IO_DONE, STREAM_IO_WANT_INPUT, STREAM_IO_END, STREAM_IO_FAILED };

struct stream_layer {
    bool is_tls;
    /* Up to size bytes of clear text; *n counts. FAILED fills *err. */
    enum stream_io (*read)(struct stream *, void *bytes, size_t size, size_t *n, struct err *);
    /* Turns all of bytes into wire form. */
    int (*write)(struct stream *, const void *bytes, size_t n, struct err *);
    bool (*has_pending)(const struct stream *);
    /* A polite goodbye into wire. */
    void (*shutdown)(struct stream *);
    void (*release)(struct stream *);
};

struct stream {
    unsigned magic;
    bool cancelled;
    bool duplex;         /* one task reads, another writes */
    bool bulk;           /* large input buffers, if there are any */
    bool may_have_input; /* the descriptor: false after a read that emptied it, until the next edge */
    bool ended;          /* the descriptor gave its end */
    unsigned rounds;     /* reads and writes since it last waited */
    struct task_fd tfd;
    usec_t deadline;
    char *in; /* in_size bytes; NULL while there is no input */
    size_t in_size, in_start, in_len;
    struct buf out, wire;
    struct err *error;                /* the first, which all later calls give */
    const struct stream_layer *layer; /* NULL: clear text */
    void *layer_state;
};

/* Like read(): -1 with EAGAIN, without a system call, when the descriptor is known to be empty. */
ssize_t stream_raw_read(struct stream *, void *bytes, size_t size);

/* Makes the error stick, and gives it to err. Returns -1. */
int stream_fail(struct stream *, const struct err *why, struct err *err);

/* Fails if the stream already has. */
int stream_usable(struct stream *, struct err *) MUST_USE;

/* Waits for input. */
int may_wait stream_wait_input(struct stream *, struct err *) MUST_USE;

/* Writes wire (with a layer) or out (without) until it is empty. */
int may_wait stream_send_all(struct stream *, struct buf *, struct err *) MUST_USE;

/* Throws away what is buffered; and what is in the socket: -1 if there is no end of it. */
void stream_drop_buffered(struct stream *);
int stream_drop_socket(struct stream *, struct err *) MUST_USE;

#endif
