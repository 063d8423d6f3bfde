/* SPDX-License-Identifier: Apache-2.0 */
/* Maildir++ quota, as its specification describes it: the first line of maildirsize is the quota, each later one a
 * change. The file is counted anew when it is larger than 5120 bytes, malformed, or says that the mailbox is over quota
 * and is older than 15 minutes or has more than one entry. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/text.h"
#include "lib/store/maildir.h"

enum { SIZE_LIMIT = 5120, AGE_LIMIT = 15 * 60, NAME_ROOM = 64 };

static const char file_name[] = "maildirsize";

/* ---- the text ---- */

static int
add(int64_t *sum, int64_t n)
{
    return __builtin_add_overflow(*sum, n, sum) ? -1 : 0;
}

/* A decimal number with a sign, from the front of *text. */
static int
take_number(struct slice *text, int64_t *n)
{
    bool negative = text->len > 0 && *text->ptr == '-';
    size_t digits = 0, skip = negative;
    unsigned long long value;

    while (skip + digits < text->len && text_is_digit(text->ptr[skip + digits]))
        digits++;
    if (digits == 0 || slice_to_u64(slice_make(text->ptr + skip, digits), INT64_MAX, &value) < 0)
        return -1;
    *n = negative ? -(int64_t)value : (int64_t)value;
    *text = slice_make(text->ptr + skip + digits, text->len - skip - digits);
    return 0;
}

static int
parse_limits(struct slice line, struct maildir_quota *quota)
{
    struct slice item;

    while (slice_cut(&line, ',', &item)) {
        int64_t n;

        item = slice_trim(item);
        if (item.len == 0)
            continue;
        if (take_number(&item, &n) < 0 || n < 0 || item.len != 1)
            return -1;
        if (*item.ptr == 'S')
            quota->bytes_limit = n;
        else if (*item.ptr == 'C')
            quota->count_limit = n;
    }
    return 0;
}

static int
parse_change(struct slice line, struct maildir_quota *quota)
{
    int64_t bytes, count;

    line = slice_trim(line);
    if (line.len == 0)
        return 0;
    if (take_number(&line, &bytes) < 0)
        return -1;
    line = slice_trim(line);
    if (take_number(&line, &count) < 0 || line.len > 0)
        return -1;
    return add(&quota->bytes, bytes) < 0 || add(&quota->count, count) < 0 ? -1 : 0;
}

int
maildir_quota_parse(struct slice text, struct maildir_quota *quota)
{
    struct slice line;

    *quota = (struct maildir_quota){0};
    if (!slice_cut(&text, '\n', &line) || parse_limits(line, quota) < 0)
        return -1;
    while (slice_cut(&text, '\n', &line))
        if (parse_change(line, quota) < 0)
            return -1;
    return quota->bytes < 0 || quota->count < 0 ? -1 : 0;
}

/* ---- counting anew ---- */

/* Folders whose messages don't count. */
static bool
is_trash(const char *name)
{
    return strcmp(name, ".Trash") == 0;
}

