/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/journal_segment.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/mail/journal.h"

enum {
    FORMAT_VERSION = 1,
    SUMMED_SIZE = 56, /* the bytes of the header block that its sum covers */
    ZERO_BLOCK = 256 * 1024,
    WRITE_MAX = 1024, /* iovs in one pwritev: IOV_MAX */
};

static const char segment_magic[8] = "PstJrnl";

struct journal_io journal_io = {.pwritev = pwritev, .fdatasync = fdatasync};

/* The header block on disk, little-endian; all of it lies in one sector, so it is there or it is not. */
struct segment_header {
    char magic[8];
    uint32_t version, number, generation, reserved;
    uint64_t size, k0, k1, zero;
    uint64_t sum; /* siphash, with a key of zeros, of what stands before: against accidents only */
};
_Static_assert(sizeof(struct segment_header) == SUMMED_SIZE + 8, "no padding");

static uint64_t
header_sum(const struct segment_header *h)
{
    static const struct siphash_key no_key = {0, 0};

    return siphash(&no_key, h, SUMMED_SIZE);
}

static int
write_header(const struct journal_segment *s, struct err *err)
{
    struct segment_header h = {.version = htole32(FORMAT_VERSION),
                               .number = htole32(s->number),
                               .generation = htole32(s->generation),
                               .size = htole64(s->size),
                               .k0 = htole64(s->key.k0),
                               .k1 = htole64(s->key.k1)};
    static const char rest[JOURNAL_HEADER_SIZE - sizeof(h)];
    struct iovec iov[] = {{&h, sizeof(h)}, {(void *)(uintptr_t)rest, sizeof(rest)}};

    memcpy(h.magic, segment_magic, sizeof(h.magic));
    h.sum = htole64(header_sum(&h));
    return journal_segment_write(s->fd, iov, ARRAY_LEN(iov), 0, err);
}

int
journal_segment_read(int fd, struct journal_segment_info *info, struct err *err)
{
    struct segment_header h;
    struct stat st;

    if (pread(fd, &h, sizeof(h), 0) != sizeof(h) || fstat(fd, &st) < 0)
        return err_set(err, ERR_SYNTAX, "journal segment without a header");
    if (memcmp(h.magic, segment_magic, sizeof(h.magic)) != 0 || le64toh(h.sum) != header_sum(&h))
        return err_set(err, ERR_SYNTAX, "journal segment with a damaged header");
    if (le32toh(h.version) != FORMAT_VERSION)
        return err_set(err, ERR_SYNTAX, "journal segment of format %" PRIu32, le32toh(h.version));
    *info = (struct journal_segment_info){.segment = le32toh(h.number),
                                          .generation = le32toh(h.generation),
                                          .key = {le64toh(h.k0), le64toh(h.k1)},
                                          .size = (uint64_t)st.st_size};
    return 0;
}

/* ---- writing ---- */

static void
skip_written(struct iovec **iov, unsigned *count, size_t written)
{
    while (*count > 0 && written >= (*iov)->iov_len) {
        written -= (*iov)->iov_len;
        (*iov)++;
        (*count)--;
    }
    if (*count > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + written;
        (*iov)->iov_len -= written;
    }
}

int
journal_segment_write(int fd, struct iovec *iov, unsigned count, uint64_t offset, struct err *err)
{
    for (skip_written(&iov, &count, 0); count > 0;) {
        ssize_t n = journal_io.pwritev(fd, iov, count < WRITE_MAX ? (int)count : WRITE_MAX, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0)
                errno = EIO;
            return err_errno(err, "write to the journal");
        }
        offset += (uint64_t)n;
        skip_written(&iov, &count, (size_t)n);
    }
    return 0;
}

static int
write_zeros(int fd, uint64_t from, uint64_t to, struct err *err)
{
    char *zeros = calloc(1, ZERO_BLOCK);
    int result = 0;

    if (!zeros)
        return err_set(err, ERR_TEMP, "no memory for a journal segment");
    while (result == 0 && from < to) {
        struct iovec iov = {zeros, to - from < ZERO_BLOCK ? (size_t)(to - from) : ZERO_BLOCK};
        size_t n = iov.iov_len;

        result = journal_segment_write(fd, &iov, 1, from, err);
        from += n;
    }
    free(zeros);
    return result;
}

/* ---- making ---- */

static void
name_of(char name[JOURNAL_NAME_SIZE], uint32_t number, const char *suffix)
{
    snprintf(name, JOURNAL_NAME_SIZE, "%08" PRIX32 "%s", number, suffix);
}

/* False if a sweep took it for litter before it was locked. */
static bool
is_linked(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_nlink > 0;
}

