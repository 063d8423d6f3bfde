/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/fulltext_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/siphash.h"
#include "lib/base/text.h"

enum { PAGE = 4096, SUM = 8, MARK = 128 };

static const char data_name[] = "fulltext.db", lock_name[] = "fulltext.lock";
static const struct siphash_key sum_key = {0x706f737465726e66,
                                           0x756c6c74657874}; /* against damage, not against people */

struct fulltext_file {
    sqlite3_vfs vfs;
    char vfs_name[40];
    char *path;
    int dir_fd, lock_fd, fd;
    bool is_written; /* the lock file says that it is not whole */
    sqlite3_int64 size;
    unsigned char page[PAGE];
};

/* What SQLite holds of it. */
struct open_file {
    sqlite3_file base;
    struct fulltext_file *file;
};

/* ---- the lock file ---- */

static void
make_mark(const struct stat *st, char mark[MARK])
{
    int len = st ? snprintf(mark, MARK, "postern-fulltext 1 whole %ju %jd %" PRId64 ".%09ld", (uintmax_t)st->st_ino,
                            (intmax_t)st->st_size, (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec)
                 : snprintf(mark, MARK, "postern-fulltext 1 being written");
    memset(mark + len, ' ', (size_t)(MARK - len));
    mark[MARK - 1] = '\n';
}

static int
write_mark(struct fulltext_file *file, const struct stat *st)
{
    char mark[MARK];
    make_mark(st, mark);
    if (pwrite(file->lock_fd, mark, MARK, 0) != MARK)
        return -1;
    return fdatasync(file->lock_fd);
}

static bool
is_whole(const struct fulltext_file *file)
{
    char mark[MARK], wanted[MARK];
    struct stat st;
    if (fstat(file->fd, &st) < 0 || pread(file->lock_fd, mark, MARK, 0) != MARK)
        return false;
    make_mark(&st, wanted);
    return memcmp(mark, wanted, MARK) == 0;
}

/* ---- what SQLite calls on the open file ---- */

static struct fulltext_file *
own(sqlite3_file *base)
{
    return ((struct open_file *)(void *)base)->file;
}

static uint64_t
sum_of(const unsigned char *page, sqlite3_int64 offset)
{
    struct siphash_state state;
    siphash_begin(&state, &sum_key);
    siphash_add(&state, &offset, sizeof(offset));
    siphash_add(&state, page, PAGE - SUM);
    return siphash_end(&state);
}

static int
vfs_close(sqlite3_file *base)
{
    (void)base; /* the descriptor is the owner's */
    return SQLITE_OK;
}

/* Whole pages, and the first bytes of the file, which SQLite looks at before it reads the page that they are in. */
static int
vfs_read(sqlite3_file *base, void *to, int size, sqlite3_int64 offset)
{
    uint64_t sum;
    ssize_t n = pread(own(base)->fd, to, (size_t)size, offset);
    if (n < 0)
        return SQLITE_IOERR_READ;
    if (n < size) {
        memset((char *)to + n, 0, (size_t)(size - n));
        return n == 0 && offset >= own(base)->size ? SQLITE_IOERR_SHORT_READ : SQLITE_IOERR_CORRUPTFS;
    }
    if (size != PAGE || offset % PAGE != 0)
        return offset + size <= 100 ? SQLITE_OK : SQLITE_IOERR_CORRUPTFS;
    memcpy(&sum, (char *)to + PAGE - SUM, SUM);
    return sum_of(to, offset) == sum ? SQLITE_OK : SQLITE_IOERR_CORRUPTFS;
}

static int
begin_write(struct fulltext_file *file)
{
    if (file->is_written)
        return 0;
    if (write_mark(file, NULL) < 0)
        return -1;
    file->is_written = true;
    return 0;
}

static int
vfs_write(sqlite3_file *base, const void *from, int size, sqlite3_int64 offset)
{
    struct fulltext_file *file = own(base);
    if (size != PAGE || offset % PAGE != 0 || begin_write(file) < 0)
        return SQLITE_IOERR_WRITE;
    memcpy(file->page, from, PAGE - SUM);
    uint64_t sum = sum_of(file->page, offset);
    memcpy(file->page + PAGE - SUM, &sum, SUM);
    ssize_t n = pwrite(file->fd, file->page, PAGE, offset);
    if (n < 0 && errno != ENOSPC && errno != EDQUOT && errno != EFBIG)
        return SQLITE_IOERR_WRITE;
    if (n == PAGE && offset + PAGE > file->size)
        file->size = offset + PAGE;
    return n == PAGE ? SQLITE_OK : SQLITE_FULL;
}

static int
vfs_truncate(sqlite3_file *base, sqlite3_int64 size)
{
    if (begin_write(own(base)) < 0 || ftruncate(own(base)->fd, size) < 0)
        return SQLITE_IOERR_TRUNCATE;
    own(base)->size = size;
    return SQLITE_OK;
}

static int
vfs_sync(sqlite3_file *base, int flags)
{
    (void)base; /* fulltext_file_settle() */
    (void)flags;
    return SQLITE_OK;
}

static int
vfs_size(sqlite3_file *base, sqlite3_int64 *size)
{
    *size = own(base)->size;
    return SQLITE_OK;
}

/* Nobody else has the file open: flock() of the lock file. */
static int
vfs_lock(sqlite3_file *base, int level)
{
    (void)base;
    (void)level;
    return SQLITE_OK;
}

static int
vfs_check_lock(sqlite3_file *base, int *result)
{
    (void)base;
    *result = 0;
    return SQLITE_OK;
}

static int
vfs_control(sqlite3_file *base, int op, void *arg)
{
    (void)base;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int
vfs_sector_size(sqlite3_file *base)
{
    (void)base;
    return PAGE;
}

static int
vfs_characteristics(sqlite3_file *base)
{
    (void)base;
    return 0;
}

static const sqlite3_io_methods methods = {.iVersion = 1,
                                           .xClose = vfs_close,
                                           .xRead = vfs_read,
                                           .xWrite = vfs_write,
                                           .xTruncate = vfs_truncate,
                                           .xSync = vfs_sync,
                                           .xFileSize = vfs_size,
                                           .xLock = vfs_lock,
                                           .xUnlock = vfs_lock,
                                           .xCheckReservedLock = vfs_check_lock,
                                           .xFileControl = vfs_control,
                                           .xSectorSize = vfs_sector_size,
                                           .xDeviceCharacteristics = vfs_characteristics};

/* ---- what SQLite calls without an open file ---- */

static int
vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *out_flags)
{
    struct open_file *open = (void *)base;
    (void)name;
    base->pMethods = NULL;
    if (!(flags & SQLITE_OPEN_MAIN_DB))
        return SQLITE_CANTOPEN; /* temporary things stay in memory, a journal there is not */
    open->file = vfs->pAppData;
    base->pMethods = &methods;
    if (out_flags)
        *out_flags = flags;
    return SQLITE_OK;
}

static int
vfs_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    (void)vfs;
    (void)name;
    (void)sync;
    return SQLITE_OK;
}

