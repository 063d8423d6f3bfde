/* SPDX-License-Identifier: Apache-2.0 */
/* The file ids: two slots in sectors of their own, written in turn, so that a torn write leaves the older. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/mail/journal.h"
#include "lib/mail/journal_segment.h"
#include "lib/run/task.h"

enum { SLOT_DISTANCE = 512 };

static const char ids_magic[8] = "PstIds1";

struct slot {
    char magic[8];
    uint64_t next; /* little-endian, as the others */
    uint64_t sum;
};

struct taking {
    const char *directory;
    uint64_t count, first;
    int result;
    struct err *err;
};

static uint64_t
slot_sum(const struct slot *slot)
{
    static const struct siphash_key no_key = {0, 0};

    return htole64(siphash(&no_key, slot, offsetof(struct slot, sum)));
}

/* The greater of the two numbers; 0 if no slot is good. *place: the slot to be written next. */
static uint64_t
read_next(int fd, unsigned *place)
{
    uint64_t next = 0;

    *place = 0;
    for (unsigned i = 0; i < 2; i++) {
        struct slot slot;

        if (pread(fd, &slot, sizeof(slot), SLOT_DISTANCE * (off_t)i) == sizeof(slot) &&
            memcmp(slot.magic, ids_magic, sizeof(slot.magic)) == 0 && slot.sum == slot_sum(&slot) &&
            le64toh(slot.next) > next) {
            next = le64toh(slot.next);
            *place = 1 - i;
        }
    }
    return next;
}

/* As long as the inode numbers in whose place these stand; random, so that the numbers of a queue whose file was lost
 * are hardly given again. */
static uint64_t
first_number(void)
{
    return 0x100000 + siphash_random_key().k0 % 0xe00000;
}

static int
take(int fd, struct taking *t)
{
    struct slot slot;
    struct iovec iov = {&slot, sizeof(slot)};
    unsigned place;

    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return err_errno(t->err, "lock of %s/ids", t->directory);
    t->first = read_next(fd, &place);
    if (t->first == 0)
        t->first = first_number();
    if (t->first > (uint64_t)INT64_MAX - t->count)
        return err_set(t->err, ERR_PERM, "%s/ids: no numbers are left", t->directory);
    memcpy(slot.magic, ids_magic, sizeof(slot.magic));
    slot.next = htole64(t->first + t->count);
    slot.sum = slot_sum(&slot);
    if (journal_segment_write(fd, &iov, 1, SLOT_DISTANCE * (uint64_t)place, t->err) < 0)
        return -1;
    if (journal_io.fdatasync(fd) < 0)
        return err_errno(t->err, "sync of %s/ids", t->directory);
    return 0;
}

/* The file is new: its name must last. */
static int
sync_directory(const char *directory, struct err *err)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = fd >= 0 && fsync(fd) == 0 ? 0 : err_errno(err, "sync of %s", directory);

    if (fd >= 0)
        close(fd);
    return result;
}

static void
take_run(void *arg)
{
    struct taking *t = arg;
    struct buf path = {0};
    struct stat st;
    int fd;

    buf_printf(&path, "%s/ids", t->directory);
    fd = open(buf_text(&path), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || fstat(fd, &st) < 0) {
        t->result = err_errno(t->err, "%s", buf_text(&path));
    } else {
        t->result = take(fd, t);
        if (t->result == 0 && st.st_size == 0)
            t->result = sync_directory(t->directory, t->err);
    }
    if (fd >= 0)
        close(fd);
    buf_release(&path);
}

int may_wait
journal_take_ids(const char *directory, uint64_t count, uint64_t *first, struct err *err)
{
    struct taking t = {.directory = directory, .count = count, .err = err};

    task_run_blocking(take_run, &t);
    *first = t.first;
    return t.result;
}
