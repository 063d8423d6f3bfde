/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib/store/file.h"

enum { PIECE = 128 * 1024, NAME_LIMIT = MAILDIR_NAME, PATH_LIMIT = 2048 };

/* ---- folders ---- */

static int
make_folder(int dir, const char *name, struct store_fault *fault)
{
    if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
        return fault_errno(fault, "4.2.0", "create maildir folder %s", name);
    return 0;
}

/* Makes the directories of the path that are missing. */
static int
make_path(const char *path, struct store_fault *fault)
{
    char part[PATH_LIMIT];
    size_t len = strlen(path);

    if (len >= sizeof part)
        return fault_set(fault, "5.2.0", "path name too long");
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0700) < 0 && errno != EEXIST && access(part, F_OK) < 0)
            return fault_errno(fault, "4.2.0", "create maildir %s", part);
    }
    return 0;
}

static int
open_dir(const char *path, struct store_fault *fault)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        fault_errno(fault, errno == ENOTDIR ? "5.2.0" : "4.2.0", "open maildir %s", path);
    return fd;
}

/* The directory that the path's last name stands in; *bare: the path without slashes at its end. False: there is none. */
static bool
split(const char *path, char *bare, struct stat *parent)
{
    size_t len = strlen(path);
    char *slash;
    bool found;

    if (len >= PATH_LIMIT)
        return false;
    memcpy(bare, path, len + 1);
    while (len > 1 && bare[len - 1] == '/')
        bare[--len] = '\0';
    slash = strrchr(bare, '/');
    if (!slash)
        return stat(".", parent) == 0;
    *slash = '\0';
    found = stat(slash == bare ? "/" : bare, parent) == 0;
    *slash = '/';
    return found;
}

/* In a sticky spool anybody may have been first with a name: a Maildir of another user's there, who could take away what
 * comes, or a link of his to anywhere, is none. What root has put there counts. */
