/* SPDX-License-Identifier: Apache-2.0 */
/* Readers tolerate what Postfix's qmgr tolerates: wrong counts, unknown attributes, values that make no sense (which are
 * ignored); the records' frame, the size record and what a message can't do without have to be right. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/text.h"
#include "lib/mail/queue_file_internal.h"
#include "lib/mail/queue_record.h"

enum { RECIPIENT_LIMIT = 1000000, ROOM_AT_FIRST = 20000 };

/* The size record's numbers. */
enum { SIZE_CONTENT, SIZE_OFFSET, SIZE_RECIPIENTS, SIZE_FLAGS, SIZE_LENGTH, SIZE_SENDOPTS, SIZE_NUMBERS };

struct reader {
    struct queue_cursor cursor;
    struct arena *arena;
    struct arena *scratch;        /* for texts of records; what is kept is copied */
    struct arena *recipients;     /* for recipients and their texts */
    struct queue_file_rest *rest; /* NULL: all recipients are stored */
    size_t recipient_count;       /* seen, stored or not */
    bool in_extracted;
    bool only_more; /* nothing matters behind the first recipient that is not stored */
    struct envelope *envelope;
    int64_t size[SIZE_NUMBERS];
    uint64_t seen; /* bit i: queue_attributes[i] was set */
    bool has_sender, has_time, has_warn, has_name, has_verp;
    /* What stands before a recipient and is meant for it. */
    const char *original, *dsn_original;
    int64_t notify;
    size_t room;
    struct err *err;
};

static int
corrupt(struct reader *r, const struct queue_record *record, const char *what)
{
    return err_set(r->err, ERR_SYNTAX, "queue file: %s at %" PRIu64, what, record->offset);
}

/* A decimal number, blanks around it; minus allowed. */
static bool
to_number(struct slice text, int64_t *value)
{
    unsigned long long n;
    bool negative;

    text = slice_trim(text);
    negative = text.len > 0 && text.ptr[0] == '-';
    if (negative)
        text = slice_make(text.ptr + 1, text.len - 1);
    if (slice_to_u64(text, INT64_MAX, &n) < 0)
        return false;
    *value = negative ? -(int64_t)n : (int64_t)n;
    return true;
}

/* ---- size record ---- */

static int
read_size(struct reader *r)
{
    struct queue_record record;
    struct slice rest, word;
    char *text;
    int n = 0;

    if (queue_record_next(&r->cursor, &record, r->err) < 0)
        return -1;
    if (record.type != REC_SIZE)
        return corrupt(r, &record, "no size record");
    if (queue_record_text(&r->cursor, &record, r->scratch, &text, r->err) < 0)
        return -1;
    for (rest = slice_from(text); n < SIZE_NUMBERS && slice_word(&rest, " \t", &word); n++)
        if (!to_number(word, &r->size[n]) || r->size[n] < 0)
            return corrupt(r, &record, "size record with something else than numbers");
    if (n < SIZE_FLAGS || r->size[SIZE_CONTENT] == 0 || r->size[SIZE_OFFSET] == 0)
        return corrupt(r, &record, "unfinished size record");
    if (r->size[SIZE_FLAGS] & ~(int64_t)QUEUE_FLAGS_KNOWN)
        return corrupt(r, &record, "unknown flags in the size record");
    return 0;
}

/* ---- attributes ---- */

static bool
is_notify(int64_t value)
{
    return value == NOTIFY_NEVER || (value > 0 && value < 16 && !(value & NOTIFY_NEVER));
}

/* Sets a field of the envelope if the value makes sense for it. */
static bool
set_field(struct reader *r, const struct msg_field *field, struct slice value)
{
    void *at = (char *)r->envelope + field->offset;

    if (field->kind == MSG_INT) {
        int64_t number;

        if (!to_number(value, &number) || number < field->min || number > field->max)
            return false;
        *(int64_t *)at = number;
    } else {
        if (value.len > (size_t)field->max)
            return false;
        *(const char **)at = arena_strndup(r->arena, value.ptr, value.len);
    }
    return true;
}

