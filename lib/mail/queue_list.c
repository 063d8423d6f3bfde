/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/queue_list.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/map.h"
#include "lib/base/slice.h"
#include "lib/mail/addr.h"
#include "lib/mail/bounce_log.h"
#include "lib/mail/messages.h"
#include "lib/mail/queue_file.h"
#include "lib/mail/queue_record.h"

static const char null_sender[] = "MAILER-DAEMON";

/* ---- from a file ---- */

static const char *
shown(struct arena *arena, const char *raw)
{
    return *raw ? addr_quote(arena, raw) : null_sender;
}

static void
add_recipient(struct queue_list_message *message, const char *address, const char *reason)
{
    message->recipients[message->recipient_count++] = (struct queue_list_recipient){address, reason};
}

enum { COMPARED_WITH_EACH = 16 };

/* The recipients of a long log, so that looking for each of a message does not cost all of them; NULL: it is short. */
static struct map *
index_log(const struct bounce_log_entry *log, size_t log_count)
{
    static char something;
    struct map *index = log_count > COMPARED_WITH_EACH ? map_new() : NULL;

    for (size_t i = 0; index && i < log_count; i++)
        map_put_text(index, log[i].recipient, &something);
    return index;
}

static bool
is_logged(const struct bounce_log_entry *log, size_t log_count, const struct map *index, const char *address)
{
    if (index)
        return map_get_text(index, address) != NULL;
    for (size_t i = 0; i < log_count; i++)
        if (strcmp(log[i].recipient, address) == 0)
            return true;
    return false;
}

/* Those that the defer log gives reasons for, then those that it does not name. */
static int
list_recipients(const struct queue_dir *dir, struct arena *arena, const struct envelope *envelope,
                struct queue_list_message *message, struct err *err)
{
    struct bounce_log_entry *log;
    struct map *index;
    size_t log_count;

    if (bounce_log_read(dir->fd, queue_dir_path(dir, arena, "defer", message->id), arena, "4.0.0", "delayed", &log,
                        &log_count, err) < 0)
        return -1;
    message->recipients = arena_array(arena, envelope->recipient_count + log_count, sizeof(*message->recipients));
    for (size_t i = 0; i < log_count; i++)
        add_recipient(message, shown(arena, log[i].recipient), log[i].reason);
    index = index_log(log, log_count);
    for (size_t i = 0; i < envelope->recipient_count; i++)
        if (envelope->recipients[i].status == RCPT_TODO &&
            !is_logged(log, log_count, index, envelope->recipients[i].address))
            add_recipient(message, shown(arena, envelope->recipients[i].address), "");
    map_free(&index, NULL);
    return 0;
}

/* A submission that pickup has not seen yet: it has no size record. */
static int
read_submission(int fd, struct arena *arena, struct queue_list_message *message, struct err *err)
{
    struct queue_cursor cursor;
    struct queue_record record = {0};
    size_t room = 0;
    char *text;

    message->sender = null_sender;
    if (queue_cursor_init(&cursor, arena, fd, 0, err) < 0)
        return -1;
    do {
        if (queue_record_next(&cursor, &record, err) < 0)
            return -1;
        if (record.type != REC_SENDER && record.type != REC_RECIPIENT)
            continue;
        if (queue_record_text(&cursor, &record, arena, &text, err) < 0)
            return -1;
        if (record.type == REC_SENDER) {
            message->sender = shown(arena, text);
            continue;
        }
        if (message->recipient_count == room) {
            struct queue_list_recipient *more = arena_array(arena, room * 2 + 8, sizeof(*more));
            if (room > 0)
                memcpy(more, message->recipients, room * sizeof(*more));
            message->recipients = more;
            room = room * 2 + 8;
        }
        add_recipient(message, shown(arena, text), "");
    } while (record.type != REC_END);
    return 0;
}

static int
read_file(const struct queue_dir *dir, struct arena *arena, int fd, struct queue_list_message *message, struct err *err)
{
    struct envelope envelope;
    uint64_t content;

    if (strcmp(message->queue, "maildrop") == 0)
        return read_submission(fd, arena, message, err);
    if (queue_file_read(fd, arena, &envelope, &content, err) < 0)
        return -1;
    message->time = envelope.arrival_sec;
    message->size = envelope.text_length;
    message->sender = shown(arena, envelope.sender);
    return list_recipients(dir, arena, &envelope, message, err);
}