static int
open_mailbox(const char *path, struct store_fault *fault)
{
    char bare[PATH_LIMIT];
    struct stat parent, st;
    int fd;

    if (!split(path, bare, &parent) || !(parent.st_mode & S_ISVTX) || !(parent.st_mode & S_IWOTH))
        return open_dir(path, fault);
    fd = open(bare, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && (errno == ELOOP || errno == ENOTDIR) && lstat(bare, &st) == 0 && S_ISLNK(st.st_mode)) {
        if (st.st_uid != 0)
            return fault_set(fault, "5.2.0", "maildir %s is a symbolic link", bare);
        fd = open(bare, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (fd < 0)
        return fault_errno(fault, errno == ENOTDIR ? "5.2.0" : "4.2.0", "open maildir %s", path);
    if (fstat(fd, &st) < 0) {
        fault_errno(fault, "4.2.0", "examine maildir %s", path);
    } else if (st.st_uid != geteuid() && st.st_uid != 0) {
        fault_set(fault, "4.2.0", "maildir %s is not owned by recipient", bare);
    } else {
        return fd;
    }
    close(fd);
    return -1;
}

static int
make_folders(int dir, struct store_fault *fault)
{
    if (make_folder(dir, "tmp", fault) < 0 || make_folder(dir, "new", fault) < 0 || make_folder(dir, "cur", fault) < 0)
        return -1;
    if (fsync(dir) < 0 && errno != EINVAL)
        return fault_errno(fault, "4.3.0", "sync maildir");
    return 0;
}

int
maildir_create(const char *path, struct store_fault *fault)
{
    int dir, result;

    if (make_path(path, fault) < 0 || (dir = open_mailbox(path, fault)) < 0)
        return -1;
    result = make_folders(dir, fault);
    close(dir);
    return result;
}

/* ---- names ---- */

/* '/' and ':' have a meaning in names. */
static void
host_part(char *host, size_t size)
{
    if (gethostname(host, size) < 0)
        snprintf(host, size, "localhost");
    host[size - 1] = '\0';
    for (char *at = host; *at; at++)
        if (*at == '/' || *at == ':' || *at == ',')
            *at = '_';
}

/* A name in tmp/ that no other process has now. */
static void
temporary_name(const struct timeval *now, char *name)
{
    static unsigned counter; /* one process, one thread at a time */
    char host[65];

    host_part(host, sizeof host);
    snprintf(name, NAME_LIMIT, "tmp/%lld.P%ldM%06ldQ%u.%s", (long long)now->tv_sec, (long)getpid(), (long)now->tv_usec,
             ++counter, host);
}

static void
final_name(struct maildir_letter *m, const struct stat *st)
{
    const struct timeval *now = &m->now;
    char host[65], *name = m->to;
    int len;

    host_part(host, sizeof host);
    len = snprintf(name, NAME_LIMIT, "new/%lld.V%lxI%lxM%06ldP%ld.%s", (long long)now->tv_sec,
                   (unsigned long)st->st_dev, (unsigned long)st->st_ino, (long)now->tv_usec, (long)getpid(), host);
    if ((m->options & MAILDIR_SIZES) && len > 0 && len < NAME_LIMIT)
        snprintf(name + len, NAME_LIMIT - (size_t)len, ",S=%" PRIu64 ",W=%" PRIu64, m->bytes, m->wire_bytes);
}

int64_t
maildir_name_size(const char *name)
{
    const char *mark = strstr(name, ",S=");
    struct slice digits;
    unsigned long long n;

    if (!mark)
        return -1;
    digits = slice_make(mark + 3, strspn(mark + 3, "0123456789"));
    return slice_to_u64(digits, INT64_MAX, &n) < 0 ? -1 : (int64_t)n;
}

/* ---- delivery ---- */

static int
write_all(int fd, const char *at, size_t len, struct store_fault *fault)
{
    return file_write_all(fd, at, len) < 0 ? fault_errno(fault, "4.3.0", "error writing message") : 0;
}

static int
write_file(int fd, struct letter_reader *reader, int64_t limit, struct store_fault *fault)
{
    struct buf piece = {0};
    bool done = false;
    int result = 0;

    while (result == 0 && !done) {
        result = letter_read(reader, PIECE, &piece, &done, fault);
        if (result == 0 && limit > 0 && reader->bytes > (uint64_t)limit) {
            errno = EFBIG;
            result = fault_errno(fault, "5.2.2", "error writing message");
        }
        if (result == 0)
            result = write_all(fd, piece.ptr, piece.len, fault);
        buf_clear(&piece);
    }
    buf_release(&piece);
    return result;
}

/* Does a sync of the file make a rename before it durable too? */
static bool
one_sync_will_do(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) == 0 && (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC);
}

/* Its bytes are on the disk before its name is in new/: a crash shows no empty message. */
static int
sync_bytes(int fd, struct store_fault *fault)
{
    const unsigned wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

    if ((one_sync_will_do(fd) ? sync_file_range(fd, 0, 0, wait) : fsync(fd)) < 0)
        return fault_errno(fault, "4.3.0", "error writing message");
    return 0;
}

/* Creates the file in tmp/; once more after the folders were made. */
static int
create_file(int dir, const char *name, unsigned options, struct store_fault *fault)
{
    for (int i = 0;; i++) {
        int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd >= 0)
            return fd;
        if (errno != ENOENT || i || !(options & MAILDIR_CREATE))
            return fault_errno(fault, "4.2.0", "create maildir file %s", name);
        if (make_folders(dir, fault) < 0)
            return -1;
    }
}

/* Moves it into new/ under a name that nobody else has. */
static int
publish(int dir, const char *from, const char *to, unsigned options, struct store_fault *fault)
{
    for (int i = 0;; i++) {
        if (file_rename_new(dir, from, to) == 0)
            return 0;
        if (errno != ENOENT || i || !(options & MAILDIR_CREATE))
            return fault_errno(fault, "4.2.0", "create maildir file %s", to);
        if (make_folders(dir, fault) < 0)
            return -1;
    }
}

