/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/db_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/run/sandbox.h"
#include "lib/table/driver_load.h"

/* The reading process knows its descriptors by these numbers, and has no others. */
enum { COPY_FD = 3, OUT_FD = 4 };
enum {
    PIECE = 65536,
    FILE_LIMIT = 1 << 30,
    LOCK_TRIES = 50, /* of 100 ms each */
    READ_TIME = 120, /* seconds of the processor, for a file that leads round and round */
    NOBODY = 65534,
};

/* What comes from the reading process: lengths, then the bytes; a key of END bytes ends it, with the text of an error or none. */
struct pair_head {
    uint32_t key, value;
};
#define END UINT32_MAX

/* ---- the copy ---- */

/* Writers of such files lock them, or should. */
static int
lock_file(int fd, const char *path, struct err *err)
{
    const struct timespec pause = {.tv_nsec = 100000000};

    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_SH | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_errno(err, "lock %s", path);
        nanosleep(&pause, NULL);
    }
    return err_set(err, ERR_TEMP, "lock %s: another process has it locked", path);
}

static int
copy_bytes(int from, int to, const char *path, struct err *err)
{
    char *piece = malloc(PIECE);
    off_t at = 0;
    ssize_t got;
    int result = 0;

    if (!piece)
        fatal("out of memory");
    while (result == 0 && (got = pread(from, piece, PIECE, at)) != 0) {
        if (got < 0)
            result = err_errno(err, "read %s", path);
        else if ((at += got) > FILE_LIMIT)
            result = err_set(err, ERR_PERM, "%s: file too large", path);
        else if (write(to, piece, (size_t)got) != got)
            result = err_errno(err, "copy %s", path);
    }
    free(piece);
    return result;
}