static void
set_attribute(struct reader *r, struct slice name, struct slice value)
{
    for (unsigned i = 0; i < queue_attribute_count; i++) {
        const struct queue_attribute *attribute = &queue_attributes[i];

        if (!slice_equal_text(name, attribute->name))
            continue;
        if ((r->seen & UINT64_C(1) << i) && !attribute->last_wins)
            return;
        if (slice_equal_text(name, "ret_flags") && !slice_equal_text(value, "1") && !slice_equal_text(value, "2"))
            return;
        if (set_field(r, queue_field(attribute->name), value))
            r->seen |= UINT64_C(1) << i;
        return;
    }
}

/* All are stored that are wanted: what stands before further recipients is not kept. */
static bool
is_full(const struct reader *r)
{
    return r->rest && r->envelope->recipient_count == r->rest->most;
}

static void
add_attribute(struct reader *r, struct slice name, struct slice value)
{
    int64_t number;

    if (slice_equal_text(name, "notify_flags")) {
        if (to_number(value, &number) && is_notify(number))
            r->notify = number;
    } else if (slice_equal_text(name, "dsn_orig_rcpt")) {
        r->dsn_original = value.len <= 2048 && !is_full(r) ? arena_strndup(r->recipients, value.ptr, value.len) : "";
    } else {
        set_attribute(r, name, value);
    }
}

static int
read_attribute(struct reader *r, const struct queue_record *record, const char *text)
{
    const char *equals = strchr(text, '=');
    struct slice name;

    if (!equals)
        return corrupt(r, record, "attribute without a value");
    name = slice_trim(slice_make(text, (size_t)(equals - text)));
    if (name.len == 0)
        return corrupt(r, record, "attribute without a name");
    add_attribute(r, name, slice_trim(slice_from(equals + 1)));
    return 0;
}

/* ---- recipients ---- */

/* What the size record says is a good guess, if a limit is known that it may not pass. */
static size_t
first_room(const struct reader *r)
{
    size_t said = (size_t)r->size[SIZE_RECIPIENTS];

    if (!r->rest || said == 0)
        return 1;
    if (said > r->rest->most)
        said = r->rest->most;
    return said < ROOM_AT_FIRST ? said : ROOM_AT_FIRST;
}

static struct envelope_recipient *
new_recipient(struct reader *r)
{
    struct envelope *e = r->envelope;

    if (e->recipient_count == r->room) {
        size_t room = r->room ? r->room * 2 : first_room(r);
        struct envelope_recipient *items = arena_array(r->recipients, room, sizeof(*items));

        if (e->recipient_count)
            memcpy(items, e->recipients, e->recipient_count * sizeof(*items));
        e->recipients = items;
        r->room = room;
    }
    return &e->recipients[e->recipient_count++];
}

static bool
is_to_be_stored(struct reader *r, int status)
{
    if (!r->rest)
        return true;
    if (status != RCPT_TODO)
        return false;
    if (is_full(r)) {
        r->rest->more = true;
        return false;
    }
    return true;
}

static void
store_recipient(struct reader *r, const struct queue_record *record, const char *text, int status)
{
    *new_recipient(r) = (struct envelope_recipient){.address = arena_strdup(r->recipients, text),
                                                    .original = r->original ? r->original : "",
                                                    .dsn_original = r->dsn_original ? r->dsn_original : "",
                                                    .notify = r->notify,
                                                    .status = status,
                                                    .offset = (int64_t)record->offset};
    if (is_full(r)) {
        r->rest->next = r->cursor.next;
        r->rest->in_extracted = r->in_extracted;
    }
}

static int
read_recipient(struct reader *r, const struct queue_record *record, const char *text, int status)
{
    if (strlen(text) > QUEUE_ADDRESS_LIMIT)
        return corrupt(r, record, "recipient too long");
    if (r->recipient_count++ == RECIPIENT_LIMIT)
        return corrupt(r, record, "too many recipients");
    if (is_to_be_stored(r, status))
        store_recipient(r, record, text, status);
    r->original = r->dsn_original = NULL;
    r->notify = 0;
    return 0;
}

