/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/attributes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/run/crypto.h"

enum { ID_BYTES = 20, PREVIEW_BYTES = 64 * 1024, ENTITY_LENGTH = 8, SAVED_DIGITS = 9 };

/* ---- identifiers ---- */

void
attributes_object_id(char kind, struct slice bytes, char id[OBJECT_ID_SIZE])
{
    unsigned char digest[CRYPTO_DIGEST_MOST];
    crypto_digest("SHA256", bytes, digest);
    id[0] = kind;
    for (unsigned i = 0; i < ID_BYTES; i++)
        snprintf(id + 1 + 2 * i, 3, "%02x", digest[i]);
}

void
attributes_mailbox_id(const struct folder *folder, char id[OBJECT_ID_SIZE])
{
    const char *guid = folder_guid(folder);
    snprintf(id, OBJECT_ID_SIZE, "%s%.40s", *guid ? "F" : "", guid);
}

bool
attributes_save_date(struct folder *folder, struct folder_message *message, time_t *when)
{
    const char *file = folder_message_file(folder, message);
    char *end;
    long long seconds = strtoll(file, &end, 10);
    if (*end != '.' || end - file < SAVED_DIGITS || seconds < 0)
        return false;
    *when = (time_t)seconds;
    return true;
}

/* ---- preview ---- */

/* Text goes in piece by piece; blanks are joined. */
struct preview {
    struct buf *out;
    size_t start;
    unsigned characters;
    bool blank;
};

/* One more has begun, and was left out: so the last that is in is whole. */
static bool
is_full(const struct preview *p)
{
    return p->characters > PREVIEW_LENGTH;
}

static void
add_byte(struct preview *p, char c)
{
    bool begins = (c & 0xc0) != 0x80;
    if ((unsigned char)c <= ' ' || c == 127) {
        p->blank = p->out->len > p->start;
        return;
    }
    if (is_full(p))
        return;
    if (begins && p->blank && p->characters + 2 <= PREVIEW_LENGTH) {
        p->characters++;
        buf_append_byte(p->out, ' ');
    } else if (begins && p->blank) {
        p->characters = PREVIEW_LENGTH;
    }
    p->characters += begins;
    if (begins)
        p->blank = false;
    if (!is_full(p))
        buf_append_byte(p->out, c);
}

static void
add_code_point(struct preview *p, unsigned long c)
{
    if (c < 0x80) {
        add_byte(p, (char)c);
    } else if (c < 0x800) {
        add_byte(p, (char)(0xc0 | c >> 6));
        add_byte(p, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000 && (c < 0xd800 || c > 0xdfff)) {
        add_byte(p, (char)(0xe0 | c >> 12));
        add_byte(p, (char)(0x80 | ((c >> 6) & 0x3f)));
        add_byte(p, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x110000 && c >= 0x10000) {
        add_byte(p, (char)(0xf0 | c >> 18));
        add_byte(p, (char)(0x80 | ((c >> 12) & 0x3f)));
        add_byte(p, (char)(0x80 | ((c >> 6) & 0x3f)));
        add_byte(p, (char)(0x80 | (c & 0x3f)));
    }
}

/* "&amp;" at the front: how long it is; 0: it is none. */
static size_t
add_entity(struct preview *p, struct slice text)
{
    static const struct {
        const char *name;
        unsigned long code;
    } names[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}, {"nbsp", ' '}};
    const char *end = memchr(text.ptr, ';', text.len < ENTITY_LENGTH ? text.len : ENTITY_LENGTH);
    unsigned long long number;
    if (!end)
        return 0;
    struct slice name = slice_make(text.ptr + 1, (size_t)(end - text.ptr - 1));
    if (name.len > 1 && name.ptr[0] == '#' && (name.ptr[1] == 'x' || name.ptr[1] == 'X'))
        add_code_point(p, strtoul(name.ptr + 2, NULL, 16));
    else if (name.len > 1 && name.ptr[0] == '#' &&
             slice_to_u64(slice_make(name.ptr + 1, name.len - 1), 0x10ffff, &number) == 0)
        add_code_point(p, (unsigned long)number);
    else
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
            if (slice_equal_text_fold(name, names[i].name))
                add_code_point(p, names[i].code);
    return (size_t)(end - text.ptr + 1);
}

/* Where what a "<" begins ends: a tag; a comment; style, script and title with what stands in them. */
static size_t
tag_length(struct slice text)
{
    static const char *const whole[] = {"style", "script", "title"};
    const char *end;
    if (text.len > 4 && memcmp(text.ptr, "<!--", 4) == 0) {
        end = memmem(text.ptr + 4, text.len - 4, "-->", 3);
        return end ? (size_t)(end - text.ptr + 3) : text.len;
    }
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        struct slice rest = slice_make(text.ptr + 1, text.len - 1);
        size_t len = strlen(whole[i]);
        if (!slice_starts_with_fold(rest, whole[i]) || (rest.len > len && rest.ptr[len] != '>' && rest.ptr[len] != ' '))
            continue;
        for (size_t at = len; at + len + 2 < rest.len; at++)
            if (rest.ptr[at] == '<' && rest.ptr[at + 1] == '/' &&
                slice_starts_with_fold(slice_make(rest.ptr + at + 2, rest.len - at - 2), whole[i]))
                return at + 1;
        return text.len;
    }
    end = memchr(text.ptr, '>', text.len);
    return end ? (size_t)(end - text.ptr + 1) : text.len;
}

static void
add_html(struct preview *p, struct slice text)
{
    while (text.len > 0 && !is_full(p)) {
        size_t taken = 0;
        if (text.ptr[0] == '<') {
            taken = tag_length(text);
            add_byte(p, ' ');
        } else if (text.ptr[0] == '&') {
            taken = add_entity(p, text);
        }
        if (taken == 0) {
            add_byte(p, text.ptr[0]);
            taken = 1;
        }
        text = slice_make(text.ptr + taken, text.len - taken);
    }
}

static void
add_plain(struct preview *p, struct slice text)
{
    for (size_t i = 0; i < text.len && !is_full(p); i++)
        add_byte(p, text.ptr[i]);
}

/* The first part of this type; depth is bounded by MIME_DEPTH. */
static const struct mime_part *
find_text(const struct mime_part *part, const char *subtype)
{
    for (unsigned i = 0; i < part->part_count; i++) {
        const struct mime_part *found = find_text(part->parts[i], subtype);
        if (found)
            return found;
    }
    if (part->is_multipart || part->message || !slice_equal_text_fold(part->type, "text") ||
        !slice_equal_text_fold(part->subtype, subtype) || slice_equal_text_fold(part->disposition, "attachment"))
        return NULL;
    return part;
}

void
attributes_preview(const struct mime_part *message, struct buf *out)
{
    struct preview p = {.out = out, .start = out->len};
    struct buf decoded = {0}, utf8 = {0};
    const struct mime_part *plain = find_text(message, "plain"), *part = plain ? plain : find_text(message, "html");
    if (!part)
        return;
    struct slice body = part->body;
    if (body.len > PREVIEW_BYTES)
        body.len = PREVIEW_BYTES;
    mime_decode(body, part->encoding, &decoded);
    mime_to_utf8(buf_slice(&decoded), mime_parameter(part->parameters, part->parameter_count, "charset"), &utf8);
    if (plain)
        add_plain(&p, buf_slice(&utf8));
    else
        add_html(&p, buf_slice(&utf8));
    buf_release(&decoded);
    buf_release(&utf8);
}
