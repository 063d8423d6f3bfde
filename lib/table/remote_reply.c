/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/remote_reply.h"

#include <string.h>

#include "lib/base/text.h"

static int
hex_digit(char c)
{
    if (text_is_digit(c))
        return c - '0';
    c = text_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* NULL: malformed, or with a NUL. */
static const char *
tcp_decode(struct arena *arena, struct slice text)
{
    char *out = arena_alloc(arena, text.len + 1), *end = out;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '%') {
            int high = i + 2 < text.len ? hex_digit(text.ptr[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text.ptr[i + 2]) : -1;

            if (low < 0)
                return NULL;
            *end++ = (char)(high * 16 + low);
            i += 2;
        } else {
            *end++ = text.ptr[i];
        }
        if (end[-1] == '\0')
            return NULL;
    }
    return out;
}

void
tcp_encode(struct slice text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];

        if (byte <= 32 || byte >= 127 || byte == '%')
            buf_printf(out, "%%%02X", byte);
        else
            buf_append_byte(out, text.ptr[i]);
    }
}

int
tcp_reply_read(struct arena *arena, struct slice line, const char **value, struct err *err)
{
    struct slice text;

    *value = NULL;
    if (line.len < 4 || !text_is_space(line.ptr[3]))
        return err_set(err, ERR_SYNTAX, "malformed reply: %.*s", (int)(line.len < 100 ? line.len : 100), line.ptr);
    text = slice_trim(slice_make(line.ptr + 4, line.len - 4));
    if (memcmp(line.ptr, "500", 3) == 0)
        return 0;
    if (memcmp(line.ptr, "400", 3) == 0)
        return err_set(err, ERR_TEMP, "the server says: %.*s", (int)(text.len < 200 ? text.len : 200), text.ptr);
    if (memcmp(line.ptr, "200", 3) != 0)
        return err_set(err, ERR_SYNTAX, "unknown status in a reply: %.3s", line.ptr);
    *value = tcp_decode(arena, text);
    return *value ? 0 : err_set(err, ERR_SYNTAX, "malformed value in a reply");
}

int
socketmap_reply_read(struct arena *arena, struct slice text, const char **value, struct err *err)
{
    static const char *const failures[] = {"TEMP", "TIMEOUT", "PERM"};
    struct slice rest = text, status;

    *value = NULL;
    if (!slice_cut(&rest, ' ', &status))
        return err_set(err, ERR_SYNTAX, "empty reply");
    if (slice_equal_text(status, "NOTFOUND"))
        return 0;
    if (slice_equal_text(status, "OK") && status.len < text.len) {
        if (rest.len > 0 && memchr(rest.ptr, '\0', rest.len))
            return err_set(err, ERR_SYNTAX, "a value with a NUL in it");
        *value = arena_strndup(arena, rest.len ? rest.ptr : "", rest.len);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(failures); i++)
        if (slice_equal_text(status, failures[i]))
            return err_set(err, ERR_TEMP, "the server says: %s %.*s", failures[i],
                           (int)(rest.len < 200 ? rest.len : 200), rest.len ? rest.ptr : "");
    return err_set(err, ERR_SYNTAX, "unknown status in a reply: %.*s", (int)(status.len < 40 ? status.len : 40),
                   status.ptr);
}

int
netstring_head_read(struct slice bytes, size_t limit, size_t *len, size_t *head, struct err *err)
{
    size_t n = 0;
    unsigned long long number;

    while (n < bytes.len && text_is_digit(bytes.ptr[n]))
        n++;
    if (n == bytes.len && n < NETSTRING_HEAD_LIMIT)
        return 0;
    if (n == 0 || n >= NETSTRING_HEAD_LIMIT || bytes.ptr[n] != ':' ||
        slice_to_u64(slice_make(bytes.ptr, n), limit, &number) < 0)
        return err_set(err, ERR_SYNTAX, "malformed netstring, or one of more than %zu bytes", limit);
    *len = (size_t)number;
    *head = n + 1;
    return 1;
}

int
memcache_value_read(struct slice line, struct slice key, size_t limit, bool *found, size_t *len, struct err *err)
{
    struct slice rest = line, words[4];
    unsigned long long number;

    *found = false;
    if (slice_equal_text(line, "END"))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (!slice_cut(&rest, ' ', &words[i]))
            return err_set(err, ERR_SYNTAX, "unexpected reply: %.*s", (int)(line.len < 100 ? line.len : 100), line.ptr);
    if (!slice_equal_text(words[0], "VALUE") || !slice_equal(words[1], key))
        return err_set(err, ERR_SYNTAX, "unexpected reply: %.*s", (int)(line.len < 100 ? line.len : 100), line.ptr);
    if (slice_to_u64(words[3], limit, &number) < 0)
        return err_set(err, ERR_SYNTAX, "malformed length, or a value of more than %zu bytes", limit);
    *len = (size_t)number;
    *found = true;
    return 0;
}

int
redis_value_read(struct slice line, size_t limit, bool *found, size_t *len, struct err *err)
{
    unsigned long long number;

    *found = false;
    if (slice_equal_text(line, "$-1") || slice_equal_text(line, "_"))
        return 0;
    if (line.len > 0 && line.ptr[0] == '-')
        return err_set(err, ERR_TEMP, "the server says: %.*s", (int)(line.len < 200 ? line.len : 200), line.ptr);
    if (line.len < 2 || line.ptr[0] != '$' || slice_to_u64(slice_make(line.ptr + 1, line.len - 1), limit, &number) < 0)
        return err_set(err, ERR_SYNTAX, "unexpected reply, or a value of more than %zu bytes", limit);
    *len = (size_t)number;
    *found = true;
    return 0;
}