int
queue_list_read(const struct queue_dir *dir, struct arena *arena, const char *queue, const char *id,
                struct queue_list_message *message, bool *found, struct err *err)
{
    const char *path = queue_dir_path(dir, arena, queue, id);
    int fd = openat(dir->fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK), result = 0;
    struct stat st;

    *message = (struct queue_list_message){.queue = queue, .id = arena_strdup(arena, id)};
    *found = false;
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, "open %s", path);
    if (fstat(fd, &st) < 0) {
        result = err_errno(err, "stat %s", path);
    } else if (S_ISREG(st.st_mode) && (st.st_mode & 0700) == 0700) {
        message->forced_expire = st.st_mode & 0010;
        message->time = st.st_mtime;
        message->size = st.st_size;
        *found = true;
        result = read_file(dir, arena, fd, message, err);
    }
    close(fd);
    return result;
}

/* ---- showq's form ---- */

static void
put(struct buf *out, const char *name, const char *value)
{
    buf_append(out, name, strlen(name) + 1);
    buf_append(out, value, strlen(value) + 1);
}

static void
put_number(struct buf *out, const char *name, int64_t value)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRId64, value);
    put(out, name, text);
}

void
queue_list_encode(const struct queue_list_message *message, struct buf *out)
{
    put(out, "queue_name", message->queue);
    put(out, "queue_id", message->id);
    put_number(out, "time", message->time);
    put_number(out, "size", message->size);
    put_number(out, "forced_expire", message->forced_expire);
    put(out, "sender", message->sender);
    for (size_t i = 0; i < message->recipient_count; i++) {
        put(out, "recipient", message->recipients[i].address);
        put(out, "reason", message->recipients[i].reason);
    }
    buf_append_byte(out, '\0');
}

void
queue_list_encode_end(struct buf *out)
{
    buf_append_byte(out, '\0');
}

/* A NUL-ended text off the front; false: its end is not there. */
static bool
take_text(struct slice *bytes, struct slice *text)
{
    const char *end = bytes->len ? memchr(bytes->ptr, '\0', bytes->len) : NULL;

    if (!end)
        return false;
    *text = slice_make(bytes->ptr, (size_t)(end - bytes->ptr));
    *bytes = slice_make(end + 1, bytes->len - text->len - 1);
    return true;
}

static void
take_attribute(struct arena *arena, struct queue_list_message *message, struct slice name, struct slice value,
               size_t *room)
{
    const char *text = arena_strndup(arena, value.ptr, value.len);
    unsigned long long number = 0;

    if (slice_to_u64(value, INT64_MAX, &number) < 0)
        number = 0;
    if (slice_equal_text(name, "queue_name"))
        message->queue = text;
    else if (slice_equal_text(name, "queue_id"))
        message->id = text;
    else if (slice_equal_text(name, "time"))
        message->time = (int64_t)number;
    else if (slice_equal_text(name, "size"))
        message->size = (int64_t)number;
    else if (slice_equal_text(name, "forced_expire"))
        message->forced_expire = number != 0;
    else if (slice_equal_text(name, "sender"))
        message->sender = text;
    else if (slice_equal_text(name, "reason") && message->recipient_count > 0)
        message->recipients[message->recipient_count - 1].reason = text;
    else if (slice_equal_text(name, "recipient")) {
        if (message->recipient_count == *room) {
            struct queue_list_recipient *more = arena_array(arena, *room * 2 + 8, sizeof(*more));
            if (*room > 0)
                memcpy(more, message->recipients, *room * sizeof(*more));
            message->recipients = more;
            *room = *room * 2 + 8;
        }
        add_recipient(message, text, "");
    }
}

int
queue_list_decode(struct arena *arena, struct slice bytes, size_t *used, struct queue_list_message *message,
                  struct err *err)
{
    struct slice rest = bytes, name, value;
    size_t room = 0;
    unsigned attributes = 0;

    *message = (struct queue_list_message){.queue = "", .id = "", .sender = ""};
    for (;;) {
        if (!take_text(&rest, &name))
            return 0;
        if (name.len == 0)
            break;
        if (!take_text(&rest, &value))
            return 0;
        take_attribute(arena, message, name, value, &room);
        attributes++;
    }
    *used = bytes.len - rest.len;
    if (attributes == 0)
        return 2;
    if (!*message->queue || !*message->id)
        return err_set(err, ERR_SYNTAX, "malformed showq server response");
    return 1;
}

