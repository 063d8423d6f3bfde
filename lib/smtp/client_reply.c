/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/smtp/client_reply.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/text.h"

/* The code of a line, and does another line follow? 0: it is no line of a reply. */
static int
parse_code(struct slice line, bool *more)
{
    if (line.len < 3 || line.ptr[0] < '2' || line.ptr[0] > '5' || !text_is_digit(line.ptr[1]) ||
        !text_is_digit(line.ptr[2]))
        return 0;
    if (line.len > 3 && line.ptr[3] != ' ' && line.ptr[3] != '-')
        return 0;
    *more = line.len > 3 && line.ptr[3] == '-';
    return (line.ptr[0] - '0') * 100 + (line.ptr[1] - '0') * 10 + (line.ptr[2] - '0');
}

static size_t
digits_at(struct slice text, size_t at)
{
    size_t n = 0;

    while (at + n < text.len && text_is_digit(text.ptr[at + n]))
        n++;
    return n;
}

/* The enhanced status code (RFC 2034) at the start of a line's text; false if there is none of that class. */
static bool
parse_dsn(struct slice line, char class, char *dsn, size_t size)
{
    struct slice text = slice_make(line.ptr + 4, line.len - 4);
    size_t subject, detail;

    if (text.len < 5 || text.ptr[0] != class || text.ptr[1] != '.')
        return false;
    subject = digits_at(text, 2);
    if (subject < 1 || subject > 3 || 2 + subject >= text.len || text.ptr[2 + subject] != '.')
        return false;
    detail = digits_at(text, 3 + subject);
    if (detail < 1 || detail > 3)
        return false;
    size_t len = 3 + subject + detail;
    if (len < text.len && text.ptr[len] != ' ')
        return false;
    snprintf(dsn, size, "%.*s", (int)len, text.ptr);
    return true;
}

static const char *
keep_only_line(struct arena *arena, struct slice line)
{
    char *text = arena_strndup(arena, line.ptr, line.len);

    text_printable(text, line.len, '?', false);
    return text;
}

/* Adds a line behind the others, as far as there is room. */
static void
keep_line(struct client_reply *reply, struct arena *arena, struct slice line)
{
    if (reply->cap == 0) {
        reply->cap = CLIENT_REPLY_TEXT;
        reply->text = arena_alloc(arena, CLIENT_REPLY_TEXT + 1);
    }
    char *to = (char *)(uintptr_t)reply->text + reply->len;
    size_t room = reply->cap - reply->len, separator = reply->len > 0;
    if (room <= separator)
        return;
    size_t take = line.len < room - separator ? line.len : room - separator;
    if (separator)
        *to++ = '\n';
    memcpy(to, line.ptr, take);
    text_printable(to, take, '?', false);
    reply->len += separator + take;
}

int
client_reply_line(struct client_reply *reply, struct arena *arena, struct slice line, struct err *err)
{
    bool more = false;
    int code = parse_code(line, &more);

    if (code == 0)
        return err_set(err, ERR_SYNTAX, "malformed reply \"%.*s\"", (int)(line.len < 100 ? line.len : 100),
                       line.len ? line.ptr : "");
    if (++reply->lines > CLIENT_REPLY_LINES)
        return err_set(err, ERR_SYNTAX, "reply of more than %d lines", CLIENT_REPLY_LINES);
    if (reply->lines == 1 || reply->dsn[0] != line.ptr[0])
        snprintf(reply->dsn, sizeof(reply->dsn), "%c.0.0", line.ptr[0]);
    if (line.len > 4 && strcmp(reply->dsn + 1, ".0.0") == 0)
        parse_dsn(line, line.ptr[0], reply->dsn, sizeof(reply->dsn));
    reply->code = code;
    if (!more && reply->lines == 1)
        reply->text = keep_only_line(arena, line);
    else
        keep_line(reply, arena, line);
    return !more;
}

/* The rest of a line that was too long. */
static int may_wait
skip_rest(struct stream *stream, struct err *err)
{
    enum stream_line_end ending;
    struct slice rest;
    unsigned pieces = 0;

    do {
        if (stream_read_line(stream, CLIENT_REPLY_LINE, &rest, &ending, err) < 0)
            return -1;
        if (++pieces > CLIENT_REPLY_LINES)
            return err_set(err, ERR_SYNTAX, "reply without an end of line");
    } while (ending == STREAM_LINE_CUT);
    return 0;
}

static int may_wait
filter_line(const struct maps *filter, struct arena *arena, struct slice *line, struct err *err)
{
    const char *value;

    if (slice_has_byte(*line, '\0'))
        return 0;
    *line = arena_slice(arena, *line); /* while a table is asked, the stream's buffer is nobody's */
    if (maps_find(filter, arena, *line, &value, err) < 0)
        return -1;
    if (value)
        *line = slice_from(value);
    return 0;
}

int may_wait
client_reply_read(struct client_reply *reply, struct arena *arena, struct stream *stream, const struct maps *filter,
                  struct err *err)
{
    *reply = (struct client_reply){.text = ""};
    for (;;) {
        enum stream_line_end ending;
        struct slice line;
        if (stream_read_line(stream, CLIENT_REPLY_LINE, &line, &ending, err) < 0)
            return -1;
        if (filter && filter_line(filter, arena, &line, err) < 0)
            return -1;
        int complete = client_reply_line(reply, arena, line, err);
        if (complete < 0)
            return -1;
        if (ending == STREAM_LINE_CUT && skip_rest(stream, err) < 0)
            return -1;
        if (complete)
            return 0;
    }
}

const char *
client_reply_joined(const struct client_reply *reply, struct arena *arena)
{
    if (!strchr(reply->text, '\n'))
        return reply->text;
    char *text = arena_strdup(arena, reply->text);
    for (char *at = text; (at = strchr(at, '\n')); at++)
        *at = ' ';
    return text;
}

bool
client_reply_next_line(const char **rest, struct slice *line)
{
    const char *start = *rest;

    if (!*start)
        return false;
    const char *end = strchr(start, '\n');
    size_t len = end ? (size_t)(end - start) : strlen(start);
    size_t skip = len < 4 ? len : 4;
    *rest = end ? end + 1 : start + len;
    *line = slice_make(start + skip, len - skip);
    return true;
}
