/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of messages in the index: a record for each run of INDEX_RUN UIDs, so that all of a large folder are read in a few
 * hundred look-ups, and a change of one writes a few KiB. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "lib/base/check.h"
#include "lib/store/index_private.h"

enum { VANISHED_LIMIT = 4096 }; /* records of vanished UIDs for a folder; then the older half goes */

struct folder_record {
    uint64_t highest, floor; /* floor: what vanished up to it is not known */
    uint64_t vanished;       /* records */
};

static int
get_folder(struct index *index, MDB_txn *txn, const struct index_key *key, struct folder_record *record,
           struct err *err)
{
    unsigned char k[INDEX_KEY_LIMIT];
    struct slice value;
    int found = index_lookup(index, txn, k, index_make_key(k, key, 'M', 0, 0), &value, err);
    if (found > 0 && value.len == sizeof(*record))
        memcpy(record, value.ptr, sizeof(*record));
    else if (found > 0)
        return index_failed(index, MDB_CORRUPTED, "read", err);
    return found;
}

static int
put_folder(struct index *index, MDB_txn *txn, const struct index_key *key, const struct folder_record *record,
           struct err *err)
{
    unsigned char k[INDEX_KEY_LIMIT];
    return index_store(index, txn, k, index_make_key(k, key, 'M', 0, 0), slice_make(record, sizeof(*record)), err);
}

/* ---- loading ---- */

struct list {
    struct index_message *messages;
    size_t count, size;
};

/* Room for a list of this length at once, on large pages: a page fault for each few dozen messages would cost more than they do. */
static void
make_room(struct list *list, size_t count)
{
    const size_t page = (size_t)2 << 20;
    size_t size = (count + INDEX_RUN) * sizeof(*list->messages), whole = (size + page - 1) / page * page;
    if (size < page || count > UINT32_MAX)
        return;
    list->messages = aligned_alloc(page, whole);
    if (!list->messages)
        return;
    list->size = whole / sizeof(*list->messages);
    (void)madvise(list->messages, whole, MADV_HUGEPAGE);
}

static bool
add_run(struct list *list, struct slice value)
{
    size_t n = value.len / sizeof(*list->messages);
    if (value.len % sizeof(*list->messages) != 0 || n > INDEX_RUN)
        return false;
    if (list->count + n > list->size) {
        list->size = 2 * list->size + 8 * INDEX_RUN;
        list->messages = realloc(list->messages, list->size * sizeof(*list->messages));
        if (!list->messages)
            fatal("out of memory");
    }
    memcpy(list->messages + list->count, value.ptr, value.len);
    for (size_t i = list->count; i < list->count + n; i++)
        if (i > 0 && list->messages[i].uid <= list->messages[i - 1].uid)
            return false;
    list->count += n;
    return true;
}

/* Is this a key of that folder and kind? */
static bool
is_of(const MDB_val *k, const unsigned char *prefix)
{
    return k->mv_size > INDEX_KEY && memcmp(k->mv_data, prefix, INDEX_KEY + 1) == 0;
}

