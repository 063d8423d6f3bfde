/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/index.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/siphash.h"
#include "lib/store/file.h"
#include "lib/store/index_private.h"

enum { MODSEQ_STEP = 1 << 20, LOCK_TRIES = 300, STATE_LIMIT = 512 };

static const char state_name[] = "state", data_name[] = "data.mdb", lmdb_lock_name[] = "lock.mdb";
static const struct siphash_key sum_key = {0x706f737465726e31, 0x696e646578}; /* against damage, not against people */

/* ---- the state file ---- */

struct state {
    bool is_clean;
    uint64_t ceiling;
    struct stat data; /* inode, size and time of the data when it was clean */
};

static int64_t
nanoseconds(struct timespec time)
{
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int
write_state(struct index *index, bool clean, uint64_t ceiling, struct err *err)
{
    struct buf text = {0};
    struct stat st = {0};
    if (clean && fstatat(index->dir_fd, data_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, "%s/%s", index->path, data_name);
    buf_printf(&text, "postern-index 2 %s %" PRIu64 " %ju %jd %" PRId64 "\n", clean ? "clean" : "written", ceiling,
               (uintmax_t)st.st_ino, (intmax_t)st.st_size, nanoseconds(st.st_mtim));
    int result = file_replace(index->dir_fd, state_name, "state.tmp", buf_slice(&text), NULL, err);
    buf_release(&text);
    return result;
}

/* A state that makes no sense, or none, is one that is not clean. */
static void
read_state(struct index *index, uint64_t *ceiling, bool *is_good)
{
    struct arena *arena = arena_new();
    struct slice text;
    struct stat st;
    struct err err;
    char word[8] = "";
    uintmax_t inode = 0;
    intmax_t size = 0;
    int64_t time = 0;
    *ceiling = 0;
    *is_good = false;
    if (file_read_name(arena, index->dir_fd, state_name, STATE_LIMIT, &text, &err) == 0 && text.len > 0 &&
        sscanf(text.ptr, "postern-index 2 %7s %" SCNu64 " %ju %jd %" SCNd64, word, ceiling, &inode, &size, &time) == 5)
        *is_good = strcmp(word, "clean") == 0 && fstatat(index->dir_fd, data_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                   st.st_ino == inode && st.st_size == size && nanoseconds(st.st_mtim) == time;
    if (*ceiling > INT64_MAX / 2)
        *ceiling = 0;
    arena_free(&arena);
}

/* ---- errors ---- */

int
index_failed(struct index *index, int code, const char *what, struct err *err)
{
    if (!index->is_failed)
        log_warning("%s: %s: %s; it will be made anew", index->path, what, mdb_strerror(code));
    index->is_failed = true;
    return err_set(err, ERR_IO, "%s: %s: %s", index->path, what, mdb_strerror(code));
}

/* ---- transactions ---- */

MDB_txn *
index_read_begin(struct index *index, struct err *err)
{
    int code = index->is_failed   ? MDB_CORRUPTED
               : index->reader    ? mdb_txn_renew(index->reader)
                                  : mdb_txn_begin(index->env, NULL, MDB_RDONLY, &index->reader);
    if (code == 0)
        return index->reader;
    index_failed(index, code, "read", err);
    return NULL;
}

void
index_read_end(struct index *index)
{
    mdb_txn_reset(index->reader);
}

size_t
index_make_key(unsigned char *out, const struct index_key *key, char kind, uint64_t number, unsigned number_size)
{
    memcpy(out, key->bytes, INDEX_KEY);
    out[INDEX_KEY] = (unsigned char)kind;
    for (unsigned i = 0; i < number_size; i++)
        out[INDEX_KEY + 1 + i] = (unsigned char)(number >> (8 * (number_size - 1 - i)));
    return INDEX_KEY + 1 + number_size;
}

static uint64_t
checksum(const void *key, size_t key_len, const void *value, size_t len)
{
    struct siphash_state state;
    siphash_begin(&state, &sum_key);
    siphash_add(&state, key, key_len);
    siphash_add(&state, value, len);
    return siphash_end(&state);
}

bool
index_is_whole(const MDB_val *key, const MDB_val *value, struct slice *content)
{
    uint64_t sum;
    if (value->mv_size < sizeof(sum))
        return false;
    memcpy(&sum, value->mv_data, sizeof(sum));
    *content = slice_make((const char *)value->mv_data + sizeof(sum), value->mv_size - sizeof(sum));
    return checksum(key->mv_data, key->mv_size, content->ptr, content->len) == sum;
}

int
index_lookup(struct index *index, MDB_txn *txn, const unsigned char *key, size_t key_len, struct slice *value,
             struct err *err)
{
    MDB_val k = {key_len, (void *)(uintptr_t)key}, v;
    int code = mdb_get(txn, index->dbi, &k, &v);
    if (code == MDB_NOTFOUND)
        return 0;
    if (code == 0 && !index_is_whole(&k, &v, value))
        code = MDB_CORRUPTED;
    return code == 0 ? 1 : index_failed(index, code, "read", err);
}

int
index_store(struct index *index, MDB_txn *txn, const unsigned char *key, size_t key_len, struct slice value,
            struct err *err)
{
    uint64_t sum = checksum(key, key_len, value.ptr, value.len);
    MDB_val k = {key_len, (void *)(uintptr_t)key}, v = {sizeof(sum) + value.len, NULL};
    int code = mdb_put(txn, index->dbi, &k, &v, MDB_RESERVE);
    if (code)
        return index_failed(index, code, "write", err);
    memcpy(v.mv_data, &sum, sizeof(sum));
    memcpy((char *)v.mv_data + sizeof(sum), value.ptr, value.len);
    return 0;
}

/* Writing begins: nobody may trust the data that is on the disk until it was synced and closed. */
static int
mark_written(struct index *index, MDB_txn *txn, uint64_t modseq, struct err *err)
{
    struct index_header header = {index->first, 0};
    struct slice value;
    int found = index_lookup(index, txn, (const unsigned char *)"i", 1, &value, err);
    if (found < 0)
        return -1;
    if (found && value.len == sizeof(header))
        memcpy(&header, value.ptr, sizeof(header));
    index->first = header.first;
    if (index->is_dirty && modseq < header.ceiling)
        return 0;
    if (modseq + 1 >= header.ceiling)
        header.ceiling = (modseq > header.first ? modseq : header.first) + MODSEQ_STEP;
    if (write_state(index, false, header.ceiling, err) < 0) {
        index->is_failed = true;
        return -1;
    }
    index->is_dirty = true;
    return index_store(index, txn, (const unsigned char *)"i", 1, slice_make(&header, sizeof(header)), err);
}

MDB_txn *
index_write_begin(struct index *index, struct err *err)
{
    MDB_txn *txn;
    int code = index->is_failed ? MDB_CORRUPTED : mdb_txn_begin(index->env, NULL, 0, &txn);
    if (code) {
        index_failed(index, code, "write", err);
        return NULL;
    }
    if (!index->is_dirty && mark_written(index, txn, 0, err) < 0) {
        mdb_txn_abort(txn);
        return NULL;
    }
    return txn;
}

int
index_reserve(struct index *index, MDB_txn *txn, uint64_t modseq, struct err *err)
{
    return mark_written(index, txn, modseq, err);
}

int
index_write_end(struct index *index, MDB_txn *txn, struct err *err)
{
    int code = mdb_txn_commit(txn);
    return code ? index_failed(index, code, "commit", err) : 0;
}

/* ---- opening ---- */

static uint64_t
time_as_modseq(void)
{
    time_t now = time(NULL);
    return now > 0 ? (uint64_t)now << 20 : 1;
}

/* Alone with it: what was not closed, or is not what was closed, goes. */
static void
examine(struct index *index)
{
    uint64_t ceiling;
    bool is_good;
    char mark = '\0';
    read_state(index, &ceiling, &is_good);
    if (pread(index->lock_fd, &mark, 1, 0) == 1 && mark != 'c')
        is_good = false;
    uint64_t now = time_as_modseq();
    index->first = ceiling > now ? ceiling : now;
    if (is_good)
        return;
    unlinkat(index->dir_fd, data_name, 0);
    unlinkat(index->dir_fd, lmdb_lock_name, 0);
}

static int
lock(struct index *index, struct err *err)
{
    const struct timespec pause = {0, 10000000};
    index->lock_fd = openat(index->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (index->lock_fd < 0)
        return err_errno(err, "%s/lock", index->path);
    for (unsigned i = 0; i < LOCK_TRIES; i++) {
        if (flock(index->lock_fd, LOCK_EX | LOCK_NB) == 0) {
            examine(index);
            if (pwrite(index->lock_fd, "o", 1, 0) != 1)
                return err_errno(err, "%s/lock", index->path);
            return 0; /* becomes a shared one when the index is open */
        }
        if (flock(index->lock_fd, LOCK_SH | LOCK_NB) == 0)
            return 0;
        nanosleep(&pause, NULL); /* somebody opens or closes it just now */
    }
    return err_set(err, ERR_TEMP, "%s: locked", index->path);
}

static int
open_environment(struct index *index)
{
    size_t size = sizeof(size_t) > 4 ? (size_t)16 << 30 : (size_t)256 << 20;
    MDB_txn *txn;
    int code = mdb_env_create(&index->env);
    if (code == 0)
        code = mdb_env_set_mapsize(index->env, size);
    if (code == 0)
        code = mdb_env_open(index->env, index->path, MDB_NOSYNC | MDB_NOTLS, 0600);
    if (code == 0)
        code = mdb_txn_begin(index->env, NULL, MDB_RDONLY, &txn);
    if (code)
        return code;
    code = mdb_dbi_open(txn, NULL, 0, &index->dbi);
    if (code == 0) {
        code = mdb_txn_commit(txn); /* keeps the handle */
    } else {
        mdb_txn_abort(txn);
    }
    return code;
}

/* As it was found, without a word of it: the files stay open to nobody. */
static void
release(struct index **pointer)
{
    struct index *index = *pointer;
    if (index->reader)
        mdb_txn_abort(index->reader);
    if (index->env)
        mdb_env_close(index->env);
    if (index->lock_fd >= 0)
        close(index->lock_fd);
    if (index->dir_fd >= 0)
        close(index->dir_fd);
    buf_release(&index->pending);
    buf_release(&index->value);
    buf_release(&index->names);
    free(index->run);
    free(index->path);
    free(index);
    *pointer = NULL;
}

struct index *
index_open(const char *directory, struct err *err)
{
    struct index *index = calloc(1, sizeof(*index));
    if (!index || !(index->path = strdup(directory)) || !(index->run = calloc(INDEX_RUN, sizeof(*index->run))))
        fatal("out of memory");
    index->lock_fd = -1;
    if (mkdir(directory, 0700) < 0 && errno != EEXIST) {
        index->dir_fd = -1;
        err_errno(err, "make %s", directory);
    } else if ((index->dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)) < 0) {
        err_errno(err, "open %s", directory);
    } else if (lock(index, err) == 0) {
        int code = open_environment(index);
        if (code == 0 && flock(index->lock_fd, LOCK_SH) == 0)
            return index;
        err_set(err, ERR_IO, "%s: %s", directory, mdb_strerror(code ? code : errno));
    }
    release(&index);
    return NULL;
}

/* The last who has it open leaves it clean. */
static void
settle(struct index *index)
{
    struct index_header header = {0};
    struct slice value;
    struct err err;
    if (flock(index->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return;
    uint64_t ceiling;
    bool is_good;
    read_state(index, &ceiling, &is_good);
    if (!is_good) {
        MDB_txn *txn = index_read_begin(index, &err);
        if (!txn)
            return;
        int found = index_lookup(index, txn, (const unsigned char *)"i", 1, &value, &err);
        if (found > 0 && value.len == sizeof(header))
            memcpy(&header, value.ptr, sizeof(header));
        index_read_end(index);
        uint64_t last = header.ceiling > ceiling ? header.ceiling : ceiling;
        if (mdb_env_sync(index->env, 1) != 0 || write_state(index, true, last, &err) < 0)
            return;
    }
    (void)!pwrite(index->lock_fd, "c", 1, 0);
}

void
index_close(struct index **pointer)
{
    if (!*pointer)
        return;
    index_flush(*pointer);
    if (!(*pointer)->is_failed)
        settle(*pointer);
    release(pointer);
}

struct index_key
index_key(struct slice unique, uint32_t uid_validity)
{
    struct index_key key;
    uint64_t sum = siphash(&sum_key, unique.ptr, unique.len);
    memcpy(key.bytes, &sum, sizeof(sum));
    for (unsigned i = 0; i < 4; i++)
        key.bytes[8 + i] = (unsigned char)(uid_validity >> (24 - 8 * i));
    return key;
}