static int
vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *result)
{
    (void)vfs;
    (void)name;
    (void)flags;
    *result = 0;
    return SQLITE_OK;
}

static int
vfs_full_name(sqlite3_vfs *vfs, const char *name, int size, char *out)
{
    (void)vfs;
    snprintf(out, (size_t)size, "%s", name);
    return SQLITE_OK;
}

static int
vfs_randomness(sqlite3_vfs *vfs, int size, char *out)
{
    (void)vfs;
    ssize_t n = getrandom(out, (size_t)size, 0);
    return n > 0 ? (int)n : 0;
}

static int
vfs_sleep(sqlite3_vfs *vfs, int microseconds)
{
    (void)vfs;
    (void)microseconds; /* nobody is waited for */
    return 0;
}

static int
vfs_time(sqlite3_vfs *vfs, double *days)
{
    (void)vfs;
    *days = 2440587.5 + (double)time(NULL) / 86400;
    return SQLITE_OK;
}

static int
vfs_last_error(sqlite3_vfs *vfs, int size, char *out)
{
    (void)vfs;
    (void)size;
    (void)out;
    return errno;
}

static void
make_vfs(struct fulltext_file *file)
{
    snprintf(file->vfs_name, sizeof(file->vfs_name), "postern-%p", (void *)file);
    file->vfs = (sqlite3_vfs){.iVersion = 1,
                              .szOsFile = sizeof(struct open_file),
                              .mxPathname = 64,
                              .zName = file->vfs_name,
                              .pAppData = file,
                              .xOpen = vfs_open,
                              .xDelete = vfs_delete,
                              .xAccess = vfs_access,
                              .xFullPathname = vfs_full_name,
                              .xRandomness = vfs_randomness,
                              .xSleep = vfs_sleep,
                              .xCurrentTime = vfs_time,
                              .xGetLastError = vfs_last_error};
}

