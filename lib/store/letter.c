/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/letter.h"

#include <string.h>

static const char from_word[] = "From ";
enum { FROM_LENGTH = sizeof from_word - 1 };

void
letter_from_line(const struct letter *letter, struct buf *out)
{
    char date[40];
    struct tm tm;

    localtime_r(&letter->arrival, &tm);
    strftime(date, sizeof date, "%a %b %e %H:%M:%S %Y", &tm);
    buf_printf(out, "From %s  %s\n", *letter->sender ? letter->sender : "MAILER-DAEMON", date);
}

void
letter_begin(struct letter_reader *r, struct letter *letter, unsigned flags)
{
    r->letter = letter;
    r->flags = flags;
    r->begun = r->ended = r->after_dot = false;
    r->state = (struct wire_state){0};
    r->wire = slice_make(NULL, 0);
    buf_clear(&r->start);
    r->bytes = r->wire_bytes = 0;
}

void
letter_end(struct letter_reader *r)
{
    buf_release(&r->start);
}

/* The line is no "From " line so far: what was kept of it goes out. */
static void
enter_line(struct letter_reader *r, struct buf *out)
{
    buf_append(out, r->start.ptr, r->start.len);
    buf_clear(&r->start);
    r->state.in_line = true;
    r->after_dot = false;
}

/* Looks at the byte that a line begins with; false: it is not taken. */
static bool
line_start(void *ctx, char byte, struct buf *out)
{
    struct letter_reader *r = ctx;

    if (byte == '.' && !r->after_dot && r->start.len == 0) {
        r->after_dot = true;
        return true;
    }
    if (!(r->flags & LETTER_QUOTE_FROM) || byte != from_word[r->start.len]) {
        enter_line(r, out);
        return false;
    }
    buf_append_byte(&r->start, byte);
    if (r->start.len == FROM_LENGTH) {
        buf_append_byte(out, '>');
        enter_line(r, out);
    }
    return true;
}

static void
finish(struct letter_reader *r, struct buf *out)
{
    if (r->state.after_cr)
        buf_append_byte(out, '\r');
    if (r->state.in_line || r->start.len || r->after_dot || r->state.after_cr) {
        enter_line(r, out);
        buf_append_byte(out, '\n');
    }
    if (r->flags & LETTER_BLANK_END)
        buf_append_byte(out, '\n');
    r->ended = true;
}

static void
begin(struct letter_reader *r, struct buf *out)
{
    if (r->flags & LETTER_FROM_LINE)
        letter_from_line(r->letter, out);
    buf_append_slice(out, r->letter->head);
    r->begun = true;
}

static void
count(struct letter_reader *r, const char *at, size_t len)
{
    const char *end = at + len;

    r->bytes += len;
    r->wire_bytes += len;
    while (at < end && (at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        r->wire_bytes++;
        at++;
    }
}

int
letter_read(struct letter_reader *r, size_t want, struct buf *out, bool *done, struct store_fault *fault)
{
    size_t had = out->len;
    struct err err;

    if (!r->begun)
        begin(r, out);
    while (!r->ended && out->len - had < want) {
        if (r->wire.len == 0) {
            if (r->letter->next(r->letter->ctx, &r->wire, &err) < 0)
                return fault_set(fault, "4.3.0", "error reading message: %s", err.text);
            if (r->wire.len == 0) {
                finish(r, out);
                break;
            }
        }
        wire_decode_some(&r->state, &r->wire, had + want, line_start, r, out);
    }
    if (out->len > had)
        count(r, out->ptr + had, out->len - had);
    *done = r->ended;
    return 0;
}
