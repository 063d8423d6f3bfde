/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/search_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unicode/ucasemap.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>
#include <unicode/uversion.h>

#include "lib/base/check.h"

enum { TEXT_FORM = 1 }; /* another one whenever the same message would give other pieces of text */

/* ---- folding ---- */

/* The last len bytes, folded, with characters taken apart (NFKD), so that all ways to write a letter are alike (RFC 5051). What ICU can't do
 * stays as it is. */
static void
decompose(struct buf *out, size_t len)
{
    UErrorCode status = U_ZERO_ERROR;
    const UNormalizer2 *nfkd = unorm2_getNFKDInstance(&status);
    int32_t wide = 0, done = 0, bytes = 0;
    if (U_FAILURE(status) || len == 0 || len > INT32_MAX / 16)
        return;
    UChar *before = malloc((len + 1) * sizeof(*before));
    if (!before)
        fatal("out of memory");
    u_strFromUTF8(before, (int32_t)len, &wide, out->ptr + out->len - len, (int32_t)len, &status);
    if (U_SUCCESS(status) && unorm2_spanQuickCheckYes(nfkd, before, wide, &status) < wide && U_SUCCESS(status)) {
        int32_t room = 4 * wide + 64;
        UChar *after = malloc((size_t)room * sizeof(*after));
        if (!after)
            fatal("out of memory");
        done = unorm2_normalize(nfkd, before, wide, after, room, &status);
        if (U_SUCCESS(status)) {
            struct buf text = {0};
            u_strToUTF8(buf_reserve(&text, (size_t)done * 3 + 1), done * 3 + 1, &bytes, after, done, &status);
            if (U_SUCCESS(status)) {
                buf_added(&text, (size_t)bytes);
                out->len -= len;
                buf_append_slice(out, buf_slice(&text));
            }
            buf_release(&text);
        }
        free(after);
    }
    free(before);
}

/* Not over INT32_MAX / 3. */
static void
fold_piece(struct slice text, struct buf *out)
{
    static UCaseMap *map;
    UErrorCode status = U_ZERO_ERROR;
    bool ascii = true;
    for (size_t i = 0; ascii && i < text.len; i++)
        ascii = !(text.ptr[i] & 0x80);
    if (!map && !ascii)
        map = ucasemap_open("", 0, &status);
    size_t room = ascii ? text.len : 3 * text.len + 16;
    char *to = buf_reserve(out, room + 1);
    if (ascii) {
        for (size_t i = 0; i < text.len; i++)
            to[i] = (char)(text.ptr[i] >= 'A' && text.ptr[i] <= 'Z' ? text.ptr[i] + 32 : text.ptr[i]);
        buf_added(out, text.len);
        return;
    }
    int32_t len = ucasemap_utf8FoldCase(map, to, (int32_t)room, text.ptr, (int32_t)text.len, &status);
    if (U_FAILURE(status) || len < 0) {
        memcpy(to, text.ptr, text.len);
        len = (int32_t)text.len;
    }
    buf_added(out, (size_t)len);
    decompose(out, (size_t)len);
}

/* ICU counts in 32 bits. A letter of ASCII begins something new for all that folding does, so texts can be cut before one. */
void
search_fold(struct slice text, struct buf *out)
{
    enum { PIECE = 16 << 20, BACK = 64 << 10 };
    while (text.len > PIECE) {
        size_t cut = PIECE;
        while (cut > PIECE - BACK && (text.ptr[cut] & 0x80))
            cut--;
        fold_piece(slice_make(text.ptr, cut), out);
        text = slice_make(text.ptr + cut, text.len - cut);
    }
    fold_piece(text, out);
}

/* ---- pieces ---- */

struct walk {
    struct arena *arena;
    search_text_take *take;
    void *ctx;
    struct buf decoded, utf8, folded; /* used again for each piece */
    bool is_top;
    bool enough;
};

