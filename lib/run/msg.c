/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/msg.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/text.h"

enum { INT_TEXT_SIZE = 24 }; /* holds any int64_t in decimal */

static const char *
text_of(const struct msg_field *f, const void *fields)
{
    const char *const *p = (const void *)((const char *)fields + f->offset);

    return *p ? *p : "";
}

static int64_t
int_of(const struct msg_field *f, const void *fields)
{
    const int64_t *p = (const void *)((const char *)fields + f->offset);

    return *p;
}

/* --- encoding --- */

/* Decimal digits of value, written so that they end before `end`; returns where they start. */
static char *
format_int(int64_t value, char *end)
{
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    do {
        *--end = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0)
        *--end = '-';
    return end;
}

static void
append_pair(struct buf *out, const char *name, const char *value, size_t value_len)
{
    size_t name_len = strlen(name);
    char *to = buf_reserve(out, name_len + value_len + 2);

    memcpy(to, name, name_len + 1);
    memcpy(to + name_len + 1, value, value_len);
    to[name_len + 1 + value_len] = '\0';
    buf_added(out, name_len + value_len + 2);
}

static void
encode_field(const struct msg_field *f, const void *fields, bool always, struct buf *out)
{
    char digits[INT_TEXT_SIZE];
    const char *text;

    if (f->kind == MSG_TEXT) {
        text = text_of(f, fields);
        if (always || *text)
            append_pair(out, f->name, text, strnlen(text, (size_t)f->max));
    } else {
        int64_t value = int_of(f, fields);

        if (!always && value == 0)
            return;
        text = format_int(value, digits + sizeof(digits));
        append_pair(out, f->name, text, (size_t)(digits + sizeof(digits) - text));
    }
}

static void
list_of(const struct msg_type *type, const void *message, const char **items, size_t *count)
{
    const void *const *items_at = (const void *)((const char *)message + type->items_offset);
    const size_t *count_at = (const void *)((const char *)message + type->count_offset);

    *items = *items_at;
    *count = *count_at;
}

void
msg_encode(const struct msg_type *type, const void *message, struct buf *out)
{
    for (unsigned i = 0; i < type->field_count; i++)
        encode_field(&type->fields[i], message, false, out);
    if (type->item_size) {
        const char *item;
        size_t count;

        for (list_of(type, message, &item, &count); count > 0; count--, item += type->item_size)
            for (unsigned i = 0; i < type->item_field_count; i++)
                encode_field(&type->item_fields[i], item, i == 0, out);
    }
    buf_append_byte(out, '\0');
}

/* --- decoding --- */

struct decoder {
    const struct msg_type *type;
    struct arena *arena;
    struct slice in;
    void *message;
    unsigned next;      /* the first of the message's fields that may still come */
    unsigned item_next; /* the same in the current item */
    char *items;
    size_t count, room;
    struct err *err;
};

/* Takes the text up to the next NUL off the front. */
static int
take_text(struct decoder *d, struct slice *text)
{
    const char *end = d->in.len ? memchr(d->in.ptr, '\0', d->in.len) : NULL;

    if (!end)
        return err_set(d->err, ERR_SYNTAX, "%s: cut short", d->type->name);
    *text = slice_make(d->in.ptr, (size_t)(end - d->in.ptr));
    d->in = slice_make(end + 1, d->in.len - text->len - 1);
    return 0;
}

/* One form for each number, so that what was decoded encodes to the same bytes: no plus, no leading zeros, no -0. */
static int
parse_int(struct slice text, int64_t *value)
{
    bool negative = text.len > 0 && text.ptr[0] == '-';
    struct slice digits = negative ? slice_make(text.ptr + 1, text.len - 1) : text;
    unsigned long long n;

    if (digits.len == 0 || (digits.ptr[0] == '0' && (digits.len > 1 || negative)))
        return -1;
    if (slice_to_u64(digits, (unsigned long long)INT64_MAX + negative, &n) < 0)
        return -1;
    *value = negative ? (int64_t)(0 - n) : (int64_t)n;
    return 0;
}

/* empty_ok: the first field of an item, which is always sent. */
static int
store(struct decoder *d, const struct msg_field *f, void *fields, struct slice value, bool empty_ok)
{
    if (f->kind == MSG_TEXT) {
        const char **to = (void *)((char *)fields + f->offset);

        if (value.len > (uint64_t)f->max || (value.len == 0 && !empty_ok))
            return err_set(d->err, ERR_SYNTAX, "%s: %s: length %zu", d->type->name, f->name, value.len);
        *to = value.ptr;
    } else {
        int64_t *to = (void *)((char *)fields + f->offset);

        if (parse_int(value, to) < 0 || (*to == 0 && !empty_ok) || *to < f->min || *to > f->max)
            return err_set(d->err, ERR_SYNTAX, "%s: %s: bad number", d->type->name, f->name);
    }
    return 0;
}

/* The index of the field with that name, from `from` on; count if there is none. */
static unsigned
find_field(const struct msg_field *fields, unsigned count, unsigned from, struct slice name)
{
    unsigned i = from;

    while (i < count && !(fields[i].name[0] == name.ptr[0] && strcmp(fields[i].name, name.ptr) == 0))
        i++;
    return i;
}

