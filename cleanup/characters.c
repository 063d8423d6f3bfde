/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/characters.h"

#include <string.h>

#include "cleanup/check.h"
#include "cleanup/server.h"
#include "lib/base/buf.h"

static struct {
    bool any_stripped, any_rejected;
    bool stripped[256], rejected[256];
} sets;

/* Behind a backslash: the byte, and how many characters stand for it; 0: none. */
static size_t
escaped(const char *text, unsigned char *byte)
{
    static const char letters[] = "abfnrtv\\", bytes[] = "\a\b\f\n\r\t\v\\";
    const char *letter = *text ? strchr(letters, *text) : NULL;
    unsigned value = 0;
    size_t len = 0;

    if (letter) {
        *byte = (unsigned char)bytes[letter - letters];
        return 1;
    }
    while (len < 3 && text[len] >= '0' && text[len] <= '7')
        value = value * 8 + (unsigned)(text[len++] - '0');
    *byte = (unsigned char)value;
    return value < 256 ? len : 0;
}

static int
read_set(const char *parameter, const char *text, bool set[256], bool *any, struct err *err)
{
    for (const char *at = text; *at; at++) {
        unsigned char byte = (unsigned char)*at;
        if (*at == '\\') {
            size_t len = escaped(at + 1, &byte);
            if (len == 0)
                return err_set(err, ERR_SYNTAX, "parameter %s: bad escape sequence: \"%s\"", parameter, at);
            at += len;
        }
        set[byte] = byte != '\r' && byte != '\n';
        *any = true;
    }
    return 0;
}

int
characters_init(struct err *err)
{
    const struct cleanup_settings *s = &server.settings;

    if (read_set("message_strip_characters", s->message_strip_characters, sets.stripped, &sets.any_stripped, err) < 0)
        return -1;
    return read_set("message_reject_characters", s->message_reject_characters, sets.rejected, &sets.any_rejected, err);
}

/* Dots at the beginning of lines are stuffed anew: what stood before one may be gone. */
static void
strip(struct message *m, struct slice *piece, struct buf *copy)
{
    buf_clear(copy);
    for (size_t i = 0; i < piece->len; i++) {
        char c = piece->ptr[i];
        bool begins = !m->in_wire_line, is_end = c == '\r' || c == '\n';
        m->in_wire_line = c != '\n';
        if (c == '\n')
            m->in_text_line = false;
        if ((begins && c == '.') || sets.stripped[(unsigned char)c])
            continue;
        if (c == '.' && !m->in_text_line)
            buf_append_byte(copy, '.');
        buf_append_byte(copy, c);
        m->in_text_line = m->in_text_line || !is_end;
    }
    *piece = copy->len > 0 ? buf_slice(copy) : slice_make("", 0);
}

int
characters_filter(struct message *m, struct slice *piece, struct buf *copy)
{
    if (!checks_want(m))
        return 0;
    for (size_t i = 0; sets.any_rejected && i < piece->len; i++)
        if (sets.rejected[(unsigned char)piece->ptr[i]])
            return check_refuse_content(m, *piece, i, "disallowed character");
    if (sets.any_stripped)
        strip(m, piece, copy);
    return 0;
}
