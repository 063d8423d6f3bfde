/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/measure.h"

#include <string.h>

#include "lib/mail/messages.h"
#include "lib/mail/queue_record.h"

enum { RECORD_LINE_LIMIT = 2048 };

/* Is there a byte from 128 on? Eight at a time. */
static bool
has_8bit(struct slice s)
{
    uint64_t all = 0, word;
    size_t i = 0;

    for (; i + 8 <= s.len; i += 8) {
        memcpy(&word, s.ptr + i, 8);
        all |= word;
    }
    for (; i < s.len; i++)
        all |= (unsigned char)s.ptr[i];
    return (all & UINT64_C(0x8080808080808080)) != 0;
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
    m->record_length += records_of_line(length, m->in_body);
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
    if (has_8bit(wire))
        m->flags |= CONTENT_8BIT;
    if (memchr(wire.ptr, '\0', wire.len))
        m->flags |= CONTENT_NUL;
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