static int
count_files(int folder, const char *sub, struct maildir_quota *quota)
{
    int fd = openat(folder, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;

    if (!dir) {
        if (fd >= 0)
            close(fd);
        return errno == ENOENT ? 0 : -1;
    }
    while ((entry = readdir(dir)) != NULL) {
        int64_t size = maildir_name_size(entry->d_name);
        const char *flags = strstr(entry->d_name, ":2,");
        struct stat st;

        if (entry->d_name[0] == '.' || (flags && strchr(flags, 'T')))
            continue;
        if (size < 0 && fstatat(fd, entry->d_name, &st, 0) == 0)
            size = st.st_size;
        if (size >= 0 && add(&quota->bytes, size) == 0)
            quota->count++;
    }
    closedir(dir);
    return 0;
}

static int
count_folder(int maildir, const char *name, struct maildir_quota *quota)
{
    int folder = openat(maildir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), result;

    if (folder < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    result = count_files(folder, "cur", quota) < 0 || count_files(folder, "new", quota) < 0 ? -1 : 0;
    close(folder);
    return result;
}

static int
count_all(int maildir, struct maildir_quota *quota)
{
    int fd = openat(maildir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;

    if (!dir) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    quota->bytes = quota->count = 0;
    result = count_folder(maildir, ".", quota);
    while (result == 0 && (entry = readdir(dir)) != NULL)
        if (entry->d_name[0] == '.' && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !is_trash(entry->d_name))
            result = count_folder(maildir, entry->d_name, quota);
    closedir(dir);
    return result;
}

/* The new file replaces the old one as a whole. */
static int
write_anew(int maildir, const struct maildir_quota *quota, struct store_fault *fault)
{
    char name[NAME_ROOM], text[160];
    int len = 0, fd;
    bool good;

    snprintf(name, sizeof name, "tmp/maildirsize.%ld.%lld", (long)getpid(), (long long)time(NULL));
    if (quota->bytes_limit > 0)
        len = snprintf(text, sizeof text, "%" PRId64 "S%s", quota->bytes_limit, quota->count_limit > 0 ? "," : "");
    if (quota->count_limit > 0)
        len += snprintf(text + len, sizeof text - (size_t)len, "%" PRId64 "C", quota->count_limit);
    len +=
        snprintf(text + len, sizeof text - (size_t)len, "\n%12" PRId64 " %12" PRId64 "\n", quota->bytes, quota->count);
    fd = openat(maildir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fault_errno(fault, "4.2.0", "create %s", name);
    good = write(fd, text, (size_t)len) == len;
    close(fd);
    if (good && renameat(maildir, name, maildir, file_name) == 0)
        return 0;
    fault_errno(fault, "4.2.0", "write %s", file_name);
    (void)unlinkat(maildir, name, 0);
    return -1;
}

/* ---- */

static bool
is_over(const struct maildir_quota *q)
{
    return (q->bytes_limit > 0 && q->bytes >= q->bytes_limit) || (q->count_limit > 0 && q->count >= q->count_limit);
}

static bool
must_recount(bool good, const struct maildir_quota *quota, struct slice text, const struct stat *st)
{
    const char *first = text.len ? memchr(text.ptr, '\n', text.len) : NULL;
    bool many = first && memchr(first + 1, '\n', (size_t)(text.ptr + text.len - first - 1)) !=
                             memrchr(first + 1, '\n', (size_t)(text.ptr + text.len - first - 1));

    return !good || st->st_size >= SIZE_LIMIT || (is_over(quota) && (many || time(NULL) - st->st_mtime > AGE_LIMIT));
}

/* Parses the file and says whether to count anew. 1: yes; 0: no; -1: it can't be read. */
static int
read_file(int fd, struct maildir_quota *quota, struct buf *text)
{
    struct stat st;
    ssize_t n;
    bool good;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return -1;
    n = pread(fd, buf_reserve(text, SIZE_LIMIT), SIZE_LIMIT, 0);
    if (n < 0)
        return -1;
    buf_added(text, (size_t)n);
    good = maildir_quota_parse(buf_slice(text), quota) == 0;
    return must_recount(good, quota, buf_slice(text), &st);
}

int
maildir_quota_load(int maildir, struct maildir_quota *quota, bool *present, bool may_count, struct store_fault *fault)
{
    int fd = openat(maildir, file_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), recount;
    struct buf text = {0};

    *present = false;
    if (fd < 0)
        return errno == ENOENT ? 0 : fault_errno(fault, "4.2.0", "open %s", file_name);
    recount = read_file(fd, quota, &text);
    buf_release(&text);
    close(fd);
    if (recount < 0)
        return fault_set(fault, "4.2.0", "%s can't be read", file_name);
    if (quota->bytes_limit == 0 && quota->count_limit == 0)
        return 0;
    *present = true;
    if (!recount)
        return 0;
    if (!may_count)
        return fault_set(fault, "4.2.0", "%s has to be made anew", file_name);
    if (count_all(maildir, quota) < 0)
        return fault_errno(fault, "4.2.0", "counting the maildir's messages");
    return write_anew(maildir, quota, fault);
}

int
maildir_quota_add(int maildir, int64_t bytes, int64_t count, struct store_fault *fault)
{
    int fd = openat(maildir, file_name, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), result = 0;
    char line[64];
    int len = snprintf(line, sizeof line, "%" PRId64 " %" PRId64 "\n", bytes, count);

    if (fd < 0)
        return errno == ENOENT ? 0 : fault_errno(fault, "4.2.0", "open %s", file_name);
    if (write(fd, line, (size_t)len) != len)
        result = fault_errno(fault, "4.2.0", "write %s", file_name);
    close(fd);
    return result;
}
