/* SPDX-License-Identifier: Apache-2.0 */
/* The order of the records is that of Postfix's smtpd and cleanup, so that whatever reads queue files finds what it
 * expects: arrival time first, attributes, sender, attributes, recipients last. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/mail/queue_file_internal.h"
#include "lib/mail/queue_record.h"

enum {
    FLUSH_AT = 64 * 1024,
    READ_SIZE = 32 * 1024,
};

struct writer {
    const struct envelope *envelope;
    int fd;
    struct buf out;
    uint64_t written; /* bytes before those in out */
    /* the content */
    bool in_header;
    size_t line_len; /* bytes in line: the last part of a line whose end has not come; 0: at the start of one */
    char line[QUEUE_LINE_LIMIT];
    struct err *err;
};

static uint64_t
position(const struct writer *w)
{
    return w->written + w->out.len;
}

static int
flush(struct writer *w)
{
    while (w->out.len > 0) {
        ssize_t n = write(w->fd, w->out.ptr, w->out.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(w->err, "write of a queue file");
        w->written += (uint64_t)n;
        buf_consume(&w->out, (size_t)n);
    }
    return 0;
}

/* ---- envelope ---- */

static void
put_text(struct writer *w, unsigned char type, const char *text)
{
    queue_record_put(&w->out, type, slice_from(text));
}

static void
put_attribute_text(struct writer *w, const char *name, const char *value)
{
    size_t name_len = strlen(name), value_len = strlen(value);

    queue_record_put_head(&w->out, REC_ATTRIBUTE, name_len + 1 + value_len);
    buf_append(&w->out, name, name_len);
    buf_append_byte(&w->out, '=');
    buf_append(&w->out, value, value_len);
}

static void
put_attribute_number(struct writer *w, const char *name, int64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRId64, value);
    put_attribute_text(w, name, text);
}

static void
put_attributes(struct writer *w, enum queue_attribute_place place)
{
    for (unsigned i = 0; i < queue_attribute_count; i++) {
        const struct msg_field *field;
        const void *at;

        if (queue_attributes[i].place != place)
            continue;
        field = queue_field(queue_attributes[i].name);
        at = (const char *)w->envelope + field->offset;
        if (field->kind == MSG_INT) {
            if (*(const int64_t *)at)
                put_attribute_number(w, field->name, *(const int64_t *)at);
        } else if (**(const char *const *)at) {
            put_attribute_text(w, field->name, *(const char *const *)at);
        }
    }
}

static void
put_recipient(struct writer *w, const struct envelope_recipient *r)
{
    if (r->notify)
        put_attribute_number(w, "notify_flags", r->notify);
    if (*r->dsn_original)
        put_attribute_text(w, "dsn_orig_rcpt", r->dsn_original);
    if (*r->original)
        put_text(w, REC_ORIGINAL, r->original);
    put_text(w, queue_recipient_type(r->status), r->address);
}

static int
put_recipients(struct writer *w)
{
    for (size_t i = 0; i < w->envelope->recipient_count; i++) {
        put_recipient(w, &w->envelope->recipients[i]);
        if (w->out.len >= FLUSH_AT && flush(w) < 0)
            return -1;
    }
    return 0;
}

static int
put_envelope(struct writer *w)
{
    const struct envelope *e = w->envelope;
    char text[64];

    memset(buf_reserve(&w->out, QUEUE_SIZE_RECORD), 0, QUEUE_SIZE_RECORD); /* its place; filled in at the end */
    buf_added(&w->out, QUEUE_SIZE_RECORD);
    snprintf(text, sizeof(text), "%" PRId64 " %" PRId64, e->arrival_sec, e->arrival_usec);
    put_text(w, REC_TIME, text);
    if (*e->content_filter)
        put_text(w, REC_FILTER, e->content_filter);
    if (*e->inspector)
        put_text(w, REC_INSPECTOR, e->inspector);
    put_attributes(w, BEFORE_SENDER);
    if (*e->full_name)
        put_text(w, REC_FULL_NAME, e->full_name);
    put_text(w, REC_SENDER, e->sender);
    put_attributes(w, AFTER_SENDER);
    if (*e->verp)
        put_text(w, REC_VERP, e->verp);
    if (e->warn_time) {
        snprintf(text, sizeof(text), "%15" PRId64, e->warn_time);
        put_text(w, REC_WARN, text);
    }
    if (put_recipients(w) < 0)
        return -1;
    put_text(w, REC_CONTENT, "");
    return 0;
}