/* ---- the other records ---- */

static void
set_text(struct reader *r, const char **field, const char *text, size_t limit)
{
    if (strlen(text) <= limit)
        *field = arena_strdup(r->arena, text);
}

static int
read_time(struct reader *r, const struct queue_record *record, const char *text)
{
    struct slice rest = slice_from(text), word;
    int64_t sec = 0, usec = 0;

    if (r->has_time)
        return 0;
    if (!slice_word(&rest, " ", &word) || !to_number(word, &sec) || sec < 0)
        return corrupt(r, record, "arrival time");
    if (slice_word(&rest, " ", &word) && (!to_number(word, &usec) || usec < 0 || usec > 999999))
        return corrupt(r, record, "arrival time");
    r->envelope->arrival_sec = sec;
    r->envelope->arrival_usec = usec;
    r->has_time = sec > 0;
    return 0;
}

static int
read_sender(struct reader *r, const struct queue_record *record, const char *text)
{
    if (r->has_sender)
        return 0;
    if (strlen(text) > QUEUE_ADDRESS_LIMIT)
        return corrupt(r, record, "sender too long");
    r->envelope->sender = arena_strdup(r->arena, text);
    r->has_sender = true;
    return 0;
}

static void
read_verp(struct reader *r, const char *text)
{
    if (!r->has_verp && strlen(text) == 2 && strspn(text, "-=+") == 2) {
        set_text(r, &r->envelope->verp, text, 2);
        r->has_verp = true;
    }
}

static void
read_warn(struct reader *r, const char *text)
{
    int64_t value;

    if (!r->has_warn && to_number(slice_from(text), &value) && value >= -1) {
        r->envelope->warn_time = value;
        r->has_warn = true;
    }
}

static void
read_original(struct reader *r, const char *text)
{
    if (strlen(text) <= 2048 && !is_full(r))
        r->original = arena_strdup(r->recipients, text);
}

/* Records that stood for attributes in old versions. */
static const char *
pseudo_name(unsigned char type)
{
    switch (type) {
    case 'c': return "create_time";
    case 'i': return "envelope_id";
    case '<': return "ret_flags";
    case 'o': return "dsn_orig_rcpt";
    case 'n': return "notify_flags";
    default: return NULL;
    }
}

/* A record of the envelope or the extracted segment. */
static int
read_text_record(struct reader *r, const struct queue_record *record, const char *text)
{
    struct envelope *e = r->envelope;

    switch (record->type) {
    case REC_TIME: return read_time(r, record, text);
    case REC_ATTRIBUTE: return read_attribute(r, record, text);
    case REC_SENDER: return read_sender(r, record, text);
    case REC_ORIGINAL: read_original(r, text); return 0;
    case REC_FILTER: set_text(r, &e->content_filter, text, 1024); return 0;
    case REC_INSPECTOR: set_text(r, &e->inspector, text, 1024); return 0;
    case REC_REDIRECT: set_text(r, &e->redirect, text, 2048); return 0;
    case REC_VERP: read_verp(r, text); return 0;
    case REC_WARN: read_warn(r, text); return 0;
    case REC_FULL_NAME:
        if (!r->has_name)
            set_text(r, &e->full_name, text, 1024);
        r->has_name = true;
        return 0;
    case 'c':
    case 'i':
    case '<':
    case 'o':
    case 'n': add_attribute(r, slice_from(pseudo_name(record->type)), slice_trim(slice_from(text))); return 0;
    default: return corrupt(r, record, "unexpected record");
    }
}

static int
read_record(struct reader *r, const struct queue_record *record)
{
    int status = queue_recipient_status(record->type);
    char *text;

    switch (record->type) {
    case REC_POINTER: return queue_record_follow(&r->cursor, record, r->err);
    case REC_KILLED:
    case 'r':
    case 'e':
    case 'P': return 0;
    }
    if (queue_record_text(&r->cursor, record, r->scratch, &text, r->err) < 0)
        return -1;
    if (status >= 0)
        return read_recipient(r, record, text, status);
    return read_text_record(r, record, text);
}