/* ---- for people ---- */

static void
put_printable(struct buf *out, const char *text)
{
    for (; *text; text++)
        buf_append_byte(out, (unsigned char)*text < ' ' || *text == 127 ? '?' : *text);
}

static char
state_mark(const struct queue_list_message *message)
{
    if (message->forced_expire)
        return '#';
    if (strcmp(message->queue, "active") == 0)
        return '*';
    return strcmp(message->queue, "hold") == 0 ? '!' : ' ';
}

void
queue_list_print(const struct queue_list_message *message, bool long_ids, struct queue_list_totals *totals,
                 struct buf *out)
{
    const char *last_reason = "";
    char date[32], id[300];
    time_t seconds = (time_t)message->time;
    struct tm tm;

    if (totals->messages == 0)
        buf_append_text(out, long_ids ? "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
                                      : "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n");
    else
        buf_append_byte(out, '\n');
    localtime_r(&seconds, &tm);
    strftime(date, sizeof(date), "%a %b %e %H:%M:%S ", &tm);
    snprintf(id, sizeof(id), "%s%c", message->id, state_mark(message));
    buf_printf(out, long_ids ? "%-17s %8" PRId64 " %19.19s " : "%-11s %7" PRId64 " %20.20s ", id, message->size, date);
    put_printable(out, message->sender);
    buf_append_byte(out, '\n');
    for (size_t i = 0; i < message->recipient_count; i++) {
        const struct queue_list_recipient *recipient = &message->recipients[i];
        if (*recipient->reason && strcmp(recipient->reason, last_reason) != 0) {
            int padding = 76 - (int)strnlen(recipient->reason, 76);
            buf_printf(out, "%*s(", padding, "");
            put_printable(out, recipient->reason);
            buf_append_text(out, ")\n");
            last_reason = recipient->reason;
        }
        buf_printf(out, long_ids ? "%-17s %8s %-19s " : "%-11s %7s %-20s ", "", "", "");
        put_printable(out, recipient->address);
        buf_append_byte(out, '\n');
    }
    totals->messages++;
    totals->bytes += message->size;
}

void
queue_list_print_end(const struct queue_list_totals *totals, struct buf *out)
{
    if (totals->messages == 0)
        buf_append_text(out, "Mail queue is empty\n");
    else
        buf_printf(out, "\n-- %" PRId64 " Kbytes in %u Request%s.\n", totals->bytes / 1024, totals->messages,
                   totals->messages == 1 ? "" : "s");
}

static void
put_json(struct buf *out, const char *text)
{
    buf_append_byte(out, '"');
    for (; *text; text++) {
        static const char plain[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
        const char *at = *text == '/' ? NULL : strchr(bytes, *text);
        if (at)
            buf_printf(out, "\\%c", plain[at - bytes]);
        else if ((unsigned char)*text < ' ' || *text == 127)
            buf_printf(out, "\\u%04X", (unsigned)(unsigned char)*text);
        else
            buf_append_byte(out, *text);
    }
    buf_append_byte(out, '"');
}

void
queue_list_print_json(const struct queue_list_message *message, struct buf *out)
{
    buf_append_text(out, "{\"queue_name\": ");
    put_json(out, message->queue);
    buf_append_text(out, ", \"queue_id\": ");
    put_json(out, message->id);
    buf_printf(out,
               ", \"arrival_time\": %" PRId64 ", \"message_size\": %" PRId64 ", \"forced_expire\": %s, \"sender\": ",
               message->time, message->size, message->forced_expire ? "true" : "false");
    put_json(out, message->sender);
    buf_append_text(out, ", \"recipients\": [");
    for (size_t i = 0; i < message->recipient_count; i++) {
        buf_append_text(out, i ? ", {\"address\": " : "{\"address\": ");
        put_json(out, message->recipients[i].address);
        if (*message->recipients[i].reason) {
            buf_append_text(out, ", \"delay_reason\": ");
            put_json(out, message->recipients[i].reason);
        }
        buf_append_byte(out, '}');
    }
    buf_append_text(out, "]}\n");
}
