/* SPDX-License-Identifier: Apache-2.0 */
/* Names of messages' files: a record for each run, in it for each name: its place in the run, its kind, its length (a byte each), its
 * text. They stand apart from the messages, since few who open a folder open files. */
#include <string.h>

#include "lib/base/check.h"
#include "lib/store/index_private.h"

enum { NAME_HEAD = 3, NAME_LIMIT = 255 };

/* False: it makes no sense. */
static bool
decode(struct slice value, struct index_name *names)
{
    const unsigned char *at = (const unsigned char *)value.ptr, *end = at + value.len;
    while (end - at >= NAME_HEAD) {
        unsigned slot = at[0], kind = at[1], len = at[2];
        if (slot >= INDEX_RUN || kind <= INDEX_NAME_NONE || kind > INDEX_NAME_NEW || len > end - at - NAME_HEAD)
            return false;
        names[slot] = (struct index_name){kind, slice_make((const char *)at + NAME_HEAD, len)};
        at += NAME_HEAD + len;
    }
    return at == end;
}

int
index_names(struct index *index, const struct index_key *key, uint32_t uid, index_take_name *take, void *ctx,
            struct err *err)
{
    unsigned char k[INDEX_KEY_LIMIT];
    struct slice value = {0};
    uint32_t number = uid / INDEX_RUN;
    MDB_txn *txn = index_read_begin(index, err);
    if (!txn)
        return -1;
    struct index_name *names = index->names_of_run;
    memset(names, 0, INDEX_RUN * sizeof(*names));
    int found = index_lookup(index, txn, k, index_make_key(k, key, 'N', number, 4), &value, err);
    if (found > 0 && !decode(value, names))
        found = index_failed(index, MDB_CORRUPTED, "read", err);
    for (uint32_t i = 0; found > 0 && i < INDEX_RUN; i++)
        if (names[i].kind != INDEX_NAME_NONE)
            take(ctx, number * INDEX_RUN + i, &names[i]);
    index_read_end(index);
    return found < 0 ? -1 : 0;
}

static void
encode(const struct index_name *names, struct buf *out)
{
    buf_clear(out);
    for (unsigned i = 0; i < INDEX_RUN; i++) {
        if (names[i].kind == INDEX_NAME_NONE)
            continue;
        check(names[i].text.len <= NAME_LIMIT);
        unsigned char head[NAME_HEAD] = {(unsigned char)i, (unsigned char)names[i].kind,
                                         (unsigned char)names[i].text.len};
        buf_append(out, head, sizeof(head));
        buf_append_slice(out, names[i].text);
    }
}

static bool
is_same(const struct index_name *a, const struct index_name *b)
{
    return a->kind == b->kind && slice_equal(a->text, b->text);
}

int
index_change_names(struct index *index, MDB_txn *txn, const struct index_key *key, uint32_t number,
                   const struct index_message *changed, const struct index_name *new_names, size_t count,
                   const uint32_t *gone, size_t gone_count, struct err *err)
{
    unsigned char k[INDEX_KEY_LIMIT];
    struct index_name *names = index->names_of_run;
    struct slice value;
    size_t len = index_make_key(k, key, 'N', number, 4);
    bool differs = false;
    memset(names, 0, INDEX_RUN * sizeof(*names));
    int found = index_lookup(index, txn, k, len, &value, err);
    if (found < 0 || (found > 0 && !decode(value, names)))
        return found < 0 ? -1 : index_failed(index, MDB_CORRUPTED, "read", err);
    for (size_t i = 0; i < gone_count; i++) {
        struct index_name *slot = &names[gone[i] % INDEX_RUN];
        differs = differs || slot->kind != INDEX_NAME_NONE;
        *slot = (struct index_name){0};
    }
    for (size_t i = 0; i < count; i++) {
        struct index_name *slot = &names[changed[i].uid % INDEX_RUN];
        if (new_names[i].kind == INDEX_NAME_NONE || is_same(slot, &new_names[i]))
            continue;
        *slot = new_names[i];
        differs = true;
    }
    if (!differs)
        return 0;
    encode(names, &index->names);
    if (index->names.len > 0)
        return index_store(index, txn, k, len, buf_slice(&index->names), err);
    MDB_val old = {len, k};
    int code = mdb_del(txn, index->dbi, &old, NULL);
    return code && code != MDB_NOTFOUND ? index_failed(index, code, "write", err) : 0;
}
