/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/slice.h"

#include <string.h>

#include "lib/base/text.h"

struct slice
slice_from(const char *text)
{
    return (struct slice){.ptr = text, .len = text ? strlen(text) : 0};
}

struct slice
slice_make(const void *ptr, size_t len)
{
    return (struct slice){.ptr = ptr, .len = len};
}

bool
slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool
slice_equal_text(struct slice slice, const char *text)
{
    return slice_equal(slice, slice_from(text));
}

static bool
equal_fold(const char *a, const char *b, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text_lower(a[i]) != text_lower(b[i]))
            return false;
    return true;
}

bool
slice_equal_fold(struct slice a, struct slice b)
{
    return a.len == b.len && equal_fold(a.ptr, b.ptr, a.len);
}

bool
slice_equal_text_fold(struct slice slice, const char *text)
{
    return slice_equal_fold(slice, slice_from(text));
}

bool
slice_starts_with_fold(struct slice slice, const char *text)
{
    size_t len = strlen(text);
    return slice.len >= len && equal_fold(slice.ptr, text, len);
}

bool
slice_has_byte(struct slice slice, char byte)
{
    return slice.len > 0 && memchr(slice.ptr, byte, slice.len) != NULL;
}

struct slice
slice_trim(struct slice slice)
{
    while (slice.len > 0 && text_is_space(slice.ptr[0])) {
        slice.ptr++;
        slice.len--;
    }
    while (slice.len > 0 && text_is_space(slice.ptr[slice.len - 1]))
        slice.len--;
    return slice;
}

/* Splits after `len` bytes; drops `skip` more. */
static void
cut_at(struct slice *rest, size_t len, size_t skip, struct slice *first)
{
    *first = slice_make(rest->ptr, len);
    rest->ptr += len + skip;
    rest->len -= len + skip;
}

bool
slice_cut(struct slice *rest, char separator, struct slice *first)
{
    if (rest->len == 0)
        return false;
    const char *at = memchr(rest->ptr, separator, rest->len);
    if (at)
        cut_at(rest, (size_t)(at - rest->ptr), 1, first);
    else
        cut_at(rest, rest->len, 0, first);
    return true;
}

bool
slice_word(struct slice *rest, const char *separators, struct slice *word)
{
    struct slice set = slice_from(separators);
    while (rest->len > 0 && slice_has_byte(set, rest->ptr[0])) {
        rest->ptr++;
        rest->len--;
    }
    if (rest->len == 0)
        return false;
    size_t len = 0;
    while (len < rest->len && !slice_has_byte(set, rest->ptr[len]))
        len++;
    cut_at(rest, len, 0, word);
    return true;
}

bool
slice_word_braced(struct slice *rest, const char *separators, struct slice *word)
{
    size_t start = 0, end, depth = 0;

    while (start < rest->len && rest->ptr[start] && strchr(separators, rest->ptr[start]))
        start++;
    for (end = start; end < rest->len; end++) {
        char c = rest->ptr[end];
        if (c == '{')
            depth++;
        else if (c == '}' && depth > 0)
            depth--;
        else if (depth == 0 && c && strchr(separators, c))
            break;
    }
    *word = slice_make(rest->ptr + start, end - start);
    *rest = slice_make(rest->ptr + end, rest->len - end);
    return word->len > 0;
}

int
slice_to_u64(struct slice slice, unsigned long long max, unsigned long long *out)
{
    unsigned long long value = 0;
    if (slice.len == 0)
        return -1;
    for (size_t i = 0; i < slice.len; i++) {
        if (!text_is_digit(slice.ptr[i]))
            return -1;
        if (__builtin_mul_overflow(value, 10ULL, &value) ||
            __builtin_add_overflow(value, (unsigned long long)(slice.ptr[i] - '0'), &value) || value > max)
            return -1;
    }
    *out = value;
    return 0;
}
