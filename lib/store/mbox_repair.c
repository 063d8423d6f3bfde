/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/mbox_repair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "lib/base/compiler.h"

static const char mark_name[] = "user.postern.append";
enum { MARK_LIMIT = 112 + MBOX_MARK_START, PIECE = 2048, BOOT_NAME = 8, ERA_NAME = 32 };
#define UNIQUE_MOUNT 0x4000U /* STATX_MNT_ID_UNIQUE, Linux 6.8 */

/* What a stop of the machine or of the file system changes: the machine's start, and (where the kernel tells it) the mount. */
static void
era_name(int fd, char *name)
{
    int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    char boot[BOOT_NAME + 1] = {0};
    struct statx st = {0};

    if (file < 0 || read(file, boot, BOOT_NAME) != BOOT_NAME)
        snprintf(boot, sizeof boot, "-");
    if (file >= 0)
        close(file);
    (void)statx(fd, "", AT_EMPTY_PATH, UNIQUE_MOUNT, &st);
    snprintf(name, ERA_NAME, "%s.%llx", boot, st.stx_mask & UNIQUE_MOUNT ? (unsigned long long)st.stx_mnt_id : 0ULL);
}

/* FNV-1a: tells what was written from zeros, not from what an enemy made. */
uint64_t
mbox_sum(uint64_t sum, struct slice next)
{
    for (size_t i = 0; i < next.len; i++)
        sum = (sum ^ (unsigned char)next.ptr[i] ^ 0x100) * UINT64_C(0x100000001b3);
    return sum;
}

/* "offset:length:era first-bytes", "offset:length:era:sum first-bytes" */
static void
set_mark(int fd, off_t offset, off_t length, const char *sum, struct slice first)
{
    char text[MARK_LIMIT], era[ERA_NAME];
    size_t n;
    int len;

    era_name(fd, era);
    len = snprintf(text, sizeof text, "%lld:%lld:%s%s ", (long long)offset, (long long)length, era, sum);
    n = sizeof text - (size_t)len;
    if (n > first.len)
        n = first.len;
    memcpy(text + len, first.ptr, n);
    (void)fsetxattr(fd, mark_name, text, (size_t)len + n, 0);
}

void
mbox_mark(int fd, off_t offset, off_t length, struct slice first)
{
    set_mark(fd, offset, length, "", first);
}

void
mbox_mark_whole(int fd, off_t offset, off_t length, uint64_t sum, struct slice first)
{
    char text[sizeof ":" + 16];

    snprintf(text, sizeof text, ":%016llx", (unsigned long long)sum);
    set_mark(fd, offset, length, text, first);
}

int
mbox_unmark(int fd)
{
    return fremovexattr(fd, mark_name) == 0 || errno == ENODATA || errno == EOPNOTSUPP ? 0 : -1;
}

/* Does a line after the first begin with "From ", or (in zeros that nobody wrote) anything? Then somebody has added a message
 * of his own (in ours such lines are quoted), or it is not ours at all. -1: can't be read. */
static int
has_other_message(int fd, off_t from, bool in_zeros)
{
    static const char sign[] = "\nFrom ", behind_zeros[] = "\0From ";
    enum { KEEP = sizeof sign - 2 };
    char bytes[PIECE + KEEP];
    size_t kept = 0;
    ssize_t n;

    while ((n = pread(fd, bytes + kept, PIECE, from)) > 0) {
        size_t have = kept + (size_t)n;

        if (memmem(bytes, have, sign, sizeof sign - 1) ||
            (in_zeros && memmem(bytes, have, behind_zeros, sizeof behind_zeros - 1)))
            return 1;
        from += n;
        kept = have < KEEP ? have : KEEP;
        memmove(bytes, bytes + have - kept, kept);
    }
    return n < 0 ? -1 : 0;
}

/* Do the bytes at the offset begin as the mark says, as far as there are any? Where the power went, the file may have got its
 * length and a part of its blocks only: there are zeros where nothing was written. */
enum beginning { OTHERS, OURS, OURS_WITH_ZEROS };

static enum beginning
beginning_at(int fd, off_t offset, struct slice first)
{
    char there[MARK_LIMIT];
    ssize_t n = pread(fd, there, first.len, offset);
    enum beginning result = n > 0 ? OURS : OTHERS;

    for (ssize_t i = 0; i < n; i++) {
        if (there[i] == first.ptr[i])
            continue;
        if (there[i] != '\0')
            return OTHERS;
        result = OURS_WITH_ZEROS;
    }
    return result;
}

struct mark {
    off_t offset, length;
    bool is_of_now, has_sum;
    uint64_t sum;
    struct slice first;
};

static bool
parse_mark(int fd, char *text, size_t len, struct mark *mark)
{
    char *at, *space = memchr(text, ' ', len), era[ERA_NAME];

    *mark = (struct mark){.offset = strtoll(text, &at, 10), .is_of_now = true};
    if (!space || at == text)
        return false;
    if (*at == ':')
        mark->length = strtoll(at + 1, &at, 10);
    if (*at == ':') {
        char *end = memchr(at + 1, ':', (size_t)(space - at - 1));

        mark->has_sum = end != NULL;
        if (end)
            mark->sum = strtoull(end + 1, NULL, 16);
        era_name(fd, era);
        mark->is_of_now = slice_equal_text(slice_make(at + 1, (size_t)((end ? end : space) - at - 1)), era);
    }
    mark->first = slice_make(space + 1, (size_t)(text + len - space - 1));
    return mark->offset >= 0 && mark->length >= 0;
}

/* Are the bytes those that were written? */
static bool
has_its_sum(int fd, const struct mark *mark)
{
    off_t at = mark->offset, end = mark->offset + mark->length;
    uint64_t sum = 0;
    char bytes[PIECE];

    while (mark->has_sum && at < end) {
        ssize_t n = pread(fd, bytes, end - at < PIECE ? (size_t)(end - at) : PIECE, at);

        if (n <= 0)
            return false;
        sum = mbox_sum(sum, slice_make(bytes, (size_t)n));
        at += n;
    }
    return !mark->has_sum || sum == mark->sum;
}

/* All of it is there, and the machine stopped before the mark's removal was durable: it may have been reported as
 * delivered. (A process that only died has reported nothing: it takes the mark away first.) */
static bool
may_count(int fd, const struct mark *mark, off_t size)
{
    off_t end = mark->offset + mark->length;
    char last;

    return !mark->is_of_now && mark->length > 0 && size >= end && pread(fd, &last, 1, end - 1) == 1 && last == '\n' &&
           has_its_sum(fd, mark);
}

int
mbox_repair(int fd)
{
    char text[MARK_LIMIT + 1];
    ssize_t len = fgetxattr(fd, mark_name, text, MARK_LIMIT);
    struct stat st;
    struct mark mark;
    int cut = 0;

    if (len <= 0)
        return 0;
    text[len] = '\0';
    if (parse_mark(fd, text, (size_t)len, &mark) && fstat(fd, &st) == 0 && st.st_size > mark.offset) {
        enum beginning beginning = beginning_at(fd, mark.offset, mark.first);

        if (beginning != OTHERS && (beginning == OURS_WITH_ZEROS || !may_count(fd, &mark, st.st_size)) &&
            has_other_message(fd, mark.offset, beginning == OURS_WITH_ZEROS) == 0 && ftruncate(fd, mark.offset) == 0)
            cut = 1;
    }
    (void)!mbox_unmark(fd);
    return cut;
}