static int
load_runs(struct index *index, MDB_txn *txn, const struct index_key *key, struct list *list)
{
    unsigned char prefix[INDEX_KEY_LIMIT];
    MDB_cursor *cursor;
    struct slice value;
    MDB_val k = {index_make_key(prefix, key, 'L', 0, 0), prefix}, v;
    int code = mdb_cursor_open(txn, index->dbi, &cursor);
    if (code)
        return code;
    code = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (code == 0 && is_of(&k, prefix)) {
        if (!index_is_whole(&k, &v, &value) || !add_run(list, value))
            code = MDB_CORRUPTED;
        else
            code = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : code;
}

/* 1: there is one. */
static int
get_snapshot(struct index *index, MDB_txn *txn, const struct index_key *key, struct index_snapshot *snapshot,
             struct err *err)
{
    unsigned char k[INDEX_KEY_LIMIT];
    struct slice value;
    *snapshot = (struct index_snapshot){0};
    int found = index_lookup(index, txn, k, index_make_key(k, key, 'S', 0, 0), &value, err);
    if (found > 0 && value.len != sizeof(*snapshot))
        return index_failed(index, MDB_CORRUPTED, "read", err);
    if (found > 0)
        memcpy(snapshot, value.ptr, sizeof(*snapshot));
    return found;
}

int
index_get_snapshot(struct index *index, const struct index_key *key, struct index_snapshot *snapshot, bool *known,
                   struct err *err)
{
    MDB_txn *txn = index_read_begin(index, err);
    *known = false;
    if (!txn)
        return -1;
    int found = get_snapshot(index, txn, key, snapshot, err);
    index_read_end(index);
    *known = found > 0;
    return found < 0 ? -1 : 0;
}

int
index_load(struct index *index, const struct index_key *key, struct index_message **messages, size_t *count,
           uint64_t *highest, struct index_snapshot *snapshot, struct err *err)
{
    struct folder_record record = {0};
    struct index_snapshot was = {0};
    struct list list = {0};
    MDB_txn *txn = index_read_begin(index, err);
    if (!txn)
        return -1;
    int found = get_folder(index, txn, key, &record, err), code = 0;
    if (found >= 0 && get_snapshot(index, txn, key, &was, err) < 0)
        found = -1;
    make_room(&list, was.count);
    if (found > 0)
        code = load_runs(index, txn, key, &list);
    index_read_end(index);
    if (found < 0 || code) {
        free(list.messages);
        return found < 0 ? -1 : index_failed(index, code, "read", err);
    }
    *messages = list.messages;
    *count = list.count;
    *highest = record.highest;
    if (snapshot)
        *snapshot = was;
    return 0;
}

/* ---- committing ---- */

struct commit {
    struct index *index;
    MDB_txn *txn;
    const struct index_key *key;
    struct index_place *place; /* NULL: the folder has none */
    uint64_t modseq;           /* that what changes gets */
    bool is_used;
    uint32_t *vanished;
    size_t vanished_count;
};

static int
read_run(struct commit *c, uint32_t number, struct err *err)
{
    unsigned char k[INDEX_KEY_LIMIT];
    struct slice value;
    struct list list = {0};
    memset(c->index->run, 0, INDEX_RUN * sizeof(*c->index->run));
    int found = index_lookup(c->index, c->txn, k, index_make_key(k, c->key, 'L', number, 4), &value, err);
    if (found <= 0)
        return found;
    bool good = add_run(&list, value);
    for (size_t i = 0; good && i < list.count; i++) {
        good = list.messages[i].uid / INDEX_RUN == number;
        c->index->run[list.messages[i].uid % INDEX_RUN] = list.messages[i];
    }
    free(list.messages);
    return good ? 0 : index_failed(c->index, MDB_CORRUPTED, "read", err);
}

static int
write_run(struct commit *c, uint32_t number, struct err *err)
{
    unsigned char k[INDEX_KEY_LIMIT];
    size_t len = index_make_key(k, c->key, 'L', number, 4);
    struct buf *out = &c->index->value;
    buf_clear(out);
    for (unsigned i = 0; i < INDEX_RUN; i++)
        if (c->index->run[i].uid)
            buf_append(out, &c->index->run[i], sizeof(c->index->run[i]));
    if (out->len > 0)
        return index_store(c->index, c->txn, k, len, buf_slice(out), err);
    MDB_val key = {len, k};
    int code = mdb_del(c->txn, c->index->dbi, &key, NULL);
    return code && code != MDB_NOTFOUND ? index_failed(c->index, code, "write", err) : 0;
}

/* Another process may have been first to see the same. */
static void
change_one(struct commit *c, struct index_message *message)
{
    struct index_message *slot = &c->index->run[message->uid % INDEX_RUN];
    if (slot->uid == message->uid) {
        bool is_same =
            ((slot->flags ^ message->flags) & ~(uint32_t)INDEX_IS_NEW) == 0 && slot->keywords == message->keywords;
        if (message->modseq || is_same) {
            message->flags = (slot->flags & ~(uint32_t)INDEX_IS_NEW) | (message->flags & INDEX_IS_NEW);
            message->keywords = slot->keywords;
            message->modseq = slot->modseq;
        }
        message->saved = slot->saved;
        if (!message->size)
            message->size = slot->size;
        if (!message->arrived)
            message->arrived = slot->arrived;
    } else {
        message->modseq = 0;
    }
    if (!message->modseq) {
        message->modseq = c->modseq;
        c->is_used = true;
    }
    *slot = *message;
}

static int
remove_one(struct commit *c, uint32_t uid, struct err *err)
{
    struct index_message *slot = &c->index->run[uid % INDEX_RUN];
    unsigned char k[INDEX_KEY_LIMIT];
    if (slot->uid != uid)
        return 0;
    slot->uid = 0;
    c->vanished[c->vanished_count++] = uid;
    c->is_used = true;
    for (const char *kind = "CEH"; *kind; kind++) {
        MDB_val key = {index_make_key(k, c->key, *kind, uid, 4), k};
        int code = mdb_del(c->txn, c->index->dbi, &key, NULL);
        if (code && code != MDB_NOTFOUND)
            return index_failed(c->index, code, "write", err);
    }
    return 0;
}

static int
change_runs(struct commit *c, struct index_message *changed, size_t count, const uint32_t *gone, size_t gone_count,
            struct err *err)
{
    size_t i = 0, j = 0;
    while (i < count || j < gone_count) {
        uint32_t uid = i == count ? gone[j] : j == gone_count || changed[i].uid < gone[j] ? changed[i].uid : gone[j];
        uint32_t number = uid / INDEX_RUN;
        size_t first = i, first_gone = j;
        if (read_run(c, number, err) < 0)
            return -1;
        /* A number may be in both: its message went, and another has it now. */
        for (; j < gone_count && gone[j] / INDEX_RUN == number; j++)
            if (remove_one(c, gone[j], err) < 0)
                return -1;
        for (; i < count && changed[i].uid / INDEX_RUN == number; i++)
            change_one(c, &changed[i]);
        if (write_run(c, number, err) < 0)
            return -1;
        if (c->place && index_change_names(c->index, c->txn, c->key, number, i > first ? changed + first : NULL,
                                           i > first ? c->place->names + first : NULL, i - first,
                                           j > first_gone ? gone + first_gone : NULL, j - first_gone, err) < 0)
            return -1;
    }
    return 0;
}

static int
put_snapshot(struct commit *c, struct err *err)
{
    unsigned char k[INDEX_KEY_LIMIT];
    size_t len = index_make_key(k, c->key, 'S', 0, 0);
    if (!c->place)
        return 0;
    if (c->place->snapshot && !c->place->is_behind)
        return index_store(c->index, c->txn, k, len, slice_make(c->place->snapshot, sizeof(*c->place->snapshot)), err);
    MDB_val key = {len, k};
    int code = mdb_del(c->txn, c->index->dbi, &key, NULL);
    return code && code != MDB_NOTFOUND ? index_failed(c->index, code, "write", err) : 0;
}

/* The older half of the records of what vanished. */
static int
trim_vanished(struct commit *c, struct folder_record *record, struct err *err)
{
    unsigned char prefix[INDEX_KEY_LIMIT];
    MDB_cursor *cursor;
    MDB_val k = {index_make_key(prefix, c->key, 'V', 0, 0), prefix}, v;
    int code = mdb_cursor_open(c->txn, c->index->dbi, &cursor);
    if (code)
        return index_failed(c->index, code, "write", err);
    code = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (code == 0 && is_of(&k, prefix) && record->vanished > VANISHED_LIMIT / 2) {
        const unsigned char *number = (const unsigned char *)k.mv_data + INDEX_KEY + 1;
        uint64_t modseq = 0;
        for (unsigned i = 0; i < 8 && k.mv_size == INDEX_KEY_LIMIT; i++)
            modseq = modseq << 8 | number[i];
        if (modseq > record->floor)
            record->floor = modseq;
        record->vanished--;
        code = mdb_cursor_del(cursor, 0);
        if (code == 0)
            code = mdb_cursor_get(cursor, &k, &v, MDB_GET_CURRENT);
    }
    mdb_cursor_close(cursor);
    return code && code != MDB_NOTFOUND ? index_failed(c->index, code, "write", err) : 0;
}

static int
put_vanished(struct commit *c, struct folder_record *record, struct err *err)
{
    unsigned char k[INDEX_KEY_LIMIT];
    if (c->vanished_count == 0)
        return 0;
    if (++record->vanished > VANISHED_LIMIT && trim_vanished(c, record, err) < 0)
        return -1;
    return index_store(c->index, c->txn, k, index_make_key(k, c->key, 'V', c->modseq, 8),
                       slice_make(c->vanished, c->vanished_count * sizeof(*c->vanished)), err);
}

/* Of a folder that the index did not know: it may have been there before. */
static uint64_t
first_modseq(const struct index *index)
{
    uint64_t now = (uint64_t)time(NULL) << 20;
    return (now > index->first ? now : index->first) + 1;
}

static int
commit_all(struct commit *c, struct index_message *changed, size_t count, const uint32_t *gone, size_t gone_count,
           uint64_t *highest, struct err *err)
{
    struct folder_record record = {0};
    int found = get_folder(c->index, c->txn, c->key, &record, err);
    if (found < 0)
        return -1;
    if (!found)
        record.highest = record.floor = first_modseq(c->index);
    if (c->place)
        c->place->is_behind = found && record.highest != c->place->highest;
    c->modseq = found ? record.highest + 1 : record.highest;
    if (index_reserve(c->index, c->txn, c->modseq, err) < 0 ||
        change_runs(c, changed, count, gone, gone_count, err) < 0 || put_vanished(c, &record, err) < 0 ||
        put_snapshot(c, err) < 0)
        return -1;
    if (c->is_used)
        record.highest = c->modseq;
    *highest = record.highest;
    return c->is_used || !found ? put_folder(c->index, c->txn, c->key, &record, err) : 0;
}

int
index_commit(struct index *index, const struct index_key *key, struct index_message *changed, size_t count,
             const uint32_t *gone, size_t gone_count, struct index_place *place, uint64_t *highest, struct err *err)
{
    struct commit c = {.index = index, .key = key, .place = place, .txn = index_write_begin(index, err)};
    if (!c.txn)
        return -1;
    c.vanished = calloc(gone_count + 1, sizeof(*c.vanished));
    if (!c.vanished)
        fatal("out of memory");
    int result = commit_all(&c, changed, count, gone, gone_count, highest, err);
    free(c.vanished);
    if (result < 0) {
        mdb_txn_abort(c.txn);
        return -1;
    }
    return index_write_end(index, c.txn, err);
}

/* ---- what vanished ---- */

static int
compare_uids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int
collect_vanished(struct index *index, MDB_txn *txn, const struct index_key *key, uint64_t since, struct buf *out)
{
    unsigned char from[INDEX_KEY_LIMIT];
    MDB_cursor *cursor;
    struct slice value;
    MDB_val k = {index_make_key(from, key, 'V', since + 1, 8), from}, v;
    int code = mdb_cursor_open(txn, index->dbi, &cursor);
    if (code)
        return code;
    code = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (code == 0 && is_of(&k, from)) {
        if (!index_is_whole(&k, &v, &value) || value.len % sizeof(uint32_t) != 0) {
            code = MDB_CORRUPTED;
            break;
        }
        buf_append_slice(out, value);
        code = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : code;
}

int
index_vanished(struct index *index, const struct index_key *key, uint64_t since, struct arena *arena, uint32_t **uids,
               size_t *count, bool *known, struct err *err)
{
    struct folder_record record = {0};
    struct buf out = {0};
    MDB_txn *txn = index_read_begin(index, err);
    *count = 0;
    *uids = NULL;
    *known = false;
    if (!txn)
        return -1;
    int found = get_folder(index, txn, key, &record, err), code = 0;
    *known = found > 0 && since >= record.floor;
    if (*known && since < record.highest)
        code = collect_vanished(index, txn, key, since, &out);
    index_read_end(index);
    if (found >= 0 && code == 0) {
        *count = out.len / sizeof(**uids);
        *uids = arena_array(arena, *count + 1, sizeof(**uids));
        if (*count > 0)
            memcpy(*uids, out.ptr, *count * sizeof(**uids));
        qsort(*uids, *count, sizeof(**uids), compare_uids);
    }
    buf_release(&out);
    if (code)
        return index_failed(index, code, "read", err);
    return found < 0 ? -1 : 0;
}

int
index_forget(struct index *index, const struct index_key *key, struct err *err)
{
    MDB_cursor *cursor;
    MDB_val k = {INDEX_KEY, (void *)(uintptr_t)key->bytes}, v;
    MDB_txn *txn = index_write_begin(index, err);
    if (!txn)
        return -1;
    int code = mdb_cursor_open(txn, index->dbi, &cursor);
    if (code == 0) {
        code = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        while (code == 0 && k.mv_size > INDEX_KEY && memcmp(k.mv_data, key->bytes, INDEX_KEY) == 0) {
            code = mdb_cursor_del(cursor, 0);
            if (code == 0)
                code = mdb_cursor_get(cursor, &k, &v, MDB_GET_CURRENT);
        }
        mdb_cursor_close(cursor);
    }
    if (code && code != MDB_NOTFOUND && code != EINVAL) {
        mdb_txn_abort(txn);
        return index_failed(index, code, "write", err);
    }
    return index_write_end(index, txn, err);
}
