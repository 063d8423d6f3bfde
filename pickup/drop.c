/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "lib/base/text.h"
#include "lib/mail/queue_file_internal.h"
#include "pickup/pickup.h"

enum { RECIPIENT_LIMIT = 1000000, ADDRESS_LIMIT = QUEUE_ADDRESS_LIMIT, TEXT_LIMIT = 1024 };

struct reader {
    struct drop *drop;
    struct arena *scratch;
    bool has_sender, has_time;
    /* what stands before a recipient */
    const char *original, *dsn_original;
    int64_t notify;
    size_t room;
};

static int
corrupt(const struct queue_record *record, const char *what, struct err *err)
{
    return err_set(err, ERR_SYNTAX, "%s at offset %" PRIu64, what, record->offset);
}

/* ---- attributes ---- */

/* What a user may say of a message; the rest is the mail system's to know. */
static bool
is_for_users(struct slice name)
{
    static const char *const names[] = {"encoding", "envelope_id", "ret_flags", "rewrite_context", "trace_flags"};

    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (slice_equal_text(name, names[i]))
            return true;
    return false;
}

static bool
is_queue_attribute(struct slice name)
{
    for (unsigned i = 0; i < queue_attribute_count; i++)
        if (slice_equal_text(name, queue_attributes[i].name))
            return !slice_equal_text(name, "create_time") && !slice_equal_text(name, "message_id");
    return false;
}

/* A value that makes no sense is as good as none. */
static void
set_field(struct drop *drop, const char *name, struct slice value)
{
    const struct msg_field *field = queue_field(name);
    void *at = (char *)&drop->envelope + field->offset;
    unsigned long long number;

    if (field->kind == MSG_TEXT && value.len <= (size_t)field->max)
        *(const char **)at = arena_strndup(drop->arena, value.ptr, value.len);
    else if (field->kind == MSG_INT && slice_to_u64(value, (unsigned long long)field->max, &number) == 0)
        *(int64_t *)at = (int64_t)number;
}

static void
read_notify(struct reader *r, struct slice value)
{
    unsigned long long flags;

    if (slice_to_u64(value, 15, &flags) == 0 && (flags == NOTIFY_NEVER || !(flags & NOTIFY_NEVER)))
        r->notify = (int64_t)flags;
}

static int
read_attribute(struct reader *r, const struct queue_record *record, const char *text, struct err *err)
{
    const char *equals = strchr(text, '=');
    struct slice name, value;

    if (!equals)
        return corrupt(record, "attribute without a value", err);
    name = slice_trim(slice_make(text, (size_t)(equals - text)));
    value = slice_trim(slice_from(equals + 1));
    if (slice_equal_text(name, "notify_flags"))
        read_notify(r, value);
    else if (slice_equal_text(name, "dsn_orig_rcpt"))
        r->dsn_original = value.len <= ADDRESS_LIMIT ? arena_strndup(r->drop->arena, value.ptr, value.len) : NULL;
    else if (is_for_users(name) || (r->drop->is_requeued && is_queue_attribute(name)))
        set_field(r->drop, arena_strndup(r->scratch, name.ptr, name.len), value);
    return 0;
}

/* ---- other records ---- */

static int
read_time(struct reader *r, const struct queue_record *record, const char *text, struct err *err)
{
    struct slice rest = slice_from(text), word;
    unsigned long long sec, usec = 0;

    if (!slice_word(&rest, " ", &word) || slice_to_u64(word, INT32_MAX * 1000LL, &sec) < 0 ||
        (slice_word(&rest, " ", &word) && slice_to_u64(word, 999999, &usec) < 0))
        return corrupt(record, "arrival time", err);
    if (!r->has_time) {
        r->drop->envelope.arrival_sec = (int64_t)sec;
        r->drop->envelope.arrival_usec = (int64_t)usec;
        r->has_time = sec > 0;
    }
    return 0;
}

static void
forget_recipient(struct reader *r)
{
    r->original = r->dsn_original = NULL;
    r->notify = 0;
}

static int
read_recipient(struct reader *r, const struct queue_record *record, const char *text, struct err *err)
{
    struct envelope *e = &r->drop->envelope;

    if (strlen(text) > ADDRESS_LIMIT)
        return corrupt(record, "recipient too long", err);
    if (e->recipient_count == RECIPIENT_LIMIT)
        return corrupt(record, "too many recipients", err);
    if (e->recipient_count == r->room) {
        size_t room = r->room ? r->room * 2 : 4;
        struct envelope_recipient *larger = arena_array(r->drop->arena, room, sizeof *larger);

        if (e->recipient_count)
            memcpy(larger, e->recipients, e->recipient_count * sizeof *larger);
        e->recipients = larger;
        r->room = room;
    }
    e->recipients[e->recipient_count++] =
        (struct envelope_recipient){.address = arena_strdup(r->drop->arena, text),
                                    .original = r->original ? r->original : "",
                                    .dsn_original = r->dsn_original ? r->dsn_original : "",
                                    .notify = r->notify};
    forget_recipient(r);
    return 0;
}

static void
read_verp(struct drop *drop, const char *text)
{
    if (strlen(text) == 2 && strspn(text, "-=+") == 2)
        drop->envelope.verp = arena_strdup(drop->arena, text);
}

