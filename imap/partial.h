/* SPDX-License-Identifier: Apache-2.0 */
/* imap/partial.h: a part of a result, by place (RFC 9394): "1:10", or from the end, "-1:-10". */
#ifndef IMAP_PARTIAL_H
#define IMAP_PARTIAL_H

#include <stdbool.h>

#include "lib/base/buf.h"
#include "lib/imap/input.h"

struct partial {
    bool on, from_end;
    uint32_t first, last; /* first <= last; counted from the end with from_end */
};

int partial_take(struct imap_input *, struct partial *) MUST_USE;
/* As the client wrote it, in order. */
void partial_put(const struct partial *, struct buf *);

/* Of *count results: how many to skip; *count becomes how many follow. All, if not on. */
size_t partial_cut(const struct partial *, size_t *count);

#endif