/* ---- opening ---- */

static int
open_data(struct fulltext_file *file, struct err *err)
{
    struct stat st;
    file->fd = openat(file->dir_fd, data_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (file->fd < 0)
        return err_errno(err, "%s/%s", file->path, data_name);
    if (fstat(file->fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(err, ERR_IO, "%s/%s: not a regular file", file->path, data_name);
    file->size = st.st_size;
    return 0;
}

static int
open_whole(struct fulltext_file *file, struct err *err)
{
    file->lock_fd = openat(file->dir_fd, lock_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (file->lock_fd < 0)
        return err_errno(err, "%s/%s", file->path, lock_name);
    if (flock(file->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return err_set(err, ERR_TEMP, "%s/%s: locked by another process", file->path, lock_name);
    if (open_data(file, err) < 0)
        return -1;
    if (file->size == 0 || is_whole(file))
        return 0;
    log_warning("%s/%s was not closed, or was changed since: made anew", file->path, data_name);
    close(file->fd);
    file->fd = -1;
    if (unlinkat(file->dir_fd, data_name, 0) < 0)
        return err_errno(err, "remove %s/%s", file->path, data_name);
    return open_data(file, err);
}

struct fulltext_file *
fulltext_file_open(const char *directory, struct err *err)
{
    struct fulltext_file *file = calloc(1, sizeof(*file));
    if (!file)
        fatal("out of memory");
    file->path = text_copy(directory);
    file->dir_fd = file->lock_fd = file->fd = -1;
    if (mkdir(directory, 0700) < 0 && errno != EEXIST)
        err_errno(err, "make %s", directory);
    else if ((file->dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)) < 0)
        err_errno(err, "open %s", directory);
    else if (open_whole(file, err) == 0) {
        make_vfs(file);
        if (sqlite3_initialize() == SQLITE_OK && sqlite3_vfs_register(&file->vfs, 0) == SQLITE_OK)
            return file;
        err_set(err, ERR_TEMP, "SQLite: no memory");
    }
    fulltext_file_close(&file, false);
    return NULL;
}

void
fulltext_file_close(struct fulltext_file **pointer, bool discard)
{
    struct fulltext_file *file = *pointer;
    if (!file)
        return;
    *pointer = NULL;
    if (file->vfs.zName)
        sqlite3_vfs_unregister(&file->vfs);
    if (discard && unlinkat(file->dir_fd, data_name, 0) < 0 && errno != ENOENT)
        log_warning("remove %s/%s: %m", file->path, data_name); /* the lock file calls it unfinished */
    int fds[] = {file->fd, file->lock_fd, file->dir_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(file->path);
    free(file);
}

int
fulltext_file_database(struct fulltext_file *file, sqlite3 **db, struct err *err)
{
    int reserve = SUM;
    int code = sqlite3_open_v2(data_name, db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                               file->vfs_name);
    if (code == SQLITE_OK)
        code = sqlite3_file_control(*db, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserve);
    if (code == SQLITE_OK)
        return 0;
    err_set(err, ERR_IO, "%s/%s: %s", file->path, data_name, sqlite3_errstr(code));
    sqlite3_close(*db);
    *db = NULL;
    return -1;
}

int
fulltext_file_settle(struct fulltext_file *file, struct err *err)
{
    struct stat st;
    if (!file->is_written)
        return 0;
    if (fdatasync(file->fd) < 0 || fstat(file->fd, &st) < 0 || write_mark(file, &st) < 0)
        return err_errno(err, "sync %s/%s", file->path, data_name);
    file->is_written = false;
    return 0;
}

bool
fulltext_file_exists(const char *directory)
{
    struct stat st;
    struct buf path = {0};
    buf_printf(&path, "%s/%s", directory, data_name);
    bool exists = lstat(buf_text(&path), &st) == 0;
    buf_release(&path);
    return exists;
}