/* Takes the first free number after hint. */
static int
take_number(int dir_fd, uint32_t hint, struct journal_segment *s, struct err *err)
{
    char name[JOURNAL_NAME_SIZE], final[JOURNAL_NAME_SIZE];

    for (unsigned tries = 0; tries < 100000; tries++) {
        if (++hint == 0)
            hint = 1;
        name_of(name, hint, ".new");
        name_of(final, hint, "");
        s->fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (s->fd < 0 && errno == EEXIST)
            continue;
        if (s->fd < 0)
            return err_errno(err, "journal segment %s", name);
        if (flock(s->fd, LOCK_EX | LOCK_NB) == 0 && is_linked(s->fd) && faccessat(dir_fd, final, F_OK, 0) < 0 &&
            errno == ENOENT) {
            s->number = hint;
            return 0;
        }
        unlinkat(dir_fd, name, 0);
        close(s->fd);
        s->fd = -1;
    }
    return err_set(err, ERR_TEMP, "no number is free for a journal segment");
}

int
journal_segment_create(int dir_fd, uint32_t hint, uint64_t size, struct journal_segment *s, struct err *err)
{
    char name[JOURNAL_NAME_SIZE];

    *s = (struct journal_segment){.fd = -1, .read_fd = -1, .size = size, .used = JOURNAL_HEADER_SIZE};
    if (take_number(dir_fd, hint, s, err) < 0)
        return -1;
    s->key = siphash_random_key();
    s->generation = (uint32_t)siphash_random_key().k0 >> 1 | 1; /* a place is not named twice, even when numbers are */
    name_of(name, s->number, ".new");
    s->read_fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (s->read_fd < 0)
        err_errno(err, "journal segment %s", name);
    else if (write_header(s, err) == 0 && (size == 0 || write_zeros(s->fd, JOURNAL_HEADER_SIZE, size, err) == 0))
        return 0;
    journal_segment_remove(dir_fd, s);
    return -1;
}

int
journal_segment_name(int dir_fd, struct journal_segment *s, struct err *err)
{
    char from[JOURNAL_NAME_SIZE], to[JOURNAL_NAME_SIZE];

    name_of(from, s->number, ".new");
    name_of(to, s->number, "");
    if (journal_io.fdatasync(s->fd) < 0)
        return err_errno(err, "sync of journal segment %s", to);
    if (renameat(dir_fd, from, dir_fd, to) < 0)
        return err_errno(err, "rename of journal segment %s", to);
    s->named = true;
    if (fsync(dir_fd) < 0)
        return err_errno(err, "sync of the journal's directory");
    return 0;
}

int
journal_segment_renew(int dir_fd, struct journal_segment *s, struct err *err)
{
    char done[JOURNAL_NAME_SIZE];

    s->generation = s->generation == INT32_MAX ? 1 : s->generation + 1;
    s->key = siphash_random_key();
    s->used = JOURNAL_HEADER_SIZE;
    s->sealed = false;
    if (write_header(s, err) < 0)
        return -1;
    if (journal_io.fdatasync(s->fd) < 0)
        return err_errno(err, "sync of journal segment %08" PRIX32, s->number);
    name_of(done, s->number, ".done");
    int fd = openat(dir_fd, done, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW); /* there may be none */
    if (fd >= 0)
        close(fd);
    return 0;
}

void
journal_segment_close(struct journal_segment *s)
{
    if (s->fd >= 0)
        close(s->fd);
    if (s->read_fd >= 0)
        close(s->read_fd);
    s->fd = s->read_fd = -1;
}

void
journal_segment_remove(int dir_fd, struct journal_segment *s)
{
    char name[JOURNAL_NAME_SIZE];

    name_of(name, s->number, s->named ? "" : ".new");
    /* A done-list that goes while its segment stays would have all its messages delivered again. */
    if ((unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT) && s->named) {
        name_of(name, s->number, ".done");
        unlinkat(dir_fd, name, 0);
    }
    journal_segment_close(s);
}

void
journal_segment_sweep(int dir_fd)
{
    int own_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = own_fd < 0 ? NULL : fdopendir(own_fd);
    struct dirent *entry;

    if (!dir) {
        if (own_fd >= 0)
            close(own_fd);
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);
        int fd;

        if (len < 5 || strcmp(entry->d_name + len - 4, ".new") != 0)
            continue;
        fd = openat(dir_fd, entry->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0)
            continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            unlinkat(dir_fd, entry->d_name, 0);
        close(fd);
    }
    closedir(dir);
}

/* A done-list comes after its segment's name, and goes after it. */
static void
sweep_done(int dir_fd, const char *name)
{
    char segment[JOURNAL_NAME_SIZE], making[JOURNAL_NAME_SIZE];
    size_t len = strlen(name);

    if (len != 13 || strcmp(name + 8, ".done") != 0)
        return;
    memcpy(segment, name, 8);
    segment[8] = '\0';
    snprintf(making, sizeof(making), "%.8s.new", name);
    if (faccessat(dir_fd, segment, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT &&
        faccessat(dir_fd, making, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
        unlinkat(dir_fd, name, 0);
}

void
journal_sweep(int dir_fd, bool done_lists)
{
    int own_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = own_fd < 0 ? NULL : fdopendir(own_fd);
    struct dirent *entry;

    if (!dir) {
        if (own_fd >= 0)
            close(own_fd);
        return;
    }
    while (done_lists && (entry = readdir(dir)))
        sweep_done(dir_fd, entry->d_name);
    closedir(dir);
    journal_segment_sweep(dir_fd);
}