static void
put_extracted(struct writer *w)
{
    put_text(w, REC_EXTRACTED, "");
    if (*w->envelope->redirect)
        put_text(w, REC_REDIRECT, w->envelope->redirect);
    put_attributes(w, IN_EXTRACTED);
    put_text(w, REC_END, "");
}

/* ---- content ---- */

/* A header line of exactly the limit is one record; a body line of that length two, as Postfix's readers and writers
 * have it. */
static void
put_line_part(struct writer *w, struct slice part)
{
    while (part.len > 0) {
        size_t n = QUEUE_LINE_LIMIT - w->line_len;

        if (n == 0) {
            queue_record_put(&w->out, REC_TEXT_PART, slice_make(w->line, w->line_len));
            w->line_len = 0;
            continue;
        }
        if (n > part.len)
            n = part.len;
        memcpy(w->line + w->line_len, part.ptr, n);
        w->line_len += n;
        part = slice_make(part.ptr + n, part.len - n);
    }
}

static void
put_line_end(struct writer *w)
{
    if (w->line_len == QUEUE_LINE_LIMIT && !w->in_header) {
        queue_record_put(&w->out, REC_TEXT_PART, slice_make(w->line, w->line_len));
        w->line_len = 0;
    }
    queue_record_put(&w->out, REC_TEXT, slice_make(w->line, w->line_len));
    w->line_len = 0;
}

/* The usual case: all of the line is there and short. */
static bool
put_short_line(struct writer *w, struct slice line)
{
    if (w->line_len > 0 || line.len >= QUEUE_LINE_LIMIT)
        return false;
    if (line.len == 0)
        w->in_header = false;
    queue_record_put(&w->out, REC_TEXT, line);
    return true;
}

static void
put_text_block(struct writer *w, struct slice block)
{
    while (block.len > 0) {
        const char *lf = memchr(block.ptr, '\n', block.len);
        struct slice line = slice_make(block.ptr, lf ? (size_t)(lf - block.ptr) : block.len);

        block = slice_make(block.ptr + line.len + (lf != NULL), block.len - line.len - (lf != NULL));
        if (lf && put_short_line(w, line))
            continue;
        put_line_part(w, line);
        if (lf)
            put_line_end(w);
    }
}

static int
put_content(struct writer *w, const struct queue_file_content *content)
{
    struct buf block = {0};
    ssize_t n;

    w->in_header = true;
    while ((n = content->read(content->ctx, buf_reserve(&block, READ_SIZE), READ_SIZE, w->err)) > 0) {
        put_text_block(w, slice_make(block.ptr, (size_t)n));
        if (w->out.len >= FLUSH_AT && flush(w) < 0) {
            n = -1;
            break;
        }
    }
    buf_release(&block);
    if (n == 0 && w->line_len > 0)
        queue_record_put(&w->out, REC_TEXT_PART, slice_make(w->line, w->line_len));
    return n < 0 ? -1 : 0;
}

/* ---- the file ---- */

static int
put_size(struct writer *w, uint64_t content_at, uint64_t content_end)
{
    const struct envelope *e = w->envelope;
    uint64_t bytes = content_end - content_at;
    int64_t flags = 0;
    char text[128];
    struct buf record = {0};
    int len;

    for (size_t i = 0; i < e->recipient_count; i++)
        flags |= e->recipients[i].notify << 1;
    len = snprintf(text, sizeof(text), "%15" PRIu64 " %15" PRIu64 " %15zu %15" PRId64 " %15" PRIu64 " %15" PRId64,
                   bytes, content_at, e->recipient_count, flags, bytes, e->sendopts);
    queue_record_put(&record, REC_SIZE, slice_make(text, (size_t)len));
    ssize_t n = record.len == QUEUE_SIZE_RECORD ? pwrite(w->fd, record.ptr, record.len, 0) : 0;
    if (n >= 0 && n < QUEUE_SIZE_RECORD)
        errno = EFBIG;
    buf_release(&record);
    return n == QUEUE_SIZE_RECORD ? 0 : err_errno(w->err, "write of a queue file");
}

static int
put_file(struct writer *w, const struct queue_file_content *content)
{
    uint64_t content_at, content_end;

    if (put_envelope(w) < 0)
        return -1;
    content_at = position(w);
    if (put_content(w, content) < 0)
        return -1;
    content_end = position(w);
    if (content_end == content_at)
        return err_set(w->err, ERR_PERM, "a message without content");
    put_extracted(w);
    if (flush(w) < 0)
        return -1;
    return put_size(w, content_at, content_end);
}

