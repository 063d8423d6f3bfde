/* SPDX-License-Identifier: Apache-2.0 */
/* Values of header fields: encodings, charsets, addresses, dates. */
#include <stdio.h>
#include <string.h>
#include <unicode/ucnv.h>

#include "lib/base/compiler.h"
#include "lib/base/text.h"
#include "lib/mail/mime.h"

enum { ADDRESSES = 1000, WORD_LIMIT = 1000 };

/* ---- content encodings ---- */

static int
base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static void
decode_base64(struct slice body, struct buf *out)
{
    unsigned bits = 0, count = 0;
    for (size_t i = 0; i < body.len; i++) {
        int value = base64_value(body.ptr[i]);
        if (value < 0) {
            if (body.ptr[i] == '=')
                bits = count = 0;
            continue;
        }
        bits = (bits << 6 | (unsigned)value) & 0xffffff;
        if (++count == 1)
            continue;
        buf_append_byte(out, (char)(bits >> (6 - 2 * (count - 1))));
        if (count == 4)
            bits = count = 0;
    }
}

/* "=\n" and "=\r\n", with blanks before the end: joined lines. 0: it is none. */
static size_t
soft_break(struct slice body, size_t at)
{
    size_t i = at + 1;
    while (i < body.len && (body.ptr[i] == ' ' || body.ptr[i] == '\t'))
        i++;
    if (i < body.len && body.ptr[i] == '\r')
        i++;
    return i < body.len && body.ptr[i] == '\n' ? i + 1 - at : 0;
}

static void
decode_quoted(struct slice body, bool in_word, struct buf *out)
{
    for (size_t i = 0; i < body.len; i++) {
        char c = body.ptr[i];
        size_t skip;
        if (c == '=' && i + 2 < body.len && text_hex_digit(body.ptr[i + 1]) >= 0 &&
            text_hex_digit(body.ptr[i + 2]) >= 0) {
            buf_append_byte(out, (char)(text_hex_digit(body.ptr[i + 1]) << 4 | text_hex_digit(body.ptr[i + 2])));
            i += 2;
        } else if (c == '=' && !in_word && (skip = soft_break(body, i)) > 0) {
            i += skip - 1;
        } else {
            buf_append_byte(out, in_word && c == '_' ? ' ' : c);
        }
    }
}

void
mime_decode(struct slice body, struct slice encoding, struct buf *out)
{
    if (slice_equal_text_fold(encoding, "base64"))
        decode_base64(body, out);
    else if (slice_equal_text_fold(encoding, "quoted-printable"))
        decode_quoted(body, false, out);
    else
        buf_append_slice(out, body);
}

/* ---- charsets ---- */

/* By ICU, whose tables are in its library: a process in its sandbox can load none. */
bool
mime_to_utf8(struct slice text, struct slice charset, struct buf *out)
{
    char name[64];
    UErrorCode status = U_ZERO_ERROR;
    if (charset.len == 0 || charset.len >= sizeof(name) || slice_equal_text_fold(charset, "utf-8") ||
        slice_equal_text_fold(charset, "us-ascii")) {
        buf_append_slice(out, text);
        return charset.len < sizeof(name);
    }
    snprintf(name, sizeof(name), "%.*s", SLICE_ARG(charset));
    if (text.len == 0)
        return true;
    UConverter *from = ucnv_open(name, &status), *to = ucnv_open("UTF-8", &status);
    if (U_FAILURE(status) || text.len > INT32_MAX / 4) {
        ucnv_close(from);
        ucnv_close(to);
        buf_append_slice(out, text);
        return false;
    }
    const char *in = text.ptr, *end = text.ptr + text.len;
    UChar pivot[512], *pivot_from = pivot, *pivot_to = pivot;
    UBool reset = true;
    do {
        enum { ROOM = 4096 };
        char *start = buf_reserve(out, ROOM), *at = start;
        status = U_ZERO_ERROR;
        ucnv_convertEx(to, from, &at, start + ROOM, &in, end, pivot, &pivot_from, &pivot_to, pivot + 512, reset, true,
                       &status);
        buf_added(out, (size_t)(at - start));
        reset = false;
    } while (status == U_BUFFER_OVERFLOW_ERROR);
    ucnv_close(from);
    ucnv_close(to);
    return true;
}

/* ---- encoded words (RFC 2047) ---- */

