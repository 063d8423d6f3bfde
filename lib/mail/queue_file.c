/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/queue_file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/compiler.h"
#include "lib/mail/queue_file_internal.h"
#include "lib/mail/queue_record.h"

/* In the order in which they are written. */
const struct queue_attribute queue_attributes[] = {
    {"create_time", BEFORE_SENDER, false},
    {"log_ident", BEFORE_SENDER, false},
    {"rewrite_context", BEFORE_SENDER, false},
    {"sasl_method", BEFORE_SENDER, false},
    {"sasl_username", BEFORE_SENDER, false},
    {"sasl_sender", BEFORE_SENDER, false},
    {"envelope_id", BEFORE_SENDER, true},
    {"ret_flags", BEFORE_SENDER, true},
    {"encoding", AFTER_SENDER, true},
    {"log_client_name", AFTER_SENDER, true},
    {"log_client_address", AFTER_SENDER, true},
    {"log_client_port", AFTER_SENDER, true},
    {"log_message_origin", AFTER_SENDER, false},
    {"log_helo_name", AFTER_SENDER, false},
    {"log_protocol_name", AFTER_SENDER, false},
    {"client_name", AFTER_SENDER, false},
    {"reverse_client_name", AFTER_SENDER, false},
    {"client_address", AFTER_SENDER, false},
    {"client_port", AFTER_SENDER, false},
    {"server_address", AFTER_SENDER, false},
    {"server_port", AFTER_SENDER, false},
    {"helo_name", AFTER_SENDER, false},
    {"protocol_name", AFTER_SENDER, false},
    {"client_address_type", AFTER_SENDER, false},
    {"trace_flags", AFTER_SENDER, false},
    {"message_id", IN_EXTRACTED, false},
};
const unsigned queue_attribute_count = ARRAY_LEN(queue_attributes);

const struct msg_field *
queue_field(const char *name)
{
    for (unsigned i = 0; i < type_envelope.field_count; i++)
        if (strcmp(type_envelope.fields[i].name, name) == 0)
            return &type_envelope.fields[i];
    return NULL;
}

unsigned char
queue_recipient_type(int64_t status)
{
    return status == RCPT_DONE ? REC_DONE : status == RCPT_CANCELLED ? REC_CANCELLED : REC_RECIPIENT;
}

int
queue_recipient_status(unsigned char type)
{
    switch (type) {
    case REC_RECIPIENT: return RCPT_TODO;
    case REC_DONE: return RCPT_DONE;
    case REC_CANCELLED: return RCPT_CANCELLED;
    default: return -1;
    }
}

static int
write_at(int fd, uint64_t offset, const void *bytes, size_t len, struct err *err)
{
    ssize_t n;

    do
        n = pwrite(fd, bytes, len, (off_t)offset);
    while (n < 0 && errno == EINTR);
    if (n >= 0 && (size_t)n < len)
        errno = ENOSPC;
    return n == (ssize_t)len ? 0 : err_errno(err, "write into a queue file");
}

int
queue_file_mark_done(int fd, int64_t offset, struct err *err)
{
    static const char done = REC_DONE;
    char type;
    ssize_t n = pread(fd, &type, 1, (off_t)offset);

    if (n < 0)
        return err_errno(err, "read of a queue file");
    if (n == 0 || (type != REC_RECIPIENT && type != REC_DONE))
        return err_set(err, ERR_SYNTAX, "queue file: no recipient at %" PRId64, offset);
    return write_at(fd, (uint64_t)offset, &done, 1, err);
}

/* W records stand in the envelope, before its recipients. */
static int
find_warn(struct queue_cursor *c, struct queue_record *r, struct err *err)
{
    do {
        if (queue_record_next(c, r, err) < 0)
            return -1;
        if (r->type == REC_POINTER && queue_record_follow(c, r, err) < 0)
            return -1;
    } while (r->type != REC_WARN && r->type != REC_CONTENT);
    return 0;
}

int
queue_file_mark_warned(int fd, struct err *err)
{
    struct arena *arena = arena_new();
    struct queue_cursor c;
    struct queue_record r;
    int result = queue_cursor_init(&c, arena, fd, 0, err);

    if (result == 0)
        result = find_warn(&c, &r, err);
    if (result == 0 && r.type == REC_WARN) {
        const char *told = arena_printf(arena, "%*d", (int)(r.length < 64 ? r.length : 64), -1);

        result = strlen(told) == r.length ? write_at(fd, r.data, told, (size_t)r.length, err)
                                          : err_set(err, ERR_SYNTAX, "queue file: W record of a strange length");
    }
    arena_free(&arena);
    return result;
}
