/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/store/file.h"
#include "lib/store/folder_mbox.h"
#include "lib/store/letter.h"
#include "lib/store/mbox_repair.h"
#include "lib/store/mbox_sum.h"

enum {
    IN_MEMORY = 1 << 20, /* a larger message is copied into a file without a name, and mapped */
    PIECE = 64 << 10,
    READ_TRIES = 5,
};

/* A file without a name. */
static int
scratch_file(void)
{
    int fd = open(mbox_scratch_directory(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : memfd_create("message", MFD_CLOEXEC);
}

/* ---- reading ---- */

/* Leaves out the fields that clients are not to see. Returns the header's new length. */
static size_t
hide_own(char *bytes, size_t lines, size_t header)
{
    struct slice rest = slice_make(bytes, lines), field;
    size_t kept = 0;
    while (mbox_cut_field(&rest, &field))
        if (mbox_field_kind(field) == MBOX_OTHER) {
            memmove(bytes + kept, field.ptr, field.len);
            kept += field.len;
        }
    memmove(bytes + kept, bytes + lines, header - lines);
    return kept + header - lines;
}

/* The empty line before the next From_ line is none of the message's. */
static off_t
body_end(int fd, const struct mbox_place *p)
{
    char last[2];
    off_t body = p->at + p->from_len + p->header;
    if (p->end > body && pread(fd, last, 2, p->end - 2) == 2 && last[0] == '\n' && last[1] == '\n')
        return p->end - 1;
    return p->end;
}

static int
read_small(int fd, const struct mbox_place *p, off_t end, struct folder_content *content, struct err *err)
{
    off_t start = p->at + p->from_len;
    if (folder_load(fd, start, (size_t)(end - start), content, err) < 0)
        return -1;
    if ((off_t)content->bytes.len < p->header)
        return 0; /* the file changed: that is seen afterwards */
    char *bytes = (char *)(uintptr_t)content->bytes.ptr;
    size_t header = (size_t)p->header, kept = hide_own(bytes, (size_t)p->lines, header);
    memmove(bytes + kept, bytes + header, content->bytes.len - header);
    content->bytes.len -= header - kept;
    if (mbox_lacks_blank(p))
        bytes[content->bytes.len++] = '\n'; /* folder_load() has room for one more */
    return 0;
}

static int
copy_file(int to, int from, off_t at, off_t end, struct err *err)
{
    char *piece = malloc(PIECE);
    int result = 0;
    if (!piece)
        fatal("out of memory");
    while (result == 0 && at < end) {
        ssize_t n = pread(from, piece, end - at < PIECE ? (size_t)(end - at) : PIECE, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        if (file_write_all(to, piece, (size_t)n) < 0)
            result = err_errno(err, "write");
        at += n;
    }
    free(piece);
    return result;
}

static int
read_large(int fd, const struct mbox_place *p, off_t end, struct folder_content *content, struct err *err)
{
    struct folder_content header;
    off_t body = p->at + p->from_len + p->header;
    int to = scratch_file(), result = -1;
    if (to < 0)
        return err_errno(err, "a temporary file");
    if (read_small(fd, p, body, &header, err) == 0) {
        result = file_write_all(to, header.bytes.ptr, header.bytes.len) < 0 ? err_errno(err, "write") : 0;
        folder_content_release(&header);
    }
    if (result == 0)
        result = copy_file(to, fd, body, end, err);
    off_t size = lseek(to, 0, SEEK_END);
    void *at = result == 0 && size > 0 ? mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, to, 0) : MAP_FAILED;
    if (result == 0 && at == MAP_FAILED)
        result = err_errno(err, "map");
    if (result == 0)
        *content = (struct folder_content){slice_make(at, (size_t)size), at, (size_t)size};
    close(to);
    return result;
}

/* Without a lock: a file that is the same before and after was the same all the time. */
int
mbox_read(struct folder *folder, struct folder_message *message, struct folder_content *content, struct err *err)
{
    uint32_t uid = message->uid;
    for (unsigned tries = 0; tries < READ_TRIES; tries++) {
        if (!mbox_is_current(folder)) {
            if (folder_sync(folder, err) < 0)
                return -1;
        }
        message = folder_find(folder, uid);
        if (!message || mbox_of(folder)->fd < 0)
            return err_set(err, ERR_PERM, "the message is gone");
        struct mbox_place p = mbox_own_of(message)->place;
        int fd = mbox_of(folder)->fd;
        off_t end = body_end(fd, &p);
        if ((end - p.at <= IN_MEMORY ? read_small(fd, &p, end, content, err) : read_large(fd, &p, end, content, err)) <
            0)
            return -1;
        if (mbox_is_current(folder))
            return 0;
        folder_content_release(content);
    }
    return err_set(err, ERR_TEMP, "other programs keep changing the mailbox");
}

/* ---- adding ---- */

int
mbox_append_begin(struct folder *folder, struct folder_append *append, struct err *err)
{
    (void)folder;
    append->fd = scratch_file();
    return append->fd < 0 ? err_errno(err, "a temporary file") : 0;
}

void
mbox_append_abort(struct folder *folder, struct folder_append *append)
{
    (void)folder;
    (void)append;
}

struct put {
    int fd;
    off_t at;
    struct buf out;
    bool is_marked, in_line, after_blank;
    off_t begun;
    char first[MBOX_MARK_START];
    size_t first_len;
    struct mbox_sum sum;
    struct err *err;
};

static int
put_flush(struct put *put)
{
    if (!put->is_marked) {
        put->first_len = put->out.len < sizeof(put->first) ? put->out.len : sizeof(put->first);
        memcpy(put->first, put->out.ptr, put->first_len);
        mbox_mark(put->fd, put->begun, 0, slice_make(put->first, put->first_len));
    }
    put->is_marked = true;
    mbox_sum_add(&put->sum, buf_slice(&put->out));
    for (size_t done = 0; done < put->out.len;) {
        ssize_t n = pwrite(put->fd, put->out.ptr + done, put->out.len - done, put->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(put->err, "write");
        done += (size_t)n;
        put->at += n;
    }
    buf_clear(&put->out);
    return 0;
}

static off_t
position(const struct put *put)
{
    return put->at + (off_t)put->out.len;
}

/* Lines, with '>' before those that begin with "From ". */
static int
put_lines(struct put *put, struct slice bytes)
{
    const char *at = bytes.ptr, *end = at + bytes.len;
    while (at < end) {
        const char *lf = memchr(at, '\n', (size_t)(end - at)), *stop = lf ? lf + 1 : end;
        if (!put->in_line && end - at >= 5 && memcmp(at, "From ", 5) == 0)
            buf_append_byte(&put->out, '>');
        buf_append(&put->out, at, (size_t)(stop - at));
        put->in_line = lf == NULL;
        at = stop;
    }
    return put->out.len >= PIECE ? put_flush(put) : 0;
}

/* Pieces are cut so that none ends within a line's first bytes. */
static int
put_body(struct put *put, int fd, off_t at)
{
    char *piece = malloc(PIECE);
    int result = 0;
    size_t kept = 0;
    if (!piece)
        fatal("out of memory");
    for (;;) {
        ssize_t n = pread(fd, piece + kept, PIECE - kept, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            result = err_errno(put->err, "read");
        if (n < 0)
            break;
        size_t have = kept + (size_t)n;
        const char *lf = n > 0 && have > 0 ? memrchr(piece, '\n', have) : NULL;
        size_t use = lf && (size_t)(piece + have - lf) <= 6 ? (size_t)(lf - piece) + 1 : have;
        result = put_lines(put, slice_make(piece, use));
        at += n;
        kept = have - use;
        memmove(piece, piece + use, kept);
        if (n == 0 || result < 0)
            break;
    }
    free(piece);
    return result;
}

static void
put_header(struct put *put, const struct folder *folder, const struct mbox_message *m, struct slice header)
{
    struct slice field;
    bool is_base = folder->count == 0 && !mbox_of(folder)->internal;
    while (mbox_cut_field(&header, &field))
        if (mbox_field_kind(field) == MBOX_OTHER)
            (void)!put_lines(put, field);
    if (put->in_line)
        buf_append_byte(&put->out, '\n');
    put->in_line = false;
    mbox_put_own(folder, &m->message, is_base, false, slice_make("", 0), &put->out);
    buf_printf(&put->out, "%*s\n", is_base ? 160 : 60, "");
}

/* The file ends in an empty line before a From_ line. */
static void
put_separator(struct put *put)
{
    char last[2] = {0};
    ssize_t n = put->at == 0 ? 0 : pread(put->fd, last, 2, put->at >= 2 ? put->at - 2 : 0);
    if (n == 2 && last[1] != '\n')
        buf_append_text(&put->out, "\n\n");
    else if (n == 2 && last[0] != '\n')
        buf_append_byte(&put->out, '\n');
}

static int
put_message(struct put *put, const struct folder *folder, struct mbox_message *m, int fd, time_t arrived)
{
    struct letter letter = {.sender = "", .arrival = arrived};
    struct folder_content start;
    struct mbox_place *p = &m->place;
    size_t lines = 0;

    if (folder_load(fd, 0, MBOX_HEADER_LIMIT, &start, put->err) < 0)
        return -1;
    size_t header = mbox_header_length(start.bytes, &lines);
    if (header == 0 && start.bytes.len >= MBOX_HEADER_LIMIT) {
        folder_content_release(&start);
        return err_set(put->err, ERR_PERM, "the message's header is too long for an mbox");
    }
    if (header == 0)
        header = lines = start.bytes.len; /* nothing but a header */
    put_separator(put);
    p->at = position(put);
    letter_from_line(&letter, &put->out);
    p->from_len = position(put) - p->at;
    put_header(put, folder, m, slice_make(start.bytes.ptr, lines));
    folder_content_release(&start);
    p->lines = position(put) - p->at - p->from_len;
    p->header = p->lines + 1;
    buf_append_byte(&put->out, '\n');
    if (put_body(put, fd, (off_t)header) < 0)
        return -1;
    buf_append_text(&put->out, put->in_line ? "\n\n" : "\n");
    if (put_flush(put) < 0)
        return -1;
    p->end = put->at;
    return 0;
}

/* With the lock. The message's mark stays until it is synced, by mbox_settle_folder() or by who has the lock next. The first message's X-IMAPbase is set before: a kill in between costs a UID. */
static int
append_locked(struct folder *folder, struct mbox *file, struct mbox_message *m, int fd, struct err *err)
{
    struct put put = {.fd = file->file.fd, .err = err};
    struct stat st;
    if (mbox_flush(folder, file, err) < 0)
        return -1;
    if (fstat(file->file.fd, &st) < 0)
        return err_errno(err, "stat");
    put.at = put.begun = st.st_size;
    int result = put_message(&put, folder, m, fd, m->message.arrived);
    buf_release(&put.out);
    if (result < 0) {
        mbox_cut_back(file->file.fd, st.st_size);
        return -1;
    }
    if (mbox_mark_whole(put.fd, put.begun, put.at - put.begun, mbox_sum_end(&put.sum), true,
                        slice_make(put.first, put.first_len)) < 0 &&
        (fdatasync(put.fd) < 0 || mbox_unmark(put.fd) < 0)) {
        err_errno(err, "finish the message");
        mbox_cut_back(put.fd, st.st_size);
        return -1;
    }
    mbox_of(folder)->written = put.begun;
    return 0;
}

int
mbox_append_finish(struct folder *folder, struct folder_append *append, unsigned flags, uint32_t keywords,
                   time_t arrived, struct arena *arena, const char **name, struct err *err)
{
    struct mbox file;
    int result = mbox_begin(folder, &file, true, err);
    if (result == 0) {
        struct mbox_message *m = mbox_own_of(folder_message_new(folder, folder->next_uid++));
        m->message.flags = flags & ~(unsigned)FLAG_PASSED;
        m->message.keywords = keywords;
        m->message.is_new = true;
        m->message.arrived = arrived ? arrived : time(NULL);
        struct store_fault fault;
        result = mbox_sync_name(&file, &fault) < 0 ? err_set(err, ERR_TEMP, "%s", fault.text)
                                                   : append_locked(folder, &file, m, append->fd, err);
        if (result == 0) {
            if (folder->count > 0)
                mbox_own_of(folder->messages[folder->count - 1])->place.end = m->place.at;
            *name = arena_printf(arena, "%u", m->message.uid);
            mbox_base_written(folder);
            mbox_add(folder, m);
        } else {
            free(m);
        }
        mbox_end(folder, &file);
    }
    close(append->fd);
    append->fd = -1;
    return result;
}
