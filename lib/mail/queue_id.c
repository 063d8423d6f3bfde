/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/queue_id.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/text.h"

enum { SHORT_MICROSECOND_DIGITS = 5, LONG_SECOND_DIGITS = 6, LONG_MICROSECOND_DIGITS = 4, LONG_SEPARATOR_INDEX = 10 };

/* Digits without vowels, so that no id spells a word. Base 51 leaves the last out: it separates. */
static const char long_digits[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

/* Writes value in the base, at least width digits; returns the place behind the last. */
static char *
put_digits(char *at, uint64_t value, unsigned base, unsigned width)
{
    char reversed[64];
    unsigned n = 0;

    do
        reversed[n++] = long_digits[value % base];
    while ((value /= base) != 0 || n < width);
    while (n > 0)
        *at++ = reversed[--n];
    return at;
}

void
queue_id_format(usec_t wall, uint64_t number, bool long_form, char *text)
{
    uint64_t seconds = (uint64_t)(wall / 1000000), microseconds = (uint64_t)(wall % 1000000);

    if (!long_form) {
        snprintf(text, QUEUE_ID_SIZE, "%05llX%llX", (unsigned long long)microseconds, (unsigned long long)number);
        return;
    }
    char *at = put_digits(text, seconds, 52, LONG_SECOND_DIGITS);
    at = put_digits(at, microseconds, 52, LONG_MICROSECOND_DIGITS);
    *at++ = 'z';
    at = put_digits(at, number, 51, 1);
    *at = '\0';
}

bool
queue_id_is_valid(struct slice id)
{
    if (id.len < 1 || id.len > 255)
        return false;
    for (size_t i = 0; i < id.len; i++)
        if (!text_is_alnum(id.ptr[i]) && id.ptr[i] != '_')
            return false;
    return true;
}

static int
long_digit(char c)
{
    const char *at = c ? strchr(long_digits, c) : NULL;
    return at ? (int)(at - long_digits) : -1;
}

/* The characters that name the hash directories: a short id's own, or a long id's microseconds as in a short one. */
static void
hash_text(const char *id, char *text, size_t size)
{
    const char *separator = strrchr(id, 'z');
    uint64_t microseconds = 0;

    if (!separator || separator - id < LONG_SEPARATOR_INDEX) {
        snprintf(text, size, "%s", id);
        return;
    }
    for (const char *at = separator - LONG_MICROSECOND_DIGITS; at < separator; at++) {
        int digit = long_digit(*at);
        if (digit < 0) {
            snprintf(text, size, "%s", id);
            return;
        }
        microseconds = microseconds * 52 + (uint64_t)digit;
    }
    snprintf(text, size, "%0*llX", SHORT_MICROSECOND_DIGITS, (unsigned long long)microseconds);
}

char *
queue_id_path(struct arena *arena, const char *queue, const char *id, bool hashed, unsigned depth)
{
    char from[QUEUE_ID_SIZE * 4 + 1];
    struct buf path = {0};
    char *result;

    buf_printf(&path, "%s/", queue);
    if (hashed) {
        hash_text(id, from, sizeof from);
        size_t len = strlen(from);
        for (unsigned i = 0; i < depth; i++) {
            buf_append_byte(&path, i < len ? from[i] : '_');
            buf_append_byte(&path, '/');
        }
    }
    buf_append_text(&path, id);
    result = arena_strdup(arena, buf_text(&path));
    buf_release(&path);
    return result;
}
