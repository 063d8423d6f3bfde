/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/url.h"

#include <string.h>

#include "imap/structure.h"
#include "lib/base/text.h"
#include "lib/mail/mime.h"

enum { LEVELS = MIME_DEPTH + 1 };

static bool
decode(struct arena *arena, struct slice text, struct slice *out)
{
    char *to = arena_alloc(arena, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '%') {
            bool room = text.len - i > 2;
            int high = room ? text_hex_digit(text.ptr[i + 1]) : -1, low = room ? text_hex_digit(text.ptr[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        to[len++] = c;
    }
    *out = slice_make(to, len);
    return true;
}

/* "word" in any case at the front of *rest: takes it, and what follows up to "/;" or the end. */
static bool
take_value(struct slice *rest, const char *word, struct slice *value)
{
    if (!slice_starts_with_fold(*rest, word))
        return false;
    size_t from = strlen(word), to = from;
    while (to < rest->len && !(rest->ptr[to] == '/' && to + 1 < rest->len && rest->ptr[to + 1] == ';'))
        to++;
    *value = slice_make(rest->ptr + from, to - from);
    *rest = slice_make(rest->ptr + to, rest->len - to);
    return true;
}

static bool
take_number(struct slice text, uint64_t max, uint64_t *number)
{
    unsigned long long n;
    if (slice_to_u64(text, max, &n) < 0)
        return false;
    *number = n;
    return true;
}

/* "/name;UIDVALIDITY=7" */
static bool
take_mailbox(struct arena *arena, struct slice *rest, struct imap_url *url)
{
    struct slice name;
    uint64_t validity = 0;
    if (!take_value(rest, "/", &name))
        return false;
    const char *semicolon = memchr(name.ptr, ';', name.len);
    if (semicolon) {
        struct slice number, tail = slice_make(semicolon, (size_t)(name.ptr + name.len - semicolon));
        if (!take_value(&tail, ";UIDVALIDITY=", &number) || !take_number(number, UINT32_MAX, &validity) ||
            validity == 0)
            return false;
        name.len = (size_t)(semicolon - name.ptr);
    }
    url->uid_validity = (uint32_t)validity;
    return name.len > 0 && !memchr(name.ptr, '/', name.len) && decode(arena, name, &url->mailbox);
}

static bool
take_partial(struct slice text, struct imap_url *url)
{
    struct slice first;
    if (!slice_cut(&text, '.', &first) || !take_number(first, INT64_MAX, &url->offset))
        return false;
    return text.len == 0 || (take_number(text, INT64_MAX, &url->length) && url->length > 0);
}

bool
imap_url_parse(struct arena *arena, struct slice text, struct imap_url *url)
{
    struct slice rest = text, value;
    uint64_t uid;
    *url = (struct imap_url){.mailbox = {"", 0}, .section = {"", 0}, .length = UINT64_MAX};
    if (rest.len > 0 && rest.ptr[0] == '/' && (!take_mailbox(arena, &rest, url) || !slice_starts_with_fold(rest, "/;")))
        return false;
    if (rest.len > 0 && rest.ptr[0] == '/')
        rest = slice_make(rest.ptr + 1, rest.len - 1);
    if (!take_value(&rest, ";UID=", &value) || !take_number(value, UINT32_MAX, &uid) || uid == 0)
        return false;
    url->uid = (uint32_t)uid;
    if (take_value(&rest, "/;SECTION=", &value) && !decode(arena, value, &url->section))
        return false;
    if (take_value(&rest, "/;PARTIAL=", &value) && !take_partial(value, url))
        return false;
    return rest.len == 0;
}

/* ---- sections ---- */

/* "1.2." off the front. */
static bool
take_numbers(struct slice *section, uint32_t *numbers, unsigned *count)
{
    *count = 0;
    while (section->len > 0 && section->ptr[0] >= '0' && section->ptr[0] <= '9') {
        struct slice part;
        uint64_t n;
        if (*count == LEVELS || !slice_cut(section, '.', &part) || !take_number(part, 1000000, &n) || n == 0)
            return false;
        numbers[(*count)++] = (uint32_t)n;
    }
    return true;
}

bool
imap_url_section(struct arena *arena, struct slice message, struct slice section, struct slice *bytes)
{
    uint32_t numbers[LEVELS];
    unsigned count;
    if (section.len == 0) {
        *bytes = message;
        return true;
    }
    if (!take_numbers(&section, numbers, &count))
        return false;
    const struct mime_part *part = structure_find(mime_parse(arena, message), numbers, count);
    if (!part)
        return false;
    if (section.len == 0) {
        *bytes = part->body;
        return true;
    }
    if (count > 0 && slice_equal_text_fold(section, "MIME")) {
        *bytes = part->header;
        return true;
    }
    const struct mime_part *whole = count > 0 ? part->message : part;
    if (!whole)
        return false;
    *bytes = slice_equal_text_fold(section, "HEADER") ? whole->header : whole->body;
    return slice_equal_text_fold(section, "HEADER") || slice_equal_text_fold(section, "TEXT");
}