/* The mode says that it is complete; the sync comes after, and then the name. */
static int
finish_file(struct writer *w, const struct queue_file_target *target)
{
    struct timespec times[2] = {{.tv_sec = target->mtime}, {.tv_sec = target->mtime}};

    if (fchmod(w->fd, target->mode) < 0)
        return err_errno(w->err, "mode of a queue file");
    if (target->mtime && futimens(w->fd, times) < 0)
        return err_errno(w->err, "time of a queue file");
    return fsync(w->fd) < 0 ? err_errno(w->err, "sync of a queue file") : 0;
}

/* Opens a directory of the parent; makes it, durably, if it is missing. */
static int
open_or_make(int parent_fd, const char *name)
{
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0 || errno != ENOENT)
        return fd;
    if ((mkdirat(parent_fd, name, 0700) < 0 && errno != EEXIST) || fsync(parent_fd) < 0)
        return -1;
    return openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* The same for each part of a path. */
static int
make_path(int base_fd, char *path)
{
    int fd = openat(base_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    while (fd >= 0 && path) {
        char *slash = strchr(path, '/');
        int next;

        if (slash)
            *slash++ = '\0';
        next = open_or_make(fd, path);
        close(fd);
        fd = next;
        path = slash;
    }
    return fd;
}

/* Opens the directory that the file goes to. */
static int
open_directory(const struct queue_file_target *target, struct err *err)
{
    const char *last = strrchr(target->path, '/');
    char *path = last ? strndup(target->path, (size_t)(last - target->path)) : strdup(".");
    int fd = path ? openat(target->queue_dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (path && fd < 0 && errno == ENOENT)
        fd = make_path(target->queue_dir_fd, path);
    free(path);
    return fd < 0 ? err_errno(err, "directory of queue file %s", target->path) : fd;
}

static int
put_locked(struct writer *w, const struct queue_file_content *content)
{
    (void)flock(w->fd, LOCK_EX | LOCK_NB); /* without, it might be taken away, and written again */
    return put_file(w, content);
}

/* Locked while it has its first name, so that who clears away what a crash left knows that it is in the making. Not beyond: a
 * locked queue file is taken for one that is being delivered. */
static int
write_in(int dir_fd, const char *name, const struct queue_file_target *target, struct writer *w,
         const struct queue_file_content *content)
{
    struct buf temporary = {0};
    int result = -1;

    buf_printf(&temporary, "%s.new", name);
    unlinkat(dir_fd, buf_text(&temporary), 0); /* a crash may have left one */
    w->fd = openat(dir_fd, buf_text(&temporary), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (w->fd < 0) {
        err_errno(w->err, "create of queue file %s", target->path);
    } else if (put_locked(w, content) == 0 && finish_file(w, target) == 0) {
        (void)flock(w->fd, LOCK_UN);
        if (renameat(dir_fd, buf_text(&temporary), dir_fd, name) < 0)
            err_errno(w->err, "rename of queue file %s", target->path);
        else if (fsync(dir_fd) < 0) {
            err_errno(w->err, "sync of the directory of %s", target->path);
            unlinkat(dir_fd, name, 0);
        } else
            result = 0;
    }
    if (w->fd >= 0)
        close(w->fd);
    if (result < 0)
        unlinkat(dir_fd, buf_text(&temporary), 0);
    buf_release(&temporary);
    return result;
}

int
queue_file_write(const struct queue_file_target *target, const struct envelope *envelope,
                 const struct queue_file_content *content, struct err *err)
{
    const char *name = strrchr(target->path, '/');
    struct writer *w;
    int dir_fd, result = -1;

    if (envelope->recipient_count == 0 || envelope->arrival_sec <= 0)
        return err_set(err, ERR_PERM, "a message without recipients or arrival time");
    dir_fd = open_directory(target, err);
    if (dir_fd < 0)
        return -1;
    w = calloc(1, sizeof(*w));
    if (!w) {
        err_set(err, ERR_TEMP, "out of memory");
    } else {
        w->envelope = envelope;
        w->err = err;
        result = write_in(dir_fd, name ? name + 1 : target->path, target, w, content);
        buf_release(&w->out);
        free(w);
    }
    close(dir_fd);
    return result;
}
