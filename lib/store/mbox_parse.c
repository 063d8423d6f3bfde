/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/mbox_parse.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/store/folder.h"

/* ---- From_ lines ---- */

static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char days[] = "SunMonTueWedThuFriSat";

static bool
is_name(struct slice word, const char *names, int *number)
{
    if (word.len > 3 && word.ptr[3] == ',' && word.len == 4)
        word.len = 3;
    for (int i = 0; word.len == 3 && names[3 * i]; i++)
        if (strncasecmp(word.ptr, names + 3 * i, 3) == 0) {
            *number = i;
            return true;
        }
    return false;
}

static bool
is_number(struct slice word, size_t least, size_t most, int *number)
{
    unsigned long long n;
    if (word.len < least || word.len > most || slice_to_u64(word, 9999, &n) < 0)
        return false;
    *number = (int)n;
    return true;
}

/* 05:20 or 05:20:11 */
static bool
is_clock(struct slice word, struct tm *tm)
{
    struct slice part;
    if (!slice_cut(&word, ':', &part) || !is_number(part, 1, 2, &tm->tm_hour))
        return false;
    if (!slice_cut(&word, ':', &part) || !is_number(part, 2, 2, &tm->tm_min))
        return false;
    tm->tm_sec = 0;
    return !slice_cut(&word, ':', &part) || is_number(part, 2, 2, &tm->tm_sec);
}

/* +0100 in seconds */
static bool
is_zone(struct slice word, long *seconds)
{
    int n;
    if (word.len != 5 || (word.ptr[0] != '+' && word.ptr[0] != '-') ||
        !is_number(slice_make(word.ptr + 1, 4), 4, 4, &n))
        return false;
    *seconds = (n / 100 * 60 + n % 100) * 60L * (word.ptr[0] == '-' ? -1 : 1);
    return true;
}

static time_t
finish(struct tm *tm, bool has_zone, long zone)
{
    tm->tm_isdst = -1;
    return has_zone ? timegm(tm) - zone : mktime(tm);
}

/* What follows the day's name: "Nov 24 05:20:11 [zone] 2026 [zone]", or "24 Nov 2026 05:20:11 [zone]". */
static bool
is_date(struct slice rest, time_t *when)
{
    struct slice words[7] = {{"", 0}, {"", 0}, {"", 0}, {"", 0}, {"", 0}, {"", 0}, {"", 0}};
    struct tm tm = {0};
    size_t n = 0;
    long zone = 0;
    int year;

    while (n < 7 && slice_word(&rest, " \t", &words[n]))
        n++;
    if (n >= 4 && is_number(words[0], 1, 2, &tm.tm_mday) && is_name(words[1], months, &tm.tm_mon) &&
        is_number(words[2], 4, 4, &year) && is_clock(words[3], &tm)) {
        tm.tm_year = year - 1900;
        bool has_zone = is_zone(words[4], &zone);
        if (when)
            *when = finish(&tm, has_zone, zone);
        return true;
    }
    if (n < 4 || !is_name(words[0], months, &tm.tm_mon) || !is_number(words[1], 1, 2, &tm.tm_mday) ||
        !is_clock(words[2], &tm))
        return false;
    for (size_t i = 3; i < n && i < 5; i++)
        if (is_number(words[i], 4, 4, &year)) {
            tm.tm_year = year - 1900;
            bool has_zone = is_zone(words[i + 1], &zone) || is_zone(words[3], &zone);
            if (when)
                *when = finish(&tm, has_zone, zone);
            return true;
        }
    return false;
}

bool
mbox_is_from_line(struct slice line, time_t *when)
{
    struct slice word;
    int day;
    if (line.len < 5 || memcmp(line.ptr, "From ", 5) != 0)
        return false;
    const char *lf = memchr(line.ptr, '\n', line.len);
    if (lf)
        line.len = (size_t)(lf - line.ptr);
    line = slice_make(line.ptr + 5, line.len - 5);
    for (unsigned i = 0; i < 20 && slice_word(&line, " \t\r", &word); i++)
        if (is_name(word, days, &day) && is_date(slice_trim(line), when))
            return true;
    return false;
}

/* ---- headers ---- */