static int
copy_file(int fd, const char *path, struct err *err)
{
    struct stat st;
    int copy, result;

    if (fstat(fd, &st) < 0)
        return err_errno(err, "fstat %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_PERM, "%s: not a regular file", path);
    copy = memfd_create("db", MFD_CLOEXEC);
    if (copy < 0)
        return err_errno(err, "memfd_create");
    result = lock_file(fd, path, err);
    if (result == 0) {
        result = copy_bytes(fd, copy, path, err);
        (void)flock(fd, LOCK_UN);
    }
    if (result == 0)
        return copy;
    close(copy);
    return -1;
}

/* ---- the reading process ---- */

static int
send_all(const void *bytes, size_t len)
{
    const char *at = bytes;
    ssize_t sent;

    for (; len > 0; at += sent, len -= (size_t)sent)
        if ((sent = write(OUT_FD, at, len)) <= 0)
            return -1;
    return 0;
}

static int
send_pair(void *ctx, const void *key, size_t key_len, const void *value, size_t value_len)
{
    const struct pair_head head = {(uint32_t)key_len, (uint32_t)value_len};
    struct buf *out = ctx;

    buf_append(out, &head, sizeof(head));
    buf_append(out, key, key_len);
    buf_append(out, value, value_len);
    if (out->len < PIECE)
        return 0;
    int result = send_all(out->ptr, out->len);
    buf_clear(out);
    return result;
}

/* All that it had of the process it came from is gone before it looks at the file. */
static int
leave_everything(struct err *err)
{
    const struct sandbox box = {.has_ids = geteuid() == 0, .uid = NOBODY, .gid = NOBODY};
    const struct rlimit time = {READ_TIME, READ_TIME};

    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    (void)setrlimit(RLIMIT_CPU, &time);
    return sandbox_enter(&box, NULL, err);
}

static _Noreturn void
read_in_child(const struct conf *conf)
{
    const struct table_file_driver *driver;
    struct buf out = {0};
    const struct driver_pairs pairs = {send_pair, &out};
    char said[DRIVER_WHY_SIZE] = "";
    const char *why = said;
    struct err err;

    driver = driver_load_file(conf, "db", &err);
    if (!driver || leave_everything(&err) < 0)
        why = err.text;
    else
        (void)driver->read_all(COPY_FD, &pairs, said);
    (void)send_pair(&out, NULL, 0, NULL, 0);
    out.len -= sizeof(struct pair_head);
    struct pair_head head = {END, (uint32_t)strlen(why)};
    buf_append(&out, &head, sizeof(head));
    buf_append(&out, why, strlen(why));
    _exit(send_all(out.ptr, out.len) < 0);
}

static pid_t
start_child(const struct conf *conf, int copy, int out)
{
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    /* neither may be overwritten by the other's new place */
    copy = fcntl(copy, F_DUPFD, OUT_FD + 1);
    out = fcntl(out, F_DUPFD, OUT_FD + 1);
    if (copy < 0 || out < 0 || dup2(copy, COPY_FD) < 0 || dup2(out, OUT_FD) < 0)
        _exit(1);
    (void)close_range(OUT_FD + 1, ~0U, 0);
    read_in_child(conf);
}

/* ---- what it says ---- */

/* Keys and values of most tables have a NUL behind them. */
static struct slice
without_nul(const char *bytes, size_t len)
{
    return slice_make(bytes, len > 0 && bytes[len - 1] == '\0' ? len - 1 : len);
}

static int
take_pair(struct table_memory *memory, const char *bytes, const struct pair_head *head, struct err *err)
{
    struct slice key = without_nul(bytes, head->key), value = without_nul(bytes + head->key, head->value);

    if (key.len == 0 || memchr(key.ptr, '\0', key.len) || table_memory_has(memory, key))
        return 0; /* nobody could ask for it, or it is not the first */
    if (value.len > 0 && memchr(value.ptr, '\0', value.len))
        return err_set(err, ERR_PERM, "a value has a NUL in it");
    table_memory_put(memory, key, value);
    return 0;
}

/* Takes what stands in the buffer whole. 1: it was the end. */
static int
take_pairs(struct table_memory *memory, struct buf *in, struct err *err)
{
    struct pair_head head;
    size_t at = 0;

    for (; in->len - at >= sizeof(head); at += sizeof(head) + head.key + head.value) {
        const char *bytes = in->ptr + at + sizeof(head);

        memcpy(&head, in->ptr + at, sizeof(head));
        if (head.key == END && head.value == 0)
            return 1;
        if (head.key == END && in->len - at - sizeof(head) >= head.value)
            return err_set(err, ERR_IO, "%.*s", (int)(head.value < 200 ? head.value : 200), bytes);
        if (head.key == END || in->len - at - sizeof(head) < (size_t)head.key + head.value)
            break;
        if (take_pair(memory, bytes, &head, err) < 0)
            return -1;
    }
    buf_consume(in, at);
    return 0;
}

/* A file that is in order holds no more than fits into it. */
static int
receive(int fd, size_t limit, struct table_memory *memory, struct err *err)
{
    struct buf in = {0};
    ssize_t got;
    int result = 0;

    while (result == 0 && (got = read(fd, buf_reserve(&in, PIECE), PIECE)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            result = err_errno(err, "read");
            break;
        }
        buf_added(&in, (size_t)got);
        result = (size_t)got > limit ? err_set(err, ERR_IO, "the file is damaged") : take_pairs(memory, &in, err);
        limit -= (size_t)got;
    }
    buf_release(&in);
    if (result == 0)
        return err_set(err, ERR_IO, "the file is damaged: reading it came to no end");
    return result < 0 ? -1 : 0;
}

static int
read_copy(const struct conf *conf, int copy, struct table_memory *memory, struct err *err)
{
    struct stat st;
    int ends[2], result;
    pid_t pid;

    if (fstat(copy, &st) < 0 || pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(err, "pipe");
    pid = start_child(conf, copy, ends[1]);
    close(ends[1]);
    if (pid < 0) {
        result = err_errno(err, "fork");
        close(ends[0]);
        return result;
    }
    result = receive(ends[0], (size_t)st.st_size * 8 + PIECE, memory, err);
    close(ends[0]);
    if (result < 0)
        kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return result;
}

struct table_memory *
db_file_read(const struct conf *conf, const char *path, int *fd, struct err *err)
{
    struct table_memory *memory = NULL;
    int copy;

    *fd = -1;
    if (driver_is_there(conf, "db", err) < 0)
        return NULL;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) {
        err_errno(err, "open database %s", path);
        return NULL;
    }
    copy = copy_file(*fd, path, err);
    if (copy >= 0) {
        memory = table_memory_new();
        if (read_copy(conf, copy, memory, err) < 0) {
            err_context(err, "open database %s", path);
            table_memory_free(memory);
            memory = NULL;
        }
        close(copy);
    }
    if (memory)
        return memory;
    close(*fd);
    *fd = -1;
    return NULL;
}
