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
#include "lib/store/mbox_parse.h"
#include "lib/store/mbox_rewrite.h"
#include "lib/store/mbox_sum.h"

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

/* "offset:length:era first-bytes", "offset:length:era:sum first-bytes", "offset:length:era:sum:w first-bytes" */
static int
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
    return fsetxattr(fd, mark_name, text, (size_t)len + n, 0) == 0 || errno == EOPNOTSUPP ? 0 : -1;
}

void
mbox_mark(int fd, off_t offset, off_t length, struct slice first)
{
    (void)!set_mark(fd, offset, length, "", first);
}

int
mbox_mark_whole(int fd, off_t offset, off_t length, uint64_t sum, bool is_written, struct slice first)
{
    char text[sizeof "::w" + 16];

    snprintf(text, sizeof text, ":%016llx%s", (unsigned long long)sum, is_written ? ":w" : "");
    return set_mark(fd, offset, length, text, first);
}

int
mbox_unmark(int fd)
{
    return fremovexattr(fd, mark_name) == 0 || errno == ENODATA || errno == EOPNOTSUPP ? 0 : -1;
}

void
mbox_cut_back(int fd, off_t end)
{
    if (ftruncate(fd, end) == 0 && mbox_unmark(fd) == 0)
        (void)!fsync(fd);
}

/* Is what begins with "From " there the message of another program? On a line of its own it is (in ours such lines are quoted), and
 * behind zeros that nobody wrote; within a line only if it is a whole From_ line: it came behind a half of ours. */
static bool
is_other_at(int fd, off_t at, char before, bool in_zeros)
{
    char line[300];

    if (before == '\n' || (in_zeros && before == '\0'))
        return true;
    ssize_t n = before == '>' ? 0 : pread(fd, line, sizeof line, at);
    const char *end = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;
    return end && mbox_is_from_line(slice_make(line, (size_t)(end - line)), NULL);
}

/* Where somebody has added a message of his own behind the one that begins there. 0: nobody has; -1: can't be read. */
static off_t
find_other_message(int fd, off_t from, bool in_zeros)
{
    static const char sign[] = "From ";
    enum { KEEP = sizeof sign - 1 }; /* and the byte before */
    char bytes[PIECE + KEEP];
    size_t kept = 0;
    ssize_t n;

    while ((n = pread(fd, bytes + kept, PIECE, from)) > 0) {
        size_t have = kept + (size_t)n;
        const char *at = bytes, *end = bytes + have, *hit;

        while ((hit = memmem(at, (size_t)(end - at), sign, sizeof sign - 1))) {
            off_t place = from - (off_t)kept + (hit - bytes);

            if (hit > bytes && is_other_at(fd, place, hit[-1], in_zeros))
                return place;
            at = hit + 1;
        }
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
        /* Behind a part of ours, another program's message: that is looked for later. */
        if (i > 0 && there[i] == 'F' && is_other_at(fd, offset + i, there[i - 1], true))
            return there[i - 1] == '\0' ? OURS_WITH_ZEROS : result;
        if (i > 0 && there[i] == '\n' && there[i - 1] == '\0')
            return OURS_WITH_ZEROS;
        if (there[i] != '\0')
            return OTHERS;
        result = OURS_WITH_ZEROS;
    }
    return result;
}

struct mark {
    off_t offset, length;
    bool is_of_now, has_sum, is_written;
    uint64_t sum;
    struct slice first;
};

/* The owner of a mailbox can write what he likes there. */
static bool
parse_mark(int fd, char *text, size_t len, struct mark *mark)
{
    char *at, *space = memchr(text, ' ', len), era[ERA_NAME];

    *mark = (struct mark){.offset = strtoll(text, &at, 10), .is_of_now = true};
    if (!space || at == text || at > space) /* numbers may have blanks in front */
        return false;
    if (*at == ':')
        mark->length = strtoll(at + 1, &at, 10);
    if (at > space)
        return false;
    if (*at == ':') {
        char *end = memchr(at + 1, ':', (size_t)(space - at - 1));

        mark->has_sum = end != NULL;
        if (end) {
            char *rest;
            mark->sum = strtoull(end + 1, &rest, 16);
            mark->is_written = rest[0] == ':' && rest[1] == 'w';
        }
        era_name(fd, era);
        mark->is_of_now = slice_equal_text(slice_make(at + 1, (size_t)((end ? end : space) - at - 1)), era);
    }
    mark->first = slice_make(space + 1, (size_t)(text + len - space - 1));
    return mark->offset >= 0 && mark->length >= 0 && mark->length <= INT64_MAX - mark->offset;
}

