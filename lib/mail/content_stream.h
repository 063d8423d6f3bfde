/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/content_stream.h: a content too large for a link's frame, through a socket of its own (one end is passed
 * with the envelope). Chunks: u32 length in host order, bytes; length 0 ends a complete content; an end of file before
 * that means that the sender gave up. */
#ifndef LIB_MAIL_CONTENT_STREAM_H
#define LIB_MAIL_CONTENT_STREAM_H

#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/run/stream.h"

/* A pair of connected sockets: [0] to keep, [1] to pass. */
int content_stream_pair(int fds[2], struct err *) MUST_USE;

/* Bytes that are few may go out with a later call. */
int may_wait content_stream_send(struct stream *, struct slice bytes, struct err *) MUST_USE;
int may_wait content_stream_finish(struct stream *, struct err *) MUST_USE;

/* A piece of at most the stream's buffer, valid until the next call; an empty slice at the complete end; ERR_CLOSED if
 * the sender gave up. *left is 0 at the first call, and kept between calls. */
int may_wait content_stream_receive(struct stream *, uint32_t *left, struct slice *bytes, struct err *) MUST_USE;

#endif