struct slice
search_text_value(struct arena *arena, struct slice value)
{
    struct buf words = {0}, folded = {0};
    mime_decode_words(mime_unfold(arena, value), &words);
    search_fold(buf_slice(&words), &folded);
    struct slice result = arena_slice(arena, buf_slice(&folded));
    buf_release(&words);
    buf_release(&folded);
    return result;
}

/* A field as "name: value". */
static void
take_header(struct walk *w, struct slice header)
{
    struct slice name, value;
    while (!w->enough && mime_field_next(&header, &name, &value)) {
        buf_clear(&w->utf8);
        buf_clear(&w->folded);
        search_fold(name, &w->folded);
        buf_append_text(&w->folded, ": ");
        mime_decode_words(mime_unfold(w->arena, value), &w->utf8);
        search_fold(buf_slice(&w->utf8), &w->folded);
        w->enough = w->take(w->ctx, w->is_top, buf_slice(&w->folded));
    }
}

/* Bytes that are what they seem in the charset that nearly all mail has. */
static bool
is_ascii_of(struct slice text, struct slice charset)
{
    static const char *const plain[] = {"", "us-ascii", "utf-8", "iso-8859-1", "iso-8859-15", "windows-1252"};
    bool known = false;
    for (size_t i = 0; !known && i < ARRAY_LEN(plain); i++)
        known = slice_equal_text_fold(charset, plain[i]);
    for (size_t i = 0; known && i < text.len; i++)
        known = !(text.ptr[i] & 0x80);
    return known;
}

static void
take_text(struct walk *w, const struct mime_part *part)
{
    struct slice text = part->body;
    struct slice charset = mime_parameter(part->parameters, part->parameter_count, "charset");
    buf_clear(&w->decoded);
    buf_clear(&w->utf8);
    buf_clear(&w->folded);
    if (slice_equal_text_fold(part->encoding, "base64") || slice_equal_text_fold(part->encoding, "quoted-printable")) {
        mime_decode(part->body, part->encoding, &w->decoded);
        text = buf_slice(&w->decoded);
    }
    if (!is_ascii_of(text, charset)) {
        mime_to_utf8(text, charset, &w->utf8);
        text = buf_slice(&w->utf8);
    }
    search_fold(text, &w->folded);
    w->enough = w->take(w->ctx, false, buf_slice(&w->folded));
}

/* Other parts than text are not looked into (RFC 3501 leaves it to us), messages within are. */
static void
take_part(struct walk *w, const struct mime_part *part)
{
    for (unsigned i = 0; i < part->part_count && !w->enough; i++) {
        take_header(w, part->parts[i]->header);
        if (!w->enough)
            take_part(w, part->parts[i]);
    }
    if (part->is_multipart || w->enough)
        return;
    if (part->message) {
        take_header(w, part->message->header);
        if (!w->enough)
            take_part(w, part->message);
    } else if (slice_equal_text_fold(part->type, "text")) {
        take_text(w, part);
    }
}

void
search_text_walk(struct arena *arena, struct slice content, bool with_top, search_text_take *take, void *ctx)
{
    struct walk w = {.arena = arena, .take = take, .ctx = ctx, .is_top = true};
    if (with_top)
        take_header(&w, mime_parse_top(arena, content)->header);
    w.is_top = false;
    if (!w.enough)
        take_part(&w, mime_parse(arena, content));
    buf_release(&w.decoded);
    buf_release(&w.utf8);
    buf_release(&w.folded);
}

const char *
search_text_form(struct arena *arena)
{
    char icu[U_MAX_VERSION_STRING_LENGTH], unicode[U_MAX_VERSION_STRING_LENGTH];
    UVersionInfo version;
    u_getVersion(version);
    u_versionToString(version, icu);
    u_getUnicodeVersion(version);
    u_versionToString(version, unicode);
    return arena_printf(arena, "%d icu %s unicode %s", TEXT_FORM, icu, unicode);
}