/* Records up to the one of type `end`. */
static int
read_segment(struct reader *r, unsigned char end)
{
    struct queue_record record;

    for (;;) {
        if (queue_record_next(&r->cursor, &record, r->err) < 0)
            return -1;
        if (record.type == end)
            break;
        if (record.type == REC_SIZE && end == REC_CONTENT)
            continue;
        if (read_record(r, &record) < 0)
            return -1;
        arena_reset(r->scratch);
        if (r->only_more && r->rest->more)
            return 0;
    }
    r->original = r->dsn_original = NULL;
    r->notify = 0;
    return 0;
}

/* Over the content to the X that the size record promises. */
static int
jump_content(struct reader *r)
{
    struct queue_record record;

    if (r->cursor.next != (uint64_t)r->size[SIZE_OFFSET])
        return err_set(r->err, ERR_SYNTAX, "queue file: the content is not where the size record says");
    if ((uint64_t)r->size[SIZE_CONTENT] > r->cursor.file_size - r->cursor.next)
        return err_set(r->err, ERR_SYNTAX, "queue file: the content is longer than the file");
    r->cursor.next += (uint64_t)r->size[SIZE_CONTENT];
    if (queue_record_next(&r->cursor, &record, r->err) < 0)
        return -1;
    if (record.type != REC_EXTRACTED)
        return corrupt(r, &record, "the content does not end where the size record says");
    return 0;
}

static int
read_all(struct reader *r, uint64_t *content_offset)
{
    if (read_size(r) < 0 || read_segment(r, REC_CONTENT) < 0)
        return -1;
    *content_offset = r->cursor.next;
    if (jump_content(r) < 0)
        return -1;
    r->in_extracted = true;
    if (read_segment(r, REC_END) < 0)
        return -1;
    if (!r->has_sender)
        return err_set(r->err, ERR_SYNTAX, "queue file: no sender");
    if (!r->has_time)
        return err_set(r->err, ERR_SYNTAX, "queue file: no arrival time");
    r->envelope->text_length = r->size[SIZE_LENGTH] ? r->size[SIZE_LENGTH] : r->size[SIZE_CONTENT];
    r->envelope->sendopts = r->size[SIZE_SENDOPTS] & 255;
    return 0;
}

static int
read_file(int fd, struct arena *arena, struct arena *recipients, struct envelope *envelope, uint64_t *content_offset,
          struct queue_file_rest *rest, struct err *err)
{
    struct reader r = {.arena = arena,
                       .scratch = arena_new(),
                       .recipients = recipients,
                       .rest = rest,
                       .envelope = envelope,
                       .err = err};
    struct arena *buffers = arena_new();
    int result;

    *envelope = envelope_empty();
    result = queue_cursor_init(&r.cursor, buffers, fd, 0, err);
    if (result == 0)
        result = read_all(&r, content_offset);
    if (rest)
        rest->total = r.recipient_count;
    arena_free(&r.scratch);
    arena_free(&buffers);
    return result;
}

int
queue_file_read(int fd, struct arena *arena, struct envelope *envelope, uint64_t *content_offset, struct err *err)
{
    return read_file(fd, arena, arena, envelope, content_offset, NULL, err);
}

int
queue_file_read_some(int fd, struct arena *arena, struct arena *recipients, struct envelope *envelope,
                     uint64_t *content_offset, struct queue_file_rest *rest, struct err *err)
{
    rest->more = false;
    return read_file(fd, arena, recipients, envelope, content_offset, rest, err);
}

/* From where the last reading stopped to the end, or to the first recipient that is too many. */
static int
read_rest(struct reader *r)
{
    bool in_extracted = r->rest->in_extracted;

    if (read_size(r) < 0)
        return -1;
    r->cursor.next = r->rest->next;
    if (!in_extracted) {
        if (read_segment(r, REC_CONTENT) < 0)
            return -1;
        if (r->rest->more)
            return 0;
        if (jump_content(r) < 0)
            return -1;
    }
    r->in_extracted = true;
    return read_segment(r, REC_END);
}

