/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/mbox_sum.h"

#include "lib/store/mbox_parse.h"

/* FNV-1a */
static void
count(struct mbox_sum *s, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        s->sum = (s->sum ^ (unsigned char)bytes[i] ^ 0x100) * UINT64_C(0x100000001b3);
}

static void
decide(struct mbox_sum *s, bool is_own)
{
    if (!is_own)
        count(s, s->start, s->held);
    s->is_own = is_own;
    s->in_line = s->start[s->held - 1] != '\n';
    s->held = 0;
}

/* In ours, lines of a body that begin with "From " are quoted. */
static void
look_in_body(struct mbox_sum *s)
{
    static const char sign[] = "From ";
    if (s->start[s->held - 1] != sign[s->held - 1]) {
        decide(s, false);
    } else if (s->held == sizeof(sign) - 1) {
        decide(s, false);
        s->in_header = true;
    }
}

static void
look_in_header(struct mbox_sum *s)
{
    char last = s->start[s->held - 1];
    if (s->held == 1 && (last == ' ' || last == '\t')) {
        decide(s, s->is_own);
    } else if (last == '\n') {
        if (s->held == 1 || (s->held == 2 && s->start[0] == '\r'))
            s->in_header = false;
        decide(s, false);
    } else if (last == ':' || s->held == MBOX_SUM_HELD) {
        decide(s, mbox_field_kind(slice_make(s->start, s->held)) == MBOX_OWN);
    }
}

void
mbox_sum_add(struct mbox_sum *s, struct slice next)
{
    for (size_t i = 0; i < next.len; i++) {
        if (s->in_line) {
            if (!s->is_own)
                count(s, next.ptr + i, 1);
            s->in_line = next.ptr[i] != '\n';
            continue;
        }
        s->start[s->held++] = next.ptr[i];
        if (s->in_header)
            look_in_header(s);
        else
            look_in_body(s);
    }
}

uint64_t
mbox_sum_end(struct mbox_sum *s)
{
    if (s->held > 0)
        decide(s, false);
    return s->sum;
}
