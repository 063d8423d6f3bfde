/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/imap/output.h"

#include <string.h>
#include <time.h>

#include "lib/base/clock.h"

enum { QUOTED_LIMIT = 1000 };

static bool
can_be_quoted(struct slice text, bool utf8)
{
    if (text.len > QUOTED_LIMIT)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '\r' || c == '\n' || c == 0 || (c > 127 && !utf8))
            return false;
    }
    return true;
}

void
imap_put_string(struct buf *out, struct slice text, bool utf8)
{
    if (!can_be_quoted(text, utf8)) {
        buf_printf(out, "{%zu}\r\n", text.len);
        buf_append_slice(out, text);
        return;
    }
    buf_append_byte(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\')
            buf_append_byte(out, '\\');
        buf_append_byte(out, text.ptr[i]);
    }
    buf_append_byte(out, '"');
}

void
imap_put_nstring(struct buf *out, struct slice text, bool utf8)
{
    if (text.len == 0)
        buf_append_text(out, "NIL");
    else
        imap_put_string(out, text, utf8);
}

static bool
is_atom(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c <= 32 || c >= 127 || strchr("(){%*\"\\", c))
            return false;
    }
    return text.len > 0 && !slice_equal_text_fold(text, "NIL");
}

void
imap_put_astring(struct buf *out, struct slice text, bool utf8)
{
    if (is_atom(text))
        buf_append_slice(out, text);
    else
        imap_put_string(out, text, utf8);
}

void
imap_put_date_time(struct buf *out, int64_t seconds)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm = clock_local(seconds);
    if (tm.tm_year + 1900 < 0 || tm.tm_year + 1900 > 9999) /* the form has four digits */
        tm = clock_local(0);
    long zone = tm.tm_gmtoff / 60;
    char sign = zone < 0 ? '-' : '+';
    if (zone < 0)
        zone = -zone;
    buf_printf(out, "\"%2d-%.3s-%04d %02d:%02d:%02d %c%02ld%02ld\"", tm.tm_mday, months + 3 * tm.tm_mon,
               tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, sign, zone / 60, zone % 60);
}

/* ---- sets ---- */

void
imap_set_close(struct imap_set_writer *w)
{
    if (!w->any)
        return;
    if (w->written)
        buf_append_byte(w->out, ',');
    if (w->from == w->to)
        buf_printf(w->out, "%u", w->from);
    else
        buf_printf(w->out, "%u:%u", w->from, w->to);
    w->written = true;
    w->any = false;
}

void
imap_set_add(struct imap_set_writer *w, uint32_t number)
{
    if (w->any && number == w->to + 1) {
        w->to = number;
        return;
    }
    imap_set_close(w);
    w->from = w->to = number;
    w->any = true;
}

/* ---- modified UTF-7 ---- */

static const char utf7_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static void
put_utf8(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_append_byte(out, (char)c);
    } else if (c < 0x800) {
        buf_append_byte(out, (char)(0xc0 | c >> 6));
        buf_append_byte(out, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_append_byte(out, (char)(0xe0 | c >> 12));
        buf_append_byte(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_append_byte(out, (char)(0x80 | (c & 0x3f)));
    } else {
        buf_append_byte(out, (char)(0xf0 | c >> 18));
        buf_append_byte(out, (char)(0x80 | (c >> 12 & 0x3f)));
        buf_append_byte(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_append_byte(out, (char)(0x80 | (c & 0x3f)));
    }
}

/* The part between "&" and "-". */
static bool
shifted_to_utf8(struct slice text, struct buf *out)
{
    uint32_t bits = 0, high = 0;
    unsigned count = 0;
    for (size_t i = 0; i < text.len; i++) {
        const char *digit = text.ptr[i] ? strchr(utf7_digits, text.ptr[i]) : NULL;
        if (!digit)
            return false;
        bits = bits << 6 | (uint32_t)(digit - utf7_digits);
        count += 6;
        if (count < 16)
            continue;
        count -= 16;
        uint32_t unit = bits >> count & 0xffff;
        bits &= (1U << count) - 1;
        if (unit >= 0xd800 && unit < 0xdc00) {
            if (high)
                return false;
            high = unit;
        } else if (unit >= 0xdc00 && unit < 0xe000) {
            if (!high)
                return false;
            put_utf8(out, 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00));
            high = 0;
        } else if (high || unit == 0) {
            return false;
        } else {
            put_utf8(out, unit);
        }
    }
    return !high && bits == 0 && count < 6;
}

bool
imap_utf7_to_utf8(struct slice text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '&') {
            buf_append_byte(out, text.ptr[i]);
            continue;
        }
        const char *end = memchr(text.ptr + i, '-', text.len - i);
        if (!end)
            return false;
        size_t len = (size_t)(end - text.ptr) - i - 1;
        if (len == 0)
            buf_append_byte(out, '&');
        else if (!shifted_to_utf8(slice_make(text.ptr + i + 1, len), out))
            return false;
        i += len + 1;
    }
    return true;
}

/* One character of UTF-8 at the front; malformed bytes give themselves. Returns its length. */
static size_t
take_utf8(struct slice text, uint32_t *c)
{
    unsigned char first = (unsigned char)text.ptr[0];
    size_t len = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
    *c = first;
    if (len == 1 || len > text.len)
        return 1;
    *c = first & (0xffU >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if (((unsigned char)text.ptr[i] & 0xc0) != 0x80) {
            *c = first;
            return 1;
        }
        *c = *c << 6 | ((unsigned char)text.ptr[i] & 0x3f);
    }
    return len;
}

struct shift {
    struct buf *out;
    uint32_t bits;
    unsigned count;
};

static void
put_unit(struct shift *s, uint32_t unit)
{
    s->bits = s->bits << 16 | unit;
    s->count += 16;
    while (s->count >= 6) {
        s->count -= 6;
        buf_append_byte(s->out, utf7_digits[s->bits >> s->count & 0x3f]);
        s->bits &= (1U << s->count) - 1;
    }
}

void
imap_utf8_to_utf7(struct slice text, struct buf *out)
{
    size_t i = 0;
    while (i < text.len) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c >= 32 && c < 127) {
            buf_append_text(out, c == '&' ? "&-" : "");
            if (c != '&')
                buf_append_byte(out, (char)c);
            i++;
            continue;
        }
        struct shift s = {.out = out};
        buf_append_byte(out, '&');
        while (i < text.len && ((unsigned char)text.ptr[i] < 32 || (unsigned char)text.ptr[i] >= 127)) {
            uint32_t code;
            i += take_utf8(slice_make(text.ptr + i, text.len - i), &code);
            if (code >= 0x10000) {
                put_unit(&s, 0xd800 + ((code - 0x10000) >> 10));
                put_unit(&s, 0xdc00 + ((code - 0x10000) & 0x3ff));
            } else {
                put_unit(&s, code);
            }
        }
        if (s.count > 0)
            buf_append_byte(out, utf7_digits[s.bits << (6 - s.count) & 0x3f]);
        buf_append_byte(out, '-');
    }
}