bool
mbox_is_marked(int fd)
{
    return fgetxattr(fd, mark_name, NULL, 0) >= 0;
}

void
mbox_unmark_written(int fd, off_t offset)
{
    char text[MARK_LIMIT + 1];
    struct mark mark;
    ssize_t len = fgetxattr(fd, mark_name, text, MARK_LIMIT);

    if (len <= 0)
        return;
    text[len] = '\0';
    if (parse_mark(fd, text, (size_t)len, &mark) && mark.is_written && mark.offset == offset)
        (void)!mbox_unmark(fd);
}

/* Are the bytes those that were written? */
static bool
has_its_sum(int fd, const struct mark *mark)
{
    off_t at = mark->offset, end = mark->offset + mark->length;
    struct mbox_sum sum = {0};
    char bytes[PIECE];

    while (mark->has_sum && at < end) {
        ssize_t n = pread(fd, bytes, end - at < PIECE ? (size_t)(end - at) : PIECE, at);

        if (n <= 0)
            return false;
        mbox_sum_add(&sum, slice_make(bytes, (size_t)n));
        at += n;
    }
    return !mark->has_sum || mbox_sum_end(&sum) == mark->sum;
}

/* All of it is there, and the machine stopped before the mark's removal was durable: it may have been reported as
 * delivered. (A process that only died has reported nothing: it takes the mark away first.) Or it was not synced yet. */
static bool
may_count(int fd, const struct mark *mark, off_t size)
{
    off_t end = mark->offset + mark->length;
    char last;

    return (!mark->is_of_now || mark->is_written) && mark->length > 0 && size >= end &&
           pread(fd, &last, 1, end - 1) == 1 && last == '\n' && has_its_sum(fd, mark);
}

/* Are there zeros in what is there of it? Mail has none, or hardly ever. */
static bool
has_zeros(int fd, const struct mark *mark)
{
    off_t at = mark->offset, end = mark->offset + mark->length;
    char bytes[PIECE];

    while (mark->length == 0 || at < end) {
        ssize_t n = pread(fd, bytes, mark->length == 0 || end - at > PIECE ? PIECE : (size_t)(end - at), at);

        if (n <= 0)
            break;
        if (memchr(bytes, '\0', (size_t)n))
            return true;
        at += n;
    }
    return false;
}

/* Another program may have changed a message that was complete, and then the sum says nothing: but it is longer then, and has no
 * zeros. */
static bool
is_half(int fd, const struct mark *mark, off_t size, off_t other)
{
    off_t end = mark->offset + mark->length;

    return mark->is_of_now || mark->length == 0 || (other > 0 ? other : size) < end || has_zeros(fd, mark);
}

/* 1: it was cut off. */
static int
take_away(int fd, const struct mark *mark, off_t size, bool in_zeros)
{
    off_t start = mark->offset; /* of our From_ line, before which there may be empty ones */
    struct err err;

    for (size_t i = 0; i < mark->first.len && mark->first.ptr[i] == '\n'; i++)
        start++;
    off_t other = find_other_message(fd, start, in_zeros);
    if (other < 0 || !is_half(fd, mark, size, other))
        return 0;
    if (other == 0) {
        mbox_cut_back(fd, mark->offset);
        return 1;
    }
    return !mark->is_of_now && mbox_take_out(fd, mark->offset, other, &err) == 0 ? 1 : 0;
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
        bool may_stay = beginning != OURS_WITH_ZEROS && may_count(fd, &mark, st.st_size);

        if (beginning != OTHERS && !may_stay)
            cut = take_away(fd, &mark, st.st_size, beginning == OURS_WITH_ZEROS);
        if (may_stay && mark.is_written && fdatasync(fd) < 0)
            return 0;
    }
    (void)!mbox_unmark(fd);
    return cut;
}