static int
read_record(struct reader *r, const struct queue_record *record, struct err *err)
{
    struct drop *drop = r->drop;
    char *text;

    if (record->type == REC_POINTER)
        return drop->is_requeued ? queue_record_follow(&drop->cursor, record, err)
                                 : corrupt(record, "pointer", err);
    if (queue_record_text(&drop->cursor, record, r->scratch, &text, err) < 0)
        return -1;
    switch (record->type) {
    case REC_TIME: return read_time(r, record, text, err);
    case REC_ATTRIBUTE: return read_attribute(r, record, text, err);
    case REC_RECIPIENT: return read_recipient(r, record, text, err);
    case REC_VERP: read_verp(drop, text); return 0;
    case REC_FULL_NAME:
        if (strlen(text) <= TEXT_LIMIT)
            drop->envelope.full_name = arena_strdup(drop->arena, text);
        return 0;
    case REC_SENDER:
        if (strlen(text) > ADDRESS_LIMIT)
            return corrupt(record, "sender too long", err);
        if (!r->has_sender)
            drop->envelope.sender = arena_strdup(drop->arena, text);
        r->has_sender = true;
        return 0;
    case REC_ORIGINAL:
        r->original = strlen(text) <= ADDRESS_LIMIT ? arena_strdup(drop->arena, text) : NULL;
        return 0;
    case REC_DONE:
    case REC_CANCELLED: forget_recipient(r); return 0;
    case REC_SIZE: /* found anew, or of no meaning here */
    case REC_FILTER:
    case REC_INSPECTOR:
    case REC_REDIRECT:
    case REC_KILLED:
    case REC_WARN: return 0;
    default: return corrupt(record, "unexpected record", err);
    }
}

static int
read_segment(struct reader *r, unsigned char end, struct err *err)
{
    struct queue_record record;

    for (;;) {
        if (queue_record_next(&r->drop->cursor, &record, err) < 0)
            return -1;
        if (record.type == end)
            return 0;
        if (read_record(r, &record, err) < 0)
            return -1;
        arena_reset(r->scratch);
    }
}

static bool
is_content(unsigned char type)
{
    return type == REC_TEXT || type == REC_TEXT_PART || type == REC_PADDING;
}

static int
skip_content(struct drop *drop, struct err *err)
{
    struct queue_record record;

    for (;;) {
        if (queue_record_next(&drop->cursor, &record, err) < 0)
            return -1;
        if (record.type == REC_EXTRACTED)
            return 0;
        if (record.type == REC_POINTER && drop->is_requeued) {
            if (queue_record_follow(&drop->cursor, &record, err) < 0)
                return -1;
        } else if (!is_content(record.type)) {
            return corrupt(&record, "unexpected record in the content", err);
        }
    }
}

static int
read_all(struct reader *r, struct err *err)
{
    struct drop *drop = r->drop;

    if (queue_cursor_init(&drop->cursor, drop->arena, drop->fd, 0, err) < 0 ||
        read_segment(r, REC_CONTENT, err) < 0)
        return -1;
    drop->content = drop->cursor.next;
    if (skip_content(drop, err) < 0 || read_segment(r, REC_END, err) < 0)
        return -1;
    if (!r->has_sender)
        return err_set(err, ERR_SYNTAX, "no sender");
    return drop->envelope.recipient_count ? 0 : err_set(err, ERR_SYNTAX, "no recipients");
}

int
drop_read(struct drop *drop, const struct stat *st, struct err *err)
{
    struct reader reader = {.drop = drop, .scratch = arena_new()};
    int result;

    drop->uid = st->st_uid;
    drop->is_requeued = st->st_uid == pickup.owner;
    drop->envelope = envelope_empty();
    drop->envelope.rewrite_context = "local";
    result = read_all(&reader, err);
    arena_free(&reader.scratch);
    if (!reader.has_time) {
        drop->envelope.arrival_sec = st->st_mtim.tv_sec;
        drop->envelope.arrival_usec = st->st_mtim.tv_nsec / 1000;
    }
    return result;
}

/* ---- content ---- */

int
drop_content_begin(struct drop *drop, struct err *err)
{
    drop->wire = (struct wire_state){0};
    drop->ended = false;
    return queue_cursor_init(&drop->cursor, drop->arena, drop->fd, drop->content, err);
}

static int
put_text(struct drop *drop, const struct queue_record *record, struct buf *out, struct err *err)
{
    struct slice bytes;

    for (uint64_t at = 0; at < record->length; at += bytes.len) {
        if (queue_record_data(&drop->cursor, record, at, &bytes, err) < 0)
            return -1;
        while (bytes.len > 0) {
            /* A line end within a record is none: it would begin a line that nobody checked. */
            const char *lf = memchr(bytes.ptr, '\n', bytes.len);
            size_t n = lf ? (size_t)(lf - bytes.ptr) : bytes.len;

            wire_encode(&drop->wire, slice_make(bytes.ptr, n), out);
            if (!lf) {
                at += n;
                bytes.len = 0;
                break;
            }
            wire_encode(&drop->wire, slice_make(" ", 1), out);
            at += n + 1;
            bytes = slice_make(lf + 1, bytes.len - n - 1);
        }
    }
    if (record->type == REC_TEXT)
        wire_encode(&drop->wire, slice_make("\n", 1), out);
    return 0;
}

int
drop_content(struct drop *drop, size_t size, struct buf *out, struct err *err)
{
    struct queue_record record;

    while (!drop->ended && out->len < size) {
        if (queue_record_next(&drop->cursor, &record, err) < 0)
            return -1;
        if (record.type == REC_EXTRACTED) {
            wire_encode_end(&drop->wire, out);
            drop->ended = true;
        } else if (record.type == REC_POINTER) {
            if (queue_record_follow(&drop->cursor, &record, err) < 0)
                return -1;
        } else if (record.type != REC_PADDING && put_text(drop, &record, out, err) < 0) {
            return -1;
        }
    }
    return 0;
}