/* "=?charset?q?text?=" at the front of text: its length; 0: it is none. */
static size_t
encoded_word(struct slice text, struct slice *charset, char *how, struct slice *inner)
{
    if (text.len > WORD_LIMIT) /* of one that has no end not all that follows is searched for it, and for the next */
        text.len = WORD_LIMIT;
    const char *end = text.ptr + text.len, *q1, *q2, *q3;
    if (text.len < 8 || text.ptr[0] != '=' || text.ptr[1] != '?')
        return 0;
    q1 = memchr(text.ptr + 2, '?', text.len - 2);
    if (!q1 || end - q1 < 4 || q1[2] != '?')
        return 0;
    q2 = q1 + 2;
    q3 = q2 + 1;
    while ((q3 = memchr(q3, '?', (size_t)(end - q3))) && q3 + 1 < end && q3[1] != '=')
        q3++;
    if (!q3 || q3 + 1 >= end || memchr(text.ptr, ' ', (size_t)(q3 - text.ptr)))
        return 0;
    *how = q1[1];
    *charset = slice_make(text.ptr + 2, (size_t)(q1 - text.ptr) - 2);
    const char *star = memchr(charset->ptr, '*', charset->len); /* RFC 2231: a language */
    if (star)
        charset->len = (size_t)(star - charset->ptr);
    *inner = slice_make(q2 + 1, (size_t)(q3 - q2 - 1));
    return (size_t)(q3 + 2 - text.ptr);
}

void
mime_decode_words(struct slice value, struct buf *out)
{
    size_t i = 0, blanks = 0;
    bool after_word = false;
    while (i < value.len) {
        struct slice charset, inner;
        char how;
        size_t len = encoded_word(slice_make(value.ptr + i, value.len - i), &charset, &how, &inner);
        if (len > 0 && (how == 'b' || how == 'B' || how == 'q' || how == 'Q')) {
            struct buf bytes = {0};
            if (after_word && blanks > 0)
                out->len -= blanks; /* blanks between encoded words are not text */
            if (how == 'b' || how == 'B')
                decode_base64(inner, &bytes);
            else
                decode_quoted(inner, true, &bytes);
            mime_to_utf8(buf_slice(&bytes), charset, out);
            buf_release(&bytes);
            i += len;
            after_word = true;
            blanks = 0;
            continue;
        }
        char c = value.ptr[i++];
        buf_append_byte(out, c);
        if (c == ' ' || c == '\t')
            blanks++;
        else
            after_word = false, blanks = 0;
    }
}

/* ---- addresses ---- */

static const char address_specials[] = "<>@,;:\\";

struct address_parse {
    struct arena *arena;
    struct slice rest;
    enum mime_token_kind kind;
    struct slice token;
    bool has_token;
    const char *comment_from; /* where blanks and comments before the token begin */
};

static bool
advance(struct address_parse *p)
{
    p->comment_from = p->rest.ptr;
    p->has_token = mime_token_next(p->arena, &p->rest, address_specials, &p->kind, &p->token);
    return p->has_token;
}

static bool
at_special(const struct address_parse *p, char c)
{
    return p->has_token && p->kind == MIME_SPECIAL && p->token.ptr[0] == c;
}

static void
append_word(struct buf *out, struct slice word, bool with_blank)
{
    if (with_blank && out->len > 0)
        buf_append_byte(out, ' ');
    buf_append_slice(out, word);
}

/* Words up to a special: the phrase before "<" or ":", or a local part. */
static struct slice
take_words(struct address_parse *p, bool with_blanks)
{
    struct buf out = {0};
    for (; p->has_token && p->kind != MIME_SPECIAL; advance(p))
        append_word(&out, p->token, with_blanks);
    struct slice result = arena_slice(p->arena, buf_slice(&out));
    buf_release(&out);
    return result;
}

/* The text of the comment that follows an address without "<>": "user@host (Full Name)". */
static struct slice
trailing_comment(struct address_parse *p, const char *from)
{
    const char *end = p->has_token ? p->token.ptr : p->rest.ptr + p->rest.len;
    const char *open = from && end > from ? memchr(from, '(', (size_t)(end - from)) : NULL;
    if (!open)
        return slice_make("", 0);
    size_t len = (size_t)(end - open);
    while (len > 0 && open[len - 1] != ')')
        len--;
    return len > 2 ? mime_unfold(p->arena, slice_make(open + 1, len - 2)) : slice_make("", 0);
}

/* "@a,@b:" */
static struct slice
take_route(struct address_parse *p)
{
    struct buf out = {0};
    while (at_special(p, '@') || at_special(p, ',')) {
        buf_append_slice(&out, p->token);
        advance(p);
        if (p->has_token && p->kind != MIME_SPECIAL) {
            buf_append_slice(&out, p->token);
            advance(p);
        }
    }
    if (at_special(p, ':'))
        advance(p);
    struct slice result = arena_slice(p->arena, buf_slice(&out));
    buf_release(&out);
    return result;
}

static void
take_spec(struct address_parse *p, struct mime_address *address)
{
    address->local = take_words(p, false);
    if (at_special(p, '@')) {
        advance(p);
        address->domain = take_words(p, false);
    }
}

static void
take_mailbox(struct address_parse *p, struct mime_address *address)
{
    const char *start = p->token.ptr;
    struct address_parse before = *p;
    struct slice phrase = take_words(p, true);
    if (at_special(p, '<')) {
        advance(p);
        address->name = phrase;
        if (at_special(p, '@'))
            address->route = take_route(p);
        take_spec(p, address);
        while (p->has_token && !at_special(p, '>') && !at_special(p, ','))
            advance(p);
        if (at_special(p, '>'))
            advance(p);
        return;
    }
    *p = before;
    (void)start;
    take_spec(p, address);
    address->name = trailing_comment(p, p->comment_from);
}

