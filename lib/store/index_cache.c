/* SPDX-License-Identifier: Apache-2.0 */
/* What was read out of messages: put together in memory, written many at a time. */
#include <string.h>

#include "lib/base/check.h"
#include "lib/store/index_private.h"

enum {
    PENDING_LIMIT = 1 << 20,
    TEXT_LIMIT = 256 << 10,
    HEADER_LIMIT = 16 << 10,
    CACHE_VERSION = 1,
    HEADER_VERSION = 1,
    EMAIL_ID_VERSION = 1,
};

struct record_head {
    uint32_t version;
    uint8_t has_sent, is_reply, is_wide, unused;
    int64_t sent;
    uint32_t lengths[INDEX_TEXTS];
};

static bool
decode(struct slice value, struct arena *arena, struct index_cached *out)
{
    struct record_head head;
    if (value.len < sizeof(head))
        return false;
    memcpy(&head, value.ptr, sizeof(head));
    if (head.version != CACHE_VERSION)
        return false;
    struct slice texts = slice_make(value.ptr + sizeof(head), value.len - sizeof(head));
    texts = arena_slice(arena, texts);
    *out = (struct index_cached){head.sent, head.has_sent, head.is_reply, head.is_wide, {{0}}};
    for (unsigned i = 0; i < INDEX_TEXTS; i++) {
        if (head.lengths[i] > texts.len)
            return false;
        out->texts[i] = slice_make(texts.ptr, head.lengths[i]);
        texts = slice_make(texts.ptr + head.lengths[i], texts.len - head.lengths[i]);
    }
    return texts.len == 0;
}

bool
index_get(struct index *index, const struct index_key *key, uint32_t uid, struct arena *arena, struct index_cached *out)
{
    unsigned char k[INDEX_KEY_LIMIT];
    struct slice value;
    struct err err;
    MDB_txn *txn = index->is_failed ? NULL : index_read_begin(index, &err);
    if (!txn)
        return false;
    bool found =
        index_lookup(index, txn, k, index_make_key(k, key, 'C', uid, 4), &value, &err) > 0 && decode(value, arena, out);
    index_read_end(index);
    return found;
}

void
index_put(struct index *index, const struct index_key *key, uint32_t uid, const struct index_cached *cached)
{
    struct record_head head = {.version = CACHE_VERSION,
                               .has_sent = cached->has_sent,
                               .is_reply = cached->is_reply,
                               .is_wide = cached->is_wide,
                               .sent = cached->sent};
    unsigned char k[INDEX_KEY_LIMIT];
    size_t key_len = index_make_key(k, key, 'C', uid, 4), total = sizeof(head);
    if (index->is_failed)
        return;
    for (unsigned i = 0; i < INDEX_TEXTS; i++) {
        if (cached->texts[i].len > TEXT_LIMIT)
            return; /* what is so strange is read each time */
        head.lengths[i] = (uint32_t)cached->texts[i].len;
        total += head.lengths[i];
    }
    uint32_t len = (uint32_t)total;
    buf_append(&index->pending, k, key_len);
    buf_append(&index->pending, &len, sizeof(len));
    buf_append(&index->pending, &head, sizeof(head));
    for (unsigned i = 0; i < INDEX_TEXTS; i++)
        buf_append_slice(&index->pending, cached->texts[i]);
    if (index->pending.len >= PENDING_LIMIT)
        index_flush(index);
}

/* ---- texts of one kind: a byte with the kind's version, and the text ---- */

static bool
get_text(struct index *index, const struct index_key *key, char kind, char version, uint32_t uid, struct arena *arena,
         struct slice *text)
{
    unsigned char k[INDEX_KEY_LIMIT];
    struct slice value;
    struct err err;
    MDB_txn *txn = index->is_failed ? NULL : index_read_begin(index, &err);
    if (!txn)
        return false;
    bool found = index_lookup(index, txn, k, index_make_key(k, key, kind, uid, 4), &value, &err) > 0 && value.len > 0 &&
                 value.ptr[0] == version;
    if (found)
        *text = arena_slice(arena, slice_make(value.ptr + 1, value.len - 1));
    index_read_end(index);
    return found;
}

static void
put_text(struct index *index, const struct index_key *key, char kind, char version, uint32_t uid, struct slice text)
{
    unsigned char k[INDEX_KEY_LIMIT];
    size_t key_len = index_make_key(k, key, kind, uid, 4);
    uint32_t len = (uint32_t)text.len + 1;
    if (index->is_failed)
        return;
    buf_append(&index->pending, k, key_len);
    buf_append(&index->pending, &len, sizeof(len));
    buf_append_byte(&index->pending, version);
    buf_append_slice(&index->pending, text);
    if (index->pending.len >= PENDING_LIMIT)
        index_flush(index);
}

bool
index_get_header(struct index *index, const struct index_key *key, uint32_t uid, struct arena *arena,
                 struct slice *header)
{
    return get_text(index, key, 'H', HEADER_VERSION, uid, arena, header);
}

void
index_put_header(struct index *index, const struct index_key *key, uint32_t uid, struct slice header)
{
    if (header.len <= HEADER_LIMIT)
        put_text(index, key, 'H', HEADER_VERSION, uid, header);
}

bool
index_get_email_id(struct index *index, const struct index_key *key, uint32_t uid, struct arena *arena,
                   struct slice *id)
{
    return get_text(index, key, 'E', EMAIL_ID_VERSION, uid, arena, id);
}

void
index_put_email_id(struct index *index, const struct index_key *key, uint32_t uid, struct slice id)
{
    put_text(index, key, 'E', EMAIL_ID_VERSION, uid, id);
}

/* ---- writing ---- */

static int
write_pending(struct index *index, MDB_txn *txn, struct err *err)
{
    const size_t key_len = INDEX_KEY + 1 + 4;
    struct slice rest = buf_slice(&index->pending);
    while (rest.len > 0) {
        uint32_t len;
        check(rest.len >= key_len + sizeof(len));
        memcpy(&len, rest.ptr + key_len, sizeof(len));
        check(len <= rest.len - key_len - sizeof(len));
        const char *value = rest.ptr + key_len + sizeof(len);
        if (index_store(index, txn, (const unsigned char *)rest.ptr, key_len, slice_make(value, len), err) < 0)
            return -1;
        rest = slice_make(value + len, rest.len - key_len - sizeof(len) - len);
    }
    return 0;
}

void
index_flush(struct index *index)
{
    struct err err;
    if (index->pending.len == 0)
        return;
    MDB_txn *txn = index->is_failed ? NULL : index_write_begin(index, &err);
    if (txn && write_pending(index, txn, &err) == 0)
        (void)!index_write_end(index, txn, &err);
    else if (txn)
        mdb_txn_abort(txn);
    buf_release(&index->pending);
}