static int
sync_new(int dir, struct store_fault *fault)
{
    int fd = openat(dir, "new", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;

    if (fd < 0)
        return fault_errno(fault, "4.2.0", "open maildir folder new");
    if (fsync(fd) < 0 && errno != EINVAL)
        result = fault_errno(fault, "4.3.0", "sync maildir folder new");
    close(fd);
    return result;
}

static int
check_quota(int dir, int64_t size, unsigned options, struct store_fault *fault)
{
    struct maildir_quota quota;
    bool present;

    if (maildir_quota_load(dir, &quota, &present, !(options & MAILDIR_NO_COUNT), fault) < 0)
        return -1;
    if (!present)
        return 0;
    if ((quota.bytes_limit > 0 && size > quota.bytes_limit - quota.bytes) ||
        (quota.count_limit > 0 && quota.count >= quota.count_limit))
        return fault_set(fault, "4.2.2", "maildir over quota");
    return maildir_quota_add(dir, size, 1, fault);
}

int
maildir_begin(struct maildir_letter *m, const char *path, struct letter *letter, unsigned options, int64_t limit,
              struct store_fault *fault)
{
    struct letter_reader reader = {0};
    int result;

    *m = (struct maildir_letter){.fd = -1, .options = options};
    m->dir = open_mailbox(path, fault);
    if (m->dir < 0 && fault->code == ENOENT && (options & MAILDIR_CREATE)) {
        if (maildir_create(path, fault) < 0)
            return -1;
        m->dir = open_mailbox(path, fault);
    }
    if (m->dir < 0)
        return -1;
    gettimeofday(&m->now, NULL);
    temporary_name(&m->now, m->from);
    m->fd = create_file(m->dir, m->from, options, fault);
    if (m->fd < 0)
        return -1;
    letter_begin(&reader, letter, 0);
    result = write_file(m->fd, &reader, limit, fault);
    m->bytes = reader.bytes;
    m->wire_bytes = reader.wire_bytes;
    letter_end(&reader);
    return result;
}

int
maildir_publish(struct maildir_letter *m, bool synced, struct store_fault *fault)
{
    struct stat st;

    if (!synced && sync_bytes(m->fd, fault) < 0)
        return -1;
    if (fstat(m->fd, &st) < 0)
        return fault_errno(fault, "4.3.0", "fstat of maildir file");
    if (m->options & MAILDIR_QUOTA) {
        if (check_quota(m->dir, (int64_t)m->bytes, m->options, fault) < 0)
            return -1;
        m->counted = true;
    }
    final_name(m, &st);
    if (publish(m->dir, m->from, m->to, m->options, fault) < 0)
        return -1;
    m->published = true;
    return 0;
}

/* It may have been seen and read by now: a failure means that it may come twice. */
int
maildir_settle(struct maildir_letter *m, bool synced, struct store_fault *fault)
{
    if (synced)
        return 0;
    if (!one_sync_will_do(m->fd))
        return sync_new(m->dir, fault);
    return fsync(m->fd) < 0 ? fault_errno(fault, "4.3.0", "sync maildir file") : 0;
}

void
maildir_end(struct maildir_letter *m)
{
    struct store_fault ignored;

    if (m->fd >= 0 && !m->published) {
        (void)unlinkat(m->dir, m->from, 0);
        if (m->counted)
            (void)!maildir_quota_add(m->dir, -(int64_t)m->bytes, -1, &ignored);
    }
    if (m->fd >= 0)
        close(m->fd);
    if (m->dir >= 0)
        close(m->dir);
    m->fd = m->dir = -1;
}

int
maildir_deliver(const char *path, struct letter *letter, unsigned options, int64_t limit, char **name,
                struct store_fault *fault)
{
    struct maildir_letter m;
    int result = maildir_begin(&m, path, letter, options, limit, fault);

    if (result == 0)
        result = maildir_publish(&m, false, fault);
    if (result == 0)
        result = maildir_settle(&m, false, fault);
    maildir_end(&m);
    if (result == 0 && name)
        *name = strdup(m.to + sizeof "new/" - 1);
    return result;
}
