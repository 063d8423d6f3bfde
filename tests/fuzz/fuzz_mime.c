/* SPDX-License-Identifier: Apache-2.0 */
/* A message taken apart: every part lies within the message, limits hold, and what FETCH makes of it (structure, envelope, preview, sections by
 * URL) can be made. */
#include <stddef.h>
#include <stdint.h>

#include "imap/attributes.h"
#include "imap/structure.h"
#include "imap/url.h"
#include "lib/base/check.h"
#include "lib/mail/mime.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static bool
is_within(struct slice inner, struct slice outer)
{
    return inner.len == 0 || (inner.ptr >= outer.ptr && inner.ptr + inner.len <= outer.ptr + outer.len);
}

/* How many parts there are from here on down; depth is bounded by the parser. */
static unsigned
count_parts(const struct mime_part *part, struct slice whole, unsigned depth)
{
    unsigned count = 1;
    check(depth <= 2 * MIME_DEPTH + 2);
    check(is_within(part->header, whole) && is_within(part->body, whole));
    for (unsigned i = 0; i < part->part_count; i++)
        count += count_parts(part->parts[i], whole, depth + 1);
    return part->message ? count + count_parts(part->message, whole, depth + 1) : count;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const char *const sections[] = {"", "1", "1.2", "HEADER", "1.TEXT", "1.MIME"};
    struct slice whole = slice_make((const char *)bytes, len), part;
    struct arena *arena = arena_new();
    struct buf out = {0};
    const struct mime_part *message = mime_parse(arena, whole);

    check(count_parts(message, whole, 0) <= 2 * MIME_PARTS + 2);
    structure_put_body(arena, message, true, false, &out);
    structure_put_envelope(arena, message->header, true, &out);
    buf_clear(&out);
    attributes_preview(message, &out);
    check(out.len <= 4 * PREVIEW_LENGTH);
    for (size_t i = 0; i < ARRAY_LEN(sections); i++)
        if (imap_url_section(arena, whole, slice_from(sections[i]), &part))
            check(is_within(part, whole));
    buf_release(&out);
    arena_free(&arena);
    return 0;
}