static void
set_empty_texts(const struct msg_field *fields, unsigned count, void *to)
{
    for (unsigned i = 0; i < count; i++)
        if (fields[i].kind == MSG_TEXT)
            *(const char **)(void *)((char *)to + fields[i].offset) = "";
}

static int
new_item(struct decoder *d)
{
    const struct msg_type *type = d->type;

    if (d->count >= type->item_max)
        return err_set(d->err, ERR_SYNTAX, "%s: more than %zu items", type->name, type->item_max);
    if (d->count == d->room) {
        size_t room = d->room ? d->room * 4 : 1; /* one recipient is the usual number */
        char *items = arena_array(d->arena, room, type->item_size);

        if (d->count)
            memcpy(items, d->items, d->count * type->item_size);
        d->items = items;
        d->room = room;
    }
    set_empty_texts(type->item_fields, type->item_field_count, d->items + d->count * type->item_size);
    d->count++;
    return 0;
}

static int
decode_item_field(struct decoder *d, struct slice name, struct slice value)
{
    const struct msg_type *type = d->type;
    unsigned from = 0, i;

    if (d->count > 0 && strcmp(type->item_fields[0].name, name.ptr) != 0)
        from = d->item_next;
    i = find_field(type->item_fields, type->item_field_count, from, name);
    if (i == type->item_field_count || (i > 0 && d->count == 0))
        return err_set(d->err, ERR_SYNTAX, "%s: unexpected field", type->name);
    if (i == 0 && new_item(d) < 0)
        return -1;
    d->item_next = i + 1;
    return store(d, &type->item_fields[i], d->items + (d->count - 1) * type->item_size, value, i == 0);
}

static int
decode_pair(struct decoder *d, struct slice name)
{
    const struct msg_type *type = d->type;
    struct slice value;
    unsigned i;

    if (take_text(d, &value) < 0)
        return -1;
    i = find_field(type->fields, type->field_count, d->next, name);
    if (i < type->field_count) {
        d->next = i + 1;
        return store(d, &type->fields[i], d->message, value, false);
    }
    if (!type->item_size)
        return err_set(d->err, ERR_SYNTAX, "%s: unexpected field", type->name);
    d->next = type->field_count;
    return decode_item_field(d, name, value);
}

/* A number whose range leaves out 0 must have come. */
static int
check_required(struct decoder *d, const struct msg_field *fields, unsigned count, const void *from)
{
    for (unsigned i = 0; i < count; i++)
        if (fields[i].kind == MSG_INT && (fields[i].min > 0 || fields[i].max < 0) && int_of(&fields[i], from) == 0)
            return err_set(d->err, ERR_SYNTAX, "%s: %s: missing", d->type->name, fields[i].name);
    return 0;
}

static int
check_all_required(struct decoder *d)
{
    const struct msg_type *type = d->type;

    if (check_required(d, type->fields, type->field_count, d->message) < 0)
        return -1;
    for (size_t i = 0; i < d->count; i++)
        if (check_required(d, type->item_fields, type->item_field_count, d->items + i * type->item_size) < 0)
            return -1;
    return 0;
}

void *
msg_decode(struct arena *arena, const struct msg_type *type, struct slice bytes, struct slice *rest, struct err *err)
{
    struct decoder d = {.type = type, .arena = arena, .in = bytes, .err = err};
    struct slice name;

    d.message = arena_alloc(arena, type->size);
    set_empty_texts(type->fields, type->field_count, d.message);
    for (;;) {
        if (take_text(&d, &name) < 0)
            return NULL;
        if (name.len == 0)
            break;
        if (decode_pair(&d, name) < 0)
            return NULL;
    }
    if (check_all_required(&d) < 0)
        return NULL;
    if (type->item_size) {
        *(void **)(void *)((char *)d.message + type->items_offset) = d.items;
        *(size_t *)(void *)((char *)d.message + type->count_offset) = d.count;
    }
    *rest = d.in;
    return d.message;
}

/* --- for people --- */

static void
dump_fields(const struct msg_field *fields, unsigned count, const void *from, struct buf *out)
{
    for (unsigned i = 0; i < count; i++) {
        const struct msg_field *f = &fields[i];

        if (f->kind == MSG_INT) {
            if (int_of(f, from))
                buf_printf(out, " %s=%" PRId64, f->name, int_of(f, from));
        } else if (*text_of(f, from)) {
            buf_printf(out, " %s=", f->name);
            size_t at = out->len;

            buf_append_text(out, text_of(f, from));
            text_printable(out->ptr + at, out->len - at, '?', false);
        }
    }
}

void
msg_dump(const struct msg_type *type, const void *message, struct buf *out)
{
    buf_append_text(out, type->name);
    dump_fields(type->fields, type->field_count, message, out);
    if (type->item_size) {
        const char *item;
        size_t count;

        for (list_of(type, message, &item, &count); count > 0; count--, item += type->item_size) {
            buf_append_text(out, " {");
            dump_fields(type->item_fields, type->item_field_count, item, out);
            buf_append_text(out, " }");
        }
    }
}
