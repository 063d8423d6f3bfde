/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/partial.h"

static int
take_one(struct imap_input *in, bool *negative, uint32_t *number)
{
    uint64_t n;
    *negative = imap_at(in, '-');
    if (*negative && imap_take(in, '-') < 0)
        return -1;
    if (imap_nz_number(in, UINT32_MAX, &n) < 0)
        return -1;
    *number = (uint32_t)n;
    return 0;
}

int
partial_take(struct imap_input *in, struct partial *p)
{
    bool negative;
    if (p->on)
        return imap_fail(in, "PARTIAL twice");
    if (take_one(in, &p->from_end, &p->first) < 0 || imap_take(in, ':') < 0 || take_one(in, &negative, &p->last) < 0)
        return -1;
    if (negative != p->from_end)
        return imap_fail(in, "a range from both ends");
    if (p->first > p->last) {
        uint32_t first = p->first;
        p->first = p->last;
        p->last = first;
    }
    p->on = true;
    return 0;
}

void
partial_put(const struct partial *p, struct buf *out)
{
    const char *sign = p->from_end ? "-" : "";
    buf_printf(out, "%s%u:%s%u", sign, p->first, sign, p->last);
}

size_t
partial_cut(const struct partial *p, size_t *count)
{
    size_t all = *count;
    if (!p->on)
        return 0;
    if (p->first > all) {
        *count = 0;
        return 0;
    }
    size_t last = p->last < all ? p->last : all;
    *count = last - p->first + 1;
    return p->from_end ? all - last : p->first - 1;
}
