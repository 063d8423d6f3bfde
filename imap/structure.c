/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/structure.h"

#include <string.h>

#include "lib/imap/output.h"

/* ---- ENVELOPE ---- */

static void
put_addresses(struct arena *arena, struct slice value, bool utf8, struct buf *out)
{
    struct mime_address *list;
    unsigned count = mime_addresses(arena, value, &list);
    if (count == 0) {
        buf_append_text(out, "NIL");
        return;
    }
    buf_append_byte(out, '(');
    for (unsigned i = 0; i < count; i++) {
        const struct mime_address *a = &list[i];
        buf_append_byte(out, '(');
        imap_put_nstring(out, a->name, utf8);
        buf_append_byte(out, ' ');
        imap_put_nstring(out, a->route, utf8);
        buf_append_byte(out, ' ');
        imap_put_nstring(out, a->local, utf8);
        buf_append_byte(out, ' ');
        if (a->group_begin || a->group_end)
            buf_append_text(out, "NIL");
        else
            imap_put_string(out, a->domain, utf8);
        buf_append_byte(out, ')');
    }
    buf_append_byte(out, ')');
}

static void
put_field(struct arena *arena, const struct slice *values, unsigned i, bool utf8, struct buf *out)
{
    if (!values[i].ptr)
        buf_append_text(out, "NIL");
    else
        imap_put_string(out, mime_unfold(arena, values[i]), utf8);
}

void
structure_put_envelope(struct arena *arena, struct slice header, bool utf8, struct buf *out)
{
    enum { DATE, SUBJECT, FROM, SENDER, REPLY_TO, TO, CC, BCC, IN_REPLY_TO, MESSAGE_ID, FIELDS };
    static const char *const names[] = {"date", "subject", "from", "sender",      "reply-to",
                                        "to",   "cc",      "bcc",  "in-reply-to", "message-id"};
    struct slice values[FIELDS] = {{0}}, name, value;

    while (mime_field_next(&header, &name, &value))
        for (unsigned i = 0; i < FIELDS; i++)
            if (!values[i].ptr && slice_equal_text_fold(name, names[i])) {
                values[i] = slice_trim(value);
                if (!values[i].ptr)
                    values[i].ptr = "";
            }
    buf_append_byte(out, '(');
    put_field(arena, values, DATE, utf8, out);
    buf_append_byte(out, ' ');
    put_field(arena, values, SUBJECT, utf8, out);
    for (unsigned i = FROM; i <= BCC; i++) {
        struct slice list = values[i];
        if ((i == SENDER || i == REPLY_TO) && list.len == 0)
            list = values[FROM];
        buf_append_byte(out, ' ');
        put_addresses(arena, list, utf8, out);
    }
    buf_append_byte(out, ' ');
    put_field(arena, values, IN_REPLY_TO, utf8, out);
    buf_append_byte(out, ' ');
    put_field(arena, values, MESSAGE_ID, utf8, out);
    buf_append_byte(out, ')');
}

/* ---- BODY, BODYSTRUCTURE ---- */

static void
put_parameters(const struct mime_parameter *list, unsigned count, bool utf8, struct buf *out)
{
    if (count == 0) {
        buf_append_text(out, "NIL");
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        buf_append_byte(out, i ? ' ' : '(');
        imap_put_string(out, list[i].name, utf8);
        buf_append_byte(out, ' ');
        imap_put_string(out, list[i].value, utf8);
    }
    buf_append_byte(out, ')');
}

/* A field's value as it stands, or NIL. */
static void
put_header(struct arena *arena, const struct mime_part *part, const char *name, bool utf8, struct buf *out)
{
    struct slice value;
    if (mime_field_find(part->header, name, &value))
        imap_put_nstring(out, mime_unfold(arena, value), utf8);
    else
        buf_append_text(out, "NIL");
}