bool
mbox_cut_field(struct slice *header, struct slice *field)
{
    size_t at = 0;
    if (header->len == 0)
        return false;
    do {
        const char *lf = memchr(header->ptr + at, '\n', header->len - at);
        at = lf ? (size_t)(lf - header->ptr) + 1 : header->len;
    } while (at < header->len && (header->ptr[at] == ' ' || header->ptr[at] == '\t'));
    *field = slice_make(header->ptr, at);
    *header = slice_make(header->ptr + at, header->len - at);
    return true;
}

static bool
cut_name(struct slice field, struct slice *name, struct slice *value)
{
    const char *colon = memchr(field.ptr, ':', field.len < 80 ? field.len : 80);
    if (!colon)
        return false;
    *name = slice_trim(slice_make(field.ptr, (size_t)(colon - field.ptr)));
    *value = slice_make(colon + 1, (size_t)(field.ptr + field.len - colon - 1));
    return true;
}

enum mbox_field
mbox_field_kind(struct slice field)
{
    static const char *const own[] = {"Status", "X-Status", "X-Keywords", "X-UID", "X-IMAPbase", "X-IMAP"};
    struct slice name, value;
    if (!cut_name(field, &name, &value))
        return MBOX_OTHER;
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        if (slice_equal_text_fold(name, own[i]))
            return MBOX_OWN;
    return slice_equal_text_fold(name, "Content-Length") ? MBOX_HIDDEN : MBOX_OTHER;
}

size_t
mbox_header_length(struct slice bytes, size_t *lines)
{
    size_t at = 0;
    while (at < bytes.len) {
        if (bytes.ptr[at] == '\n' || (bytes.ptr[at] == '\r' && at + 1 < bytes.len && bytes.ptr[at + 1] == '\n')) {
            *lines = at;
            return at + (bytes.ptr[at] == '\n' ? 1 : 2);
        }
        const char *lf = memchr(bytes.ptr + at, '\n', bytes.len - at);
        if (!lf)
            break;
        at = (size_t)(lf - bytes.ptr) + 1;
    }
    return 0;
}

static unsigned
status_flags(struct slice value)
{
    static const struct {
        char letter;
        unsigned flag;
    } letters[] = {{'R', FLAG_SEEN}, {'A', FLAG_ANSWERED}, {'F', FLAG_FLAGGED}, {'D', FLAG_DELETED}, {'T', FLAG_DRAFT}};
    unsigned flags = 0;
    for (size_t i = 0; i < ARRAY_LEN(letters); i++)
        if (slice_has_byte(value, letters[i].letter))
            flags |= letters[i].flag;
    return flags;
}

static uint32_t
number(struct slice *value)
{
    struct slice word;
    unsigned long long n;
    return slice_word(value, " \t\r\n", &word) && slice_to_u64(word, UINT32_MAX, &n) == 0 ? (uint32_t)n : 0;
}

static void
take_field(struct slice name, struct slice value, struct mbox_own *own)
{
    if (slice_equal_text_fold(name, "Status")) {
        own->flags |= status_flags(value) & FLAG_SEEN;
        own->is_old = slice_has_byte(value, 'O');
    } else if (slice_equal_text_fold(name, "X-Status")) {
        own->flags |= status_flags(value) & ~(unsigned)FLAG_SEEN;
    } else if (slice_equal_text_fold(name, "X-UID")) {
        own->uid = number(&value);
    } else if (slice_equal_text_fold(name, "X-Keywords")) {
        own->keywords = value;
    } else {
        own->uid_validity = number(&value);
        own->last_uid = number(&value);
        own->base_keywords = value;
        own->is_internal |= slice_equal_text_fold(name, "X-IMAP");
    }
}

void
mbox_parse_own(struct slice header, struct mbox_own *own)
{
    struct slice rest = header, field, name, value;
    *own = (struct mbox_own){.first = header.len};
    while (mbox_cut_field(&rest, &field)) {
        if (mbox_field_kind(field) != MBOX_OWN || !cut_name(field, &name, &value))
            continue;
        if (own->own_bytes == 0)
            own->first = (size_t)(field.ptr - header.ptr);
        own->own_bytes += field.len;
        take_field(name, value, own);
    }
}
