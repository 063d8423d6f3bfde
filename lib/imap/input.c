/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/imap/input.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/text.h"

enum { SET_RANGES = 100000 };

int
imap_fail(struct imap_input *in, const char *fmt, ...)
{
    char text[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return err_set(&in->err, ERR_SYNTAX, "%s", text);
}

/* ---- lines and literals ---- */

/* Reads a line into the arena; one that is longer than the command may be is read to its end and refused. */
static int
read_line(struct imap_input *in)
{
    enum stream_line_end ending = STREAM_LINE_CUT;
    struct slice line;
    char *text = NULL;
    size_t len = 0;
    bool too_long = false;

    while (ending == STREAM_LINE_CUT) {
        if (stream_read_line(in->stream, IMAP_LINE_LIMIT, &line, &ending, &in->err) < 0)
            return -1;
        in->used += line.len;
        too_long = too_long || in->used > in->limit;
        if (in->used > 16 * in->limit + (1 << 20))
            return err_set(&in->err, ERR_CLOSED, "a command without end");
        if (too_long)
            continue;
        char *more = arena_alloc(in->arena, len + line.len + 1);
        if (len > 0)
            memcpy(more, text, len);
        if (line.len > 0)
            memcpy(more + len, line.ptr, line.len);
        text = more;
        len += line.len;
    }
    in->rest = slice_make(text ? text : "", too_long ? 0 : len);
    if (too_long)
        return imap_fail(in, "command too long");
    if (memchr(in->rest.ptr, '\0', in->rest.len))
        return imap_fail(in, "NUL in a command");
    return 0;
}

/* "{n}", "{n+}", "~{n}" at the front of rest, and nothing behind it. */
static bool
literal_head(struct slice rest, uint64_t *size, bool *sync, bool *binary)
{
    unsigned long long n;
    *binary = rest.len > 0 && rest.ptr[0] == '~';
    if (*binary)
        rest = slice_make(rest.ptr + 1, rest.len - 1);
    if (rest.len < 3 || rest.ptr[0] != '{' || rest.ptr[rest.len - 1] != '}')
        return false;
    rest = slice_make(rest.ptr + 1, rest.len - 2);
    *sync = true;
    if (rest.ptr[rest.len - 1] == '+' || rest.ptr[rest.len - 1] == '-') {
        *sync = false;
        rest.len--;
    }
    if (slice_to_u64(rest, INT64_MAX, &n) < 0)
        return false;
    *size = n;
    return true;
}

static int
go_ahead(struct imap_input *in, bool sync)
{
    if (!sync)
        return 0;
    stream_write_text(in->stream, "+ OK\r\n");
    return 0;
}

int
imap_literal_begin(struct imap_input *in, uint64_t max, uint64_t *size, bool *binary)
{
    bool sync;
    if (!literal_head(in->rest, size, &sync, binary))
        return imap_fail(in, "a literal is expected");
    if (*size > max)
        return imap_fail(in, "literal too large");
    in->rest.len = 0;
    return go_ahead(in, sync);
}

int
imap_literal_size(const struct imap_input *in, uint64_t *size)
{
    bool sync, binary;
    return literal_head(in->rest, size, &sync, &binary) ? 0 : -1;
}

int
imap_literal_done(struct imap_input *in)
{
    return read_line(in);
}

static int
take_literal(struct imap_input *in, struct slice *value)
{
    uint64_t size;
    bool sync, binary;
    if (!literal_head(in->rest, &size, &sync, &binary))
        return imap_fail(in, "malformed literal");
    if (size > in->limit || in->used + size > in->limit)
        return imap_fail(in, "literal too large");
    in->used += size;
    in->rest.len = 0;
    char *bytes = arena_alloc(in->arena, size + 1);
    if (go_ahead(in, sync) < 0 || stream_read(in->stream, bytes, size, &in->err) < 0 || read_line(in) < 0)
        return -1;
    if (memchr(bytes, '\0', size))
        return imap_fail(in, "NUL in a literal");
    *value = slice_make(bytes, size);
    return 0;
}

/* What was announced without being asked comes, whether we want it or not. A large one ends the connection. */
void
imap_skip_rest(struct imap_input *in)
{
    char bytes[1024];
    struct err err;
    for (;;) {
        uint64_t size;
        bool sync, binary;
        const char *brace = NULL;
        for (size_t i = in->rest.len; i > 0 && !brace; i--)
            if (in->rest.ptr[i - 1] == '{')
                brace = in->rest.ptr + i - 1;
        if (!brace ||
            !literal_head(slice_make(brace, (size_t)(in->rest.ptr + in->rest.len - brace)), &size, &sync, &binary) ||
            sync)
            return;
        if (size > (1 << 30)) {
            stream_cancel(in->stream);
            return;
        }
        while (size > 0) {
            size_t part = size < sizeof(bytes) ? (size_t)size : sizeof(bytes);
            if (stream_read(in->stream, bytes, part, &err) < 0)
                return;
            size -= part;
        }
        if (read_line(in) < 0 && in->err.kind != ERR_SYNTAX)
            return;
    }
}

/* ---- characters ---- */

static bool
is_atom_char(char c)
{
    return (unsigned char)c > 32 && (unsigned char)c < 127 && !strchr("(){%*\"\\]", c);
}

bool
imap_at(const struct imap_input *in, char c)
{
    return in->rest.len > 0 && in->rest.ptr[0] == c;
}

bool
imap_at_end(const struct imap_input *in)
{
    return in->rest.len == 0;
}

static void
advance(struct imap_input *in, size_t n)
{
    in->rest = slice_make(in->rest.ptr + n, in->rest.len - n);
}

int
imap_take(struct imap_input *in, char c)
{
    if (!imap_at(in, c))
        return imap_fail(in, "\"%c\" is expected", c);
    advance(in, 1);
    return 0;
}

int
imap_space(struct imap_input *in)
{
    if (!imap_at(in, ' '))
        return imap_fail(in, imap_at_end(in) ? "missing argument" : "a blank is expected");
    while (imap_at(in, ' '))
        advance(in, 1);
    return 0;
}

int
imap_end(struct imap_input *in)
{
    while (imap_at(in, ' '))
        advance(in, 1);
    return imap_at_end(in) ? 0 : imap_fail(in, "unexpected arguments");
}

/* ---- words ---- */

static struct slice
span(const struct imap_input *in, bool (*accepts)(char))
{
    size_t len = 0;
    while (len < in->rest.len && accepts(in->rest.ptr[len]))
        len++;
    return slice_make(in->rest.ptr, len);
}

int
imap_atom(struct imap_input *in, const char **atom)
{
    struct slice word = span(in, is_atom_char);
    if (word.len == 0)
        return imap_fail(in, "an atom is expected");
    *atom = arena_strndup(in->arena, word.ptr, word.len);
    advance(in, word.len);
    return 0;
}

bool
imap_keyword(struct imap_input *in, const char *word)
{
    size_t len = strlen(word);
    if (in->rest.len < len || !slice_equal_text_fold(slice_make(in->rest.ptr, len), word))
        return false;
    if (in->rest.len > len && is_atom_char(word[len - 1]) && is_atom_char(in->rest.ptr[len]) &&
        in->rest.ptr[len] != '[' && in->rest.ptr[len] != '<')
        return false;
    advance(in, len);
    return true;
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

int
imap_number(struct imap_input *in, uint64_t max, uint64_t *number)
{
    struct slice digits = span(in, is_digit);
    unsigned long long n;
    if (digits.len == 0)
        return imap_fail(in, "a number is expected");
    if (slice_to_u64(digits, max, &n) < 0)
        return imap_fail(in, "the number is too large");
    *number = n;
    advance(in, digits.len);
    return 0;
}

int
imap_nz_number(struct imap_input *in, uint64_t max, uint64_t *number)
{
    if (imap_number(in, max, number) < 0)
        return -1;
    return *number ? 0 : imap_fail(in, "zero is not allowed");
}

static int
take_quoted(struct imap_input *in, struct slice *value)
{
    char *out = arena_alloc(in->arena, in->rest.len + 1);
    size_t len = 0, i = 1;
    for (; i < in->rest.len && in->rest.ptr[i] != '"'; i++) {
        if (in->rest.ptr[i] == '\\' && ++i >= in->rest.len)
            break;
        out[len++] = in->rest.ptr[i];
    }
    if (i >= in->rest.len)
        return imap_fail(in, "a quoted string does not end");
    *value = slice_make(out, len);
    advance(in, i + 1);
    return 0;
}

int
imap_string(struct imap_input *in, struct slice *value)
{
    if (imap_at(in, '"'))
        return take_quoted(in, value);
    if (imap_at(in, '{') || imap_at(in, '~'))
        return take_literal(in, value);
    return imap_fail(in, "a string is expected");
}

static bool
is_astring_char(char c)
{
    return is_atom_char(c) || c == ']' || (c & 0x80);
}

static bool
is_list_char(char c)
{
    return is_astring_char(c) || c == '%' || c == '*';
}

static int
word_or_string(struct imap_input *in, bool (*accepts)(char), struct slice *value)
{
    if (imap_at(in, '"') || imap_at(in, '{'))
        return imap_string(in, value);
    struct slice word = span(in, accepts);
    if (word.len == 0)
        return imap_fail(in, imap_at_end(in) ? "missing argument" : "a string is expected");
    *value = arena_slice(in->arena, word);
    advance(in, word.len);
    return 0;
}

int
imap_astring(struct imap_input *in, struct slice *value)
{
    return word_or_string(in, is_astring_char, value);
}

int
imap_list_mailbox(struct imap_input *in, struct slice *value)
{
    return word_or_string(in, is_list_char, value);
}

int
imap_nstring(struct imap_input *in, struct slice *value, bool *is_nil)
{
    *is_nil = imap_keyword(in, "NIL");
    *value = slice_make("", 0);
    return *is_nil ? 0 : imap_string(in, value);
}

int
imap_flag(struct imap_input *in, struct slice *flag)
{
    size_t len = imap_at(in, '\\') ? 1 : 0;
    while (len < in->rest.len && is_atom_char(in->rest.ptr[len]))
        len++;
    if (len == 0 || (len == 1 && in->rest.ptr[0] == '\\'))
        return imap_fail(in, "a flag is expected");
    *flag = slice_make(in->rest.ptr, len);
    advance(in, len);
    return 0;
}

/* ---- dates ---- */

static int64_t
days_from_civil(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = year / 400, y = year - era * 400;
    int64_t doy = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + (int64_t)day - 1;
    return era * 146097 + y * 365 + y / 4 - y / 100 + doy - 719468;
}

/* "1-Feb-1994" at the front. */
static int
take_date(struct imap_input *in, int64_t *day)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    uint64_t d, year;
    unsigned month = 0;
    while (imap_at(in, ' '))
        advance(in, 1);
    if (imap_nz_number(in, 31, &d) < 0 || imap_take(in, '-') < 0)
        return -1;
    for (unsigned i = 0; i < 12 && in->rest.len >= 3; i++)
        if (slice_equal_fold(slice_make(in->rest.ptr, 3), slice_make(months + 3 * i, 3)))
            month = i + 1;
    if (!month)
        return imap_fail(in, "a month is expected");
    advance(in, 3);
    if (imap_take(in, '-') < 0 || imap_number(in, 9999, &year) < 0)
        return -1;
    *day = days_from_civil((int64_t)year, month, (unsigned)d) * 86400;
    return 0;
}

int
imap_date(struct imap_input *in, int64_t *day)
{
    bool quoted = imap_at(in, '"');
    if (quoted)
        advance(in, 1);
    if (take_date(in, day) < 0)
        return -1;
    return quoted ? imap_take(in, '"') : 0;
}

int
imap_date_time(struct imap_input *in, int64_t *seconds)
{
    uint64_t hour, minute, second, zone;
    if (imap_take(in, '"') < 0 || take_date(in, seconds) < 0 || imap_space(in) < 0 || imap_number(in, 23, &hour) < 0 ||
        imap_take(in, ':') < 0 || imap_number(in, 59, &minute) < 0 || imap_take(in, ':') < 0 ||
        imap_number(in, 60, &second) < 0 || imap_space(in) < 0)
        return -1;
    bool west = imap_at(in, '-');
    if (!west && !imap_at(in, '+'))
        return imap_fail(in, "a time zone is expected");
    advance(in, 1);
    if (imap_number(in, 9999, &zone) < 0 || imap_take(in, '"') < 0)
        return -1;
    int64_t offset = (int64_t)(zone / 100 * 3600 + zone % 100 * 60);
    *seconds += (int64_t)(hour * 3600 + minute * 60 + second) + (west ? offset : -offset);
    return 0;
}

/* ---- sets ---- */

static int
set_number(struct imap_input *in, uint32_t *number)
{
    uint64_t n;
    if (imap_at(in, '*')) {
        advance(in, 1);
        *number = UINT32_MAX;
        return 0;
    }
    if (imap_nz_number(in, UINT32_MAX - 1, &n) < 0)
        return -1;
    *number = (uint32_t)n;
    return 0;
}

int
imap_set(struct imap_input *in, struct imap_set *set)
{
    size_t room = 0;
    *set = (struct imap_set){0};
    if (imap_at(in, '$')) {
        advance(in, 1);
        set->is_saved = true;
        return 0;
    }
    for (;;) {
        if (set->count == room) {
            struct imap_range *more = arena_array(in->arena, room ? 2 * room : 8, sizeof(*more));
            if (room > 0)
                memcpy(more, set->ranges, set->count * sizeof(*more));
            set->ranges = more;
            room = room ? 2 * room : 8;
        }
        if (set->count >= SET_RANGES)
            return imap_fail(in, "too many ranges in a set");
        struct imap_range *range = &set->ranges[set->count++];
        if (set_number(in, &range->from) < 0)
            return -1;
        range->to = range->from;
        if (imap_at(in, ':')) {
            advance(in, 1);
            if (set_number(in, &range->to) < 0)
                return -1;
        }
        if (!imap_at(in, ','))
            return 0;
        advance(in, 1);
    }
}

static int
compare_ranges(const void *a, const void *b)
{
    const struct imap_range *x = a, *y = b;
    return x->from < y->from ? -1 : x->from > y->from;
}

void
imap_set_resolve(struct imap_set *set, uint32_t max)
{
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++) {
        struct imap_range *r = &set->ranges[i];
        uint32_t a = r->from == UINT32_MAX ? max : r->from, b = r->to == UINT32_MAX ? max : r->to;
        r->from = a < b ? a : b;
        r->to = a < b ? b : a;
    }
    if (set->count > 0)
        qsort(set->ranges, set->count, sizeof(*set->ranges), compare_ranges);
    for (size_t i = 0; i < set->count; i++) {
        struct imap_range *last = kept ? &set->ranges[kept - 1] : NULL, r = set->ranges[i];
        if (last && (uint64_t)r.from <= (uint64_t)last->to + 1)
            last->to = r.to > last->to ? r.to : last->to;
        else
            set->ranges[kept++] = r;
    }
    set->count = kept;
}

bool
imap_set_has(const struct imap_set *set, uint32_t number)
{
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->ranges[middle].to < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < set->count && set->ranges[low].from <= number;
}

/* ---- the begin ---- */

static bool
is_tag_char(char c)
{
    return is_astring_char(c) && c != '+' && !(c & 0x80);
}

int
imap_command_begin(struct imap_input *in, const char **tag, const char **verb)
{
    in->used = 0;
    *tag = *verb = "";
    if (read_line(in) < 0)
        return -1;
    struct slice word = span(in, is_tag_char);
    if (word.len == 0 || word.len > IMAP_TAG_LIMIT)
        return imap_fail(in, "a tag is expected");
    *tag = arena_strndup(in->arena, word.ptr, word.len);
    advance(in, word.len);
    if (imap_space(in) < 0 || imap_atom(in, verb) < 0)
        return -1;
    for (char *at = (char *)(uintptr_t)*verb; *at; at++)
        *at = (char)(*at >= 'a' && *at <= 'z' ? *at - 32 : *at);
    return 0;
}
