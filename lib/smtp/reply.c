/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/smtp/reply.h"

#include <string.h>

#include "lib/base/check.h"
#include "lib/base/text.h"

static bool
is_enhanced(const char *text, int code)
{
    unsigned dots = 0;

    if (text[0] != '0' + code / 100 || text[1] != '.')
        return false;
    for (const char *p = text; *p; p++) {
        if (*p == '.' && text_is_digit(p[1]))
            dots++;
        else if (!text_is_digit(*p))
            return false;
    }
    return dots == 2;
}

struct smtp_reply
smtp_reply(struct arena *arena, int code, const char *enhanced, const char *fmt, ...)
{
    va_list args;

    check(code >= 200 && code <= 599);
    check(!enhanced || is_enhanced(enhanced, code));
    va_start(args, fmt);
    struct smtp_reply reply = {.code = code, .enhanced = enhanced, .text = arena_vprintf(arena, fmt, args)};
    va_end(args);
    return reply;
}

struct smtp_reply
smtp_reply_close(struct arena *arena, int code, const char *enhanced, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    struct smtp_reply reply = smtp_reply(arena, code, enhanced, "%s", arena_vprintf(arena, fmt, args));
    va_end(args);
    reply.close = true;
    return reply;
}

struct smtp_reply
smtp_reply_lenient(struct arena *arena, int code, const char *enhanced, const char *text)
{
    struct smtp_reply reply = {.code = code, .text = arena_strdup(arena, text)};

    if (code < 200 || code > 599)
        reply.code = 451;
    if (enhanced && is_enhanced(enhanced, reply.code))
        reply.enhanced = arena_strdup(arena, enhanced);
    else if (reply.code / 100 != 3)
        reply.enhanced = reply.code < 300 ? "2.0.0" : reply.code < 500 ? "4.3.0" : "5.0.0";
    return reply;
}

bool
smtp_reply_is_error(struct smtp_reply reply)
{
    return reply.code >= 400;
}

void
smtp_printable(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] < 32 || text[i] > 126)
            text[i] = '?';
}

/* RFC 2034 section 3: the enhanced code stands on every line. */
static void
encode_line(struct smtp_reply reply, const char *text, size_t len, bool last, struct buf *out)
{
    buf_printf(out, "%d%c", reply.code, last ? ' ' : '-');
    if (reply.enhanced)
        buf_printf(out, "%s ", reply.enhanced);
    size_t start = out->len;
    buf_append(out, text, len);
    smtp_printable(out->ptr + start, len);
    buf_append(out, "\r\n", 2);
}

void
smtp_reply_encode(struct smtp_reply reply, struct buf *out)
{
    const char *line = reply.text, *end;

    while ((end = strchr(line, '\n')) != NULL) {
        encode_line(reply, line, (size_t)(end - line), false, out);
        line = end + 1;
    }
    encode_line(reply, line, strlen(line), true, out);
}

const char *
smtp_reply_line(struct arena *arena, struct smtp_reply reply)
{
    char *line = arena_printf(arena, "%d %s%s%s", reply.code, reply.enhanced ? reply.enhanced : "",
                              reply.enhanced ? " " : "", reply.text);

    for (char *p = line; *p; p++)
        if (*p == '\n')
            *p = ' ';
    return line;
}