int
queue_file_read_more(int fd, struct arena *arena, struct queue_file_rest *rest, struct envelope_recipient **recipients,
                     size_t *count, struct err *err)
{
    struct arena *buffers = arena_new();
    struct envelope envelope = envelope_empty(); /* what else stands there was taken by the first reading */
    struct reader r = {.arena = buffers,
                       .scratch = arena_new(),
                       .recipients = arena,
                       .rest = rest,
                       .only_more = true,
                       .envelope = &envelope,
                       .err = err};
    int result = queue_cursor_init(&r.cursor, buffers, fd, 0, err);

    rest->more = false;
    if (result == 0)
        result = read_rest(&r);
    *recipients = envelope.recipients;
    *count = envelope.recipient_count;
    arena_free(&r.scratch);
    arena_free(&buffers);
    return result;
}

/* ---- content ---- */

struct queue_file_reader {
    struct queue_cursor cursor;
    uint64_t content_offset;
    struct queue_record record;
    uint64_t from;   /* bytes of the record's data that were given out */
    bool has_record; /* some of it, or its newline, is left */
    bool in_line;    /* the last byte given out was no newline */
    bool ended;
};

struct queue_file_reader *
queue_file_reader_new(struct arena *arena, int fd, uint64_t content_offset, struct err *err)
{
    struct queue_file_reader *q = ARENA_NEW(arena, struct queue_file_reader);

    if (queue_cursor_init(&q->cursor, arena, fd, content_offset, err) < 0)
        return NULL;
    q->content_offset = content_offset;
    return q;
}

void
queue_file_reader_rewind(struct queue_file_reader *q)
{
    q->cursor.next = q->content_offset;
    q->cursor.highest = 0;
    q->cursor.back_jumps = 0;
    q->from = 0;
    q->has_record = q->in_line = q->ended = false;
}

/* The next record with text, if there is one. */
static int
next_text(struct queue_file_reader *q, struct err *err)
{
    while (!q->has_record && !q->ended) {
        if (queue_record_next(&q->cursor, &q->record, err) < 0)
            return -1;
        switch (q->record.type) {
        case REC_TEXT:
        case REC_TEXT_PART: q->has_record = true; break;
        case REC_PADDING: break;
        case REC_POINTER:
            if (queue_record_follow(&q->cursor, &q->record, err) < 0)
                return -1;
            break;
        case REC_EXTRACTED: q->ended = true; break;
        default:
            return err_set(err, ERR_SYNTAX, "queue file: unexpected record in the content at %" PRIu64,
                           q->record.offset);
        }
    }
    q->from = 0;
    return 0;
}

/* As much of the current record as fits. */
static int
give_record(struct queue_file_reader *q, char *to, size_t size, size_t *given, struct err *err)
{
    while (q->from < q->record.length && *given < size) {
        struct slice bytes;
        size_t n;

        if (queue_record_data(&q->cursor, &q->record, q->from, &bytes, err) < 0)
            return -1;
        n = bytes.len < size - *given ? bytes.len : size - *given;
        memcpy(to + *given, bytes.ptr, n);
        *given += n;
        q->from += n;
        q->in_line = true;
    }
    if (q->from < q->record.length)
        return 0;
    if (q->record.type == REC_TEXT_PART) {
        q->has_record = false;
    } else if (*given < size) {
        to[(*given)++] = '\n';
        q->in_line = false;
        q->has_record = false;
    }
    return 0;
}

ssize_t
queue_file_reader_read(struct queue_file_reader *q, void *bytes, size_t size, struct err *err)
{
    size_t given = 0;

    while (given < size) {
        if (!q->has_record && next_text(q, err) < 0)
            return -1;
        if (q->ended) {
            if (q->in_line)
                ((char *)bytes)[given++] = '\n';
            q->in_line = false;
            break;
        }
        if (give_record(q, bytes, size, &given, err) < 0)
            return -1;
    }
    return (ssize_t)given;
}