static void
put_languages(struct arena *arena, const struct mime_part *part, bool utf8, struct buf *out)
{
    struct slice value, word;
    unsigned count = 0;
    if (mime_field_find(part->header, "content-language", &value)) {
        value = mime_unfold(arena, value);
        while (slice_word(&value, ", ", &word)) {
            buf_append_byte(out, count++ ? ' ' : '(');
            imap_put_string(out, word, utf8);
        }
    }
    buf_append_text(out, count ? ")" : "NIL");
}

/* disposition, language, location */
static void
put_extension(struct arena *arena, const struct mime_part *part, bool utf8, struct buf *out)
{
    if (part->disposition.len == 0) {
        buf_append_text(out, "NIL");
    } else {
        buf_append_byte(out, '(');
        imap_put_string(out, part->disposition, utf8);
        buf_append_byte(out, ' ');
        put_parameters(part->disposition_parameters, part->disposition_parameter_count, utf8, out);
        buf_append_byte(out, ')');
    }
    buf_append_byte(out, ' ');
    put_languages(arena, part, utf8, out);
    buf_append_byte(out, ' ');
    put_header(arena, part, "content-location", utf8, out);
}

static void
put_single(struct arena *arena, const struct mime_part *part, bool extended, bool utf8, struct buf *out)
{
    imap_put_string(out, part->type, utf8);
    buf_append_byte(out, ' ');
    imap_put_string(out, part->subtype, utf8);
    buf_append_byte(out, ' ');
    if (part->parameter_count == 0 && slice_equal_text_fold(part->type, "text"))
        buf_append_text(out, "(\"charset\" \"us-ascii\")");
    else
        put_parameters(part->parameters, part->parameter_count, utf8, out);
    buf_append_byte(out, ' ');
    put_header(arena, part, "content-id", utf8, out);
    buf_append_byte(out, ' ');
    put_header(arena, part, "content-description", utf8, out);
    buf_append_byte(out, ' ');
    imap_put_string(out, part->encoding, utf8);
    buf_printf(out, " %llu", (unsigned long long)part->body_wire);
    if (part->message) {
        buf_append_byte(out, ' ');
        structure_put_envelope(arena, part->message->header, utf8, out);
        buf_append_byte(out, ' ');
        structure_put_body(arena, part->message, extended, utf8, out);
    }
    if (part->message || slice_equal_text_fold(part->type, "text"))
        buf_printf(out, " %llu", (unsigned long long)part->lines);
    if (!extended)
        return;
    buf_append_byte(out, ' ');
    put_header(arena, part, "content-md5", utf8, out);
    buf_append_byte(out, ' ');
    put_extension(arena, part, utf8, out);
}

/* Recursive to the depth of the tree, which mime_parse() bounds. */
void
structure_put_body(struct arena *arena, const struct mime_part *part, bool extended, bool utf8, struct buf *out)
{
    buf_append_byte(out, '(');
    if (!part->is_multipart) {
        put_single(arena, part, extended, utf8, out);
        buf_append_byte(out, ')');
        return;
    }
    for (unsigned i = 0; i < part->part_count; i++)
        structure_put_body(arena, part->parts[i], extended, utf8, out);
    buf_append_byte(out, ' ');
    imap_put_string(out, part->subtype, utf8);
    if (extended) {
        buf_append_byte(out, ' ');
        put_parameters(part->parameters, part->parameter_count, utf8, out);
        buf_append_byte(out, ' ');
        put_extension(arena, part, utf8, out);
    }
    buf_append_byte(out, ')');
}

/* ---- sections ---- */

/* Part 1 of what is not multipart is that itself; below it there is nothing, but for what is in a message. */
const struct mime_part *
structure_find(const struct mime_part *part, const uint32_t *numbers, unsigned count)
{
    bool is_leaf = false;
    for (unsigned i = 0; i < count; i++) {
        if (i > 0 && part->message) {
            part = part->message;
            is_leaf = false;
        }
        if (is_leaf)
            return NULL;
        if (part->is_multipart) {
            if (numbers[i] > part->part_count)
                return NULL;
            part = part->parts[numbers[i] - 1];
            is_leaf = !part->is_multipart;
        } else if (numbers[i] == 1) {
            is_leaf = true;
        } else {
            return NULL;
        }
    }
    return part;
}