unsigned
mime_addresses(struct arena *arena, struct slice value, struct mime_address **list)
{
    struct address_parse p = {.arena = arena, .rest = value};
    unsigned count = 0, room = 0;
    bool in_group = false;
    *list = NULL;
    advance(&p);
    while (p.has_token && count + 2 < ADDRESSES) {
        struct mime_address address = {.name = {"", 0}, .route = {"", 0}, .local = {"", 0}, .domain = {"", 0}};
        const char *token = p.token.ptr;
        if (at_special(&p, ',')) {
            advance(&p);
            continue;
        }
        if (at_special(&p, ';')) {
            address.group_end = in_group;
            in_group = false;
            advance(&p);
            if (!address.group_end)
                continue;
        } else {
            struct address_parse before = p;
            address.local = take_words(&p, true);
            if (at_special(&p, ':') && !in_group) {
                address.group_begin = in_group = true;
                advance(&p);
            } else {
                p = before;
                address.local = slice_make("", 0);
                take_mailbox(&p, &address);
            }
        }
        if (p.has_token && p.token.ptr == token) { /* nothing that we understand */
            advance(&p);
            continue;
        }
        if (!address.group_end && address.local.len + address.domain.len == 0)
            continue;
        if (count == room) {
            struct mime_address *more = arena_array(arena, room ? 2 * room : 4, sizeof(*more));
            if (count > 0)
                memcpy(more, *list, count * sizeof(*more));
            *list = more;
            room = room ? 2 * room : 4;
        }
        (*list)[count++] = address;
    }
    if (in_group && count < room)
        (*list)[count++] = (struct mime_address){
            .name = {"", 0}, .route = {"", 0}, .local = {"", 0}, .domain = {"", 0}, .group_end = true};
    return count;
}

/* ---- dates ---- */

static int
month_number(struct slice word)
{
    static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";
    for (int i = 0; i < 12; i++)
        if (word.len >= 3 && slice_equal_fold(slice_make(word.ptr, 3), slice_make(names + 3 * i, 3)))
            return i;
    return -1;
}

/* Days since 1970 of a date in the Gregorian calendar. */
static int64_t
days_of(int64_t year, int month, int day)
{
    year -= month < 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t y = year - era * 400, m = (month + 10) % 12;
    int64_t doy = (153 * m + 2) / 5 + day - 1;
    return era * 146097 + y * 365 + y / 4 - y / 100 + doy - 719468;
}

static bool
take_number(struct slice word, unsigned long long max, int *out)
{
    unsigned long long n;
    if (slice_to_u64(word, max, &n) < 0)
        return false;
    *out = (int)n;
    return true;
}

static int
zone_of(struct slice word)
{
    static const struct {
        const char *name;
        int minutes;
    } zones[] = {{"EST", -300}, {"EDT", -240}, {"CST", -360}, {"CDT", -300},
                 {"MST", -420}, {"MDT", -360}, {"PST", -480}, {"PDT", -420}};
    int n;
    if (word.len == 5 && (word.ptr[0] == '+' || word.ptr[0] == '-') &&
        take_number(slice_make(word.ptr + 1, 4), 9999, &n))
        return (word.ptr[0] == '-' ? -1 : 1) * (n / 100 * 60 + n % 100);
    for (size_t i = 0; i < ARRAY_LEN(zones); i++)
        if (slice_equal_text_fold(word, zones[i].name))
            return zones[i].minutes;
    return 0;
}

bool
mime_date(struct slice value, int64_t *seconds, int *zone)
{
    struct slice word, part;
    int day, month, year, clock[3] = {0, 0, 0};
    if (!slice_word(&value, " \t\r\n,", &word))
        return false;
    if (word.ptr[0] > '9' && !slice_word(&value, " \t\r\n,", &word)) /* the day's name */
        return false;
    if (!take_number(word, 31, &day) || day < 1 || !slice_word(&value, " \t\r\n,-", &word) ||
        (month = month_number(word)) < 0 || !slice_word(&value, " \t\r\n,-", &word) || !take_number(word, 9999, &year))
        return false;
    if (year < 100)
        year += year < 50 ? 2000 : 1900;
    else if (year < 1000)
        year += 1900;
    if (!slice_word(&value, " \t\r\n", &word))
        word = slice_make("", 0);
    for (int i = 0; i < 3 && slice_cut(&word, ':', &part); i++)
        if (!take_number(part, 61, &clock[i]))
            return false;
    *zone = slice_word(&value, " \t\r\n(", &word) ? zone_of(word) : 0;
    *seconds = days_of(year, month, day) * 86400 + clock[0] * 3600 + clock[1] * 60 + clock[2] - *zone * 60;
    return true;
}
