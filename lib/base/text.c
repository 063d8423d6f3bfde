/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"

bool
text_is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool
text_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool
text_is_alpha(char c)
{
    c = text_lower(c);
    return c >= 'a' && c <= 'z';
}

bool
text_is_alnum(char c)
{
    return text_is_alpha(c) || text_is_digit(c);
}

char
text_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

char *
text_copy(const char *text)
{
    char *copy = strdup(text);

    if (!copy)
        fatal("out of memory");
    return copy;
}

void
text_lower_all(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        text[i] = text_lower(text[i]);
}

/* How many bytes the UTF-8 sequence at p has (RFC 3629: shortest form, no surrogates, up to U+10FFFF); 0 if malformed. */
static size_t
utf8_sequence(const uint8_t *p, size_t len)
{
    size_t n;
    uint8_t low = 0x80, high = 0xbf; /* what the second byte may be */
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    if (n > len || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

void
text_printable(char *text, size_t len, char replacement, bool keep_8bit)
{
    const uint8_t *bytes = (const uint8_t *)text;
    for (size_t i = 0; i < len;) {
        size_t n = 1;
        if (bytes[i] < 32 || bytes[i] == 127)
            text[i] = replacement;
        else if (bytes[i] >= 128 && !keep_8bit && (n = utf8_sequence(bytes + i, len - i)) == 0) {
            text[i] = replacement;
            n = 1;
        }
        i += n;
    }
}

bool
text_is_utf8(struct slice slice)
{
    const uint8_t *bytes = (const uint8_t *)slice.ptr;
    for (size_t i = 0; i < slice.len;) {
        size_t n = utf8_sequence(bytes + i, slice.len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

bool
text_has_8bit(struct slice slice)
{
    size_t i = 0;

    for (uint64_t words[4]; i + sizeof words <= slice.len; i += sizeof words) {
        memcpy(words, slice.ptr + i, sizeof words);
        if ((words[0] | words[1] | words[2] | words[3]) & 0x8080808080808080)
            return true;
    }
    for (; i < slice.len; i++)
        if ((unsigned char)slice.ptr[i] >= 128)
            return true;
    return false;
}

/* xchar of RFC 3461: printable ASCII without "+" and "=". */
static bool
is_xchar(char c)
{
    return c > ' ' && c < 127 && c != '+' && c != '=';
}

void
text_xtext_encode(struct slice in, struct buf *out)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < in.len; i++) {
        unsigned char c = (unsigned char)in.ptr[i];
        if (is_xchar(in.ptr[i]))
            buf_append_byte(out, in.ptr[i]);
        else
            buf_append(out, (const char[]){'+', hex[c >> 4], hex[c & 15]}, 3);
    }
}

int
text_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Upper-case hexadecimal only, as the RFC's hexchar demands; -1 if it is none. */
static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int
text_xtext_decode(struct slice in, struct buf *out)
{
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (c == '+') {
            if (in.len - i < 3)
                return -1;
            int high = hex_digit(in.ptr[i + 1]), low = hex_digit(in.ptr[i + 2]);
            if (high < 0 || low < 0)
                return -1;
            int value = high * 16 + low;
            if (value < 32 || value == 127)
                return -1;
            c = (char)value;
            i += 2;
        } else if (!is_xchar(c)) {
            return -1;
        }
        buf_append_byte(out, c);
    }
    return 0;
}
