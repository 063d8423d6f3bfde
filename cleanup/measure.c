/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/measure.h"

#include <string.h>

#include "lib/base/octets.h"
#include "lib/mail/messages.h"
#include "lib/mail/queue_record.h"

enum {
    RECORD_LINE_LIMIT = 2048,
    SHORT_LINE = 128, /* below it a record takes two bytes more than its line */
};

/* CONTENT_8BIT if there is a byte from 128 on, CONTENT_NUL if there is a NUL. */
static unsigned
look_at_bytes(struct slice s)
{
    const octets zero = {0};
    octets all = zero;
    octets_marks nul = {0};
    unsigned char rest = 0;
    bool has_nul = false;
    size_t i = 0;

    for (; i + OCTETS <= s.len; i += OCTETS) {
        octets bytes = octets_load(s.ptr + i);
        all |= bytes;
        nul |= bytes == zero;
    }
    for (; i < s.len; i++) {
        rest |= (unsigned char)s.ptr[i];
        has_nul = has_nul || s.ptr[i] == '\0';
    }
    return ((rest & 0x80) || octets_any((octets_marks)all < 0) ? CONTENT_8BIT : 0) |
           (has_nul || octets_any(nul) ? CONTENT_NUL : 0);
}

/* As queue_file_write() cuts lines. */
static uint64_t
records_of_line(uint64_t length, bool in_body)
{
    uint64_t size = 0;

    while (length > RECORD_LINE_LIMIT || (length == RECORD_LINE_LIMIT && in_body)) {
        size += queue_record_size(RECORD_LINE_LIMIT);
        length -= RECORD_LINE_LIMIT;
    }
    return size + queue_record_size(length);
}

static void
end_line(struct measure *m)
{
    uint64_t length = m->line - (m->last == '\r' && m->line > 0) - (m->stuffed && m->line > 0);

    if (length > m->longest_line)
        m->longest_line = length;
    if (length == 0 && !m->stuffed && !m->in_body) {
        m->in_body = true;
        m->flags |= CONTENT_HAS_HEADER_END;
    }
    m->record_length += length < SHORT_LINE ? length + 2 : records_of_line(length, m->in_body);
    m->line = 0;
    m->stuffed = false;
}

void
measure_add(struct measure *m, struct slice wire)
{
    struct slice rest = wire;

    if (wire.len == 0)
        return;
    m->wire_length += wire.len;
    m->flags |= look_at_bytes(wire);
    while (rest.len > 0) {
        const char *lf = memchr(rest.ptr, '\n', rest.len);
        size_t n = lf ? (size_t)(lf - rest.ptr) : rest.len;

        if (n > 0) {
            if (m->line == 0)
                m->stuffed = *rest.ptr == '.';
            m->line += n;
            m->last = rest.ptr[n - 1];
        }
        if (lf) {
            end_line(m);
            m->last = '\n';
            n++;
        }
        rest = slice_make(rest.ptr + n, rest.len - n);
    }
}

bool
measure_is_at_line_start(const struct measure *m)
{
    return m->wire_length == 0 || m->last == '\n';
}
