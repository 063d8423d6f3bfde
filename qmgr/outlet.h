/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/outlet.h: a service that qmgr gives messages to (delivery agents, bounce): the links to its processes, and which
 * segments each has been told of. */
#ifndef QMGR_OUTLET_H
#define QMGR_OUTLET_H

#include "lib/base/err.h"
#include "lib/run/link.h"
#include "qmgr/message.h"
#include "qmgr/segment.h"

struct outlet;

/* For "private/smtp"; made at the first use, kept for good. */
struct outlet *outlet_find(const char *service);

/* A call, over the link with the least outstanding. Passes what the other side needs for reading the message: the
 * segment's descriptor ahead of the first request that names it, or the open queue file (file_fd, stays the
 * caller's; -1: in a segment); and the envelope, if that saves it much reading (message->hint). -1: the service can't be reached; done is not called. */
int outlet_call(struct outlet *, const struct message *, int file_fd, const struct msg_type *, const void *body,
                const struct msg_type *want, void (*done)(void *ctx, struct link_message *, const struct err *),
                void *ctx, struct err *) MUST_USE;

/* Tells all that this segment will not be named again. */
void outlet_forget_segment(const struct segment *);

#endif
