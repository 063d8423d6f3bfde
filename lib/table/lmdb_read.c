/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/lmdb_read.h"

#include <stdatomic.h>
#include <string.h>

/* The format, as the library 0.9 writes it on a little-endian machine with 64 bits. A file is made of pages of one size; pages 0
 * and 1 are descriptions ("meta"), of which the one with the higher transaction number holds. The main database is a B+ tree. */
enum {
    PAGE_BRANCH = 1,
    PAGE_LEAF = 2,
    PAGE_OVERFLOW = 4,
    PAGE_META = 8,
    PAGE_FLAGS = 10, /* offsets in a page's header, of 16 bytes */
    PAGE_LOWER = 12,
    PAGE_UPPER = 14,
    PAGE_HEADER = 16,
    META_MAGIC = 16, /* offsets in a meta page */
    META_VERSION = 20,
    META_FREE_DB = 40, /* its first field is the size of pages */
    META_MAIN_DB = 88,
    META_LAST_PAGE = 136,
    META_TRANSACTION = 144,
    DB_FLAGS = 4, /* offsets in a database's description */
    DB_DEPTH = 6,
    DB_ROOT = 40,
    NODE_HEADER = 8,
    NODE_BIG = 1,
    NODE_OTHER = 6, /* sub-databases and duplicates: not in our tables */
    DEPTH_LIMIT = 32,
    TRIES = 5,
};
#define LMDB_MAGIC 0xBEEFC0DEU
#define NO_PAGE    UINT64_MAX

/* What a look-up works on: the state as of one transaction. */
struct snapshot {
    struct lmdb_read *db;
    uint64_t transaction, root, pages;
    unsigned depth;
};

static uint16_t
get16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t
get32(const unsigned char *p)
{
    return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static uint64_t
get64(const unsigned char *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static int
malformed(struct err *err, const char *what)
{
    return err_set(err, ERR_IO, "the file is damaged: %s", what);
}

/* ---- the state ---- */

static uint64_t
newest_transaction(const struct lmdb_read *db, const unsigned char **meta)
{
    const unsigned char *first = db->file.ptr, *second = first + db->page_size;
    uint64_t a = get64(first + META_TRANSACTION), b = get64(second + META_TRANSACTION);

    *meta = a >= b ? first : second;
    return a >= b ? a : b;
}

static int
check_meta(const unsigned char *meta, struct err *err)
{
    if (!(get16(meta + PAGE_FLAGS) & PAGE_META) || get32(meta + META_MAGIC) != LMDB_MAGIC)
        return err_set(err, ERR_IO, "not an LMDB file");
    if (get32(meta + META_VERSION) != 1)
        return err_set(err, ERR_IO, "an LMDB file of an unknown version: %u", (unsigned)get32(meta + META_VERSION));
    if (get16(meta + META_MAIN_DB + DB_FLAGS) != 0)
        return err_set(err, ERR_IO, "an LMDB file of a kind that is not used for tables");
    return 0;
}

static int
take_snapshot(struct lmdb_read *db, struct snapshot *snapshot, struct err *err)
{
    const unsigned char *meta;

    *snapshot = (struct snapshot){.db = db, .transaction = newest_transaction(db, &meta)};
    atomic_thread_fence(memory_order_acquire);
    if (check_meta(meta, err) < 0)
        return -1;
    snapshot->root = get64(meta + META_MAIN_DB + DB_ROOT);
    snapshot->depth = get16(meta + META_MAIN_DB + DB_DEPTH);
    if (get64(meta + META_LAST_PAGE) >= UINT64_MAX / db->page_size - 1)
        return malformed(err, "its size");
    snapshot->pages = get64(meta + META_LAST_PAGE) + 1;
    if (snapshot->pages * db->page_size > db->file.size && mapped_file_grow(&db->file, err) < 0)
        return -1;
    if (snapshot->pages * db->page_size > db->file.size)
        return malformed(err, "its end is missing");
    if (snapshot->root == NO_PAGE)
        snapshot->depth = 0;
    else if (snapshot->depth == 0 || snapshot->depth > DEPTH_LIMIT)
        return malformed(err, "the depth of its tree");
    return 0;
}

/* Was the state whole all the time? */
static bool
is_current(const struct snapshot *snapshot)
{
    const unsigned char *meta;

    atomic_thread_fence(memory_order_acquire);
    return newest_transaction(snapshot->db, &meta) - snapshot->transaction <= 1;
}

/* ---- pages and nodes ---- */

struct node {
    struct slice key;
    const unsigned char *data;
    uint64_t number; /* a leaf's size of data, or a branch's child */
    unsigned flags;
};

struct page {
    const unsigned char *ptr;
    uint64_t number;
    unsigned count;
    bool leaf;
};

static int
get_page(const struct snapshot *snapshot, uint64_t number, struct page *page, struct err *err)
{
    size_t size = snapshot->db->page_size;

    if (number < 2 || number >= snapshot->pages)
        return malformed(err, "a page's number");
    page->ptr = snapshot->db->file.ptr + number * size;
    page->number = number;
    unsigned flags = get16(page->ptr + PAGE_FLAGS), lower = get16(page->ptr + PAGE_LOWER);
    page->leaf = (flags & PAGE_LEAF) != 0;
    if (get64(page->ptr) != number || (flags & ~0x10U) != (page->leaf ? PAGE_LEAF : PAGE_BRANCH))
        return malformed(err, "a page's header");
    if (lower < PAGE_HEADER || lower > size || (lower & 1))
        return malformed(err, "a page's list");
    page->count = (lower - PAGE_HEADER) / 2;
    return page->count == 0 ? malformed(err, "an empty page") : 0;
}

static int
get_node(const struct snapshot *snapshot, const struct page *page, unsigned index, struct node *node, struct err *err)
{
    size_t size = snapshot->db->page_size, at = get16(page->ptr + PAGE_HEADER + index * 2);

    if (at < PAGE_HEADER || at + NODE_HEADER > size)
        return malformed(err, "the place of an entry");
    const unsigned char *p = page->ptr + at;
    size_t key_size = get16(p + 6);
    if (at + NODE_HEADER + key_size > size)
        return malformed(err, "the size of a key");
    node->key = slice_make(p + NODE_HEADER, key_size);
    node->data = p + NODE_HEADER + key_size;
    node->flags = page->leaf ? get16(p + 4) : 0;
    node->number = get16(p) | (uint64_t)get16(p + 2) << 16;
    if (!page->leaf)
        node->number |= (uint64_t)get16(p + 4) << 32;
    return 0;
}

static int
get_value(const struct snapshot *snapshot, const struct page *page, const struct node *node, struct slice *value,
          struct err *err)
{
    size_t size = snapshot->db->page_size;

    if (node->flags & NODE_OTHER)
        return malformed(err, "the kind of an entry");
    size_t offset = (size_t)(node->data - page->ptr);
    if (!(node->flags & NODE_BIG)) {
        if (offset + node->number > size)
            return malformed(err, "the size of a value");
        *value = slice_make(node->data, node->number);
        return 0;
    }
    if (offset + 8 > size)
        return malformed(err, "the place of a long value");
    uint64_t number = get64(node->data);
    if (number < 2 || number >= snapshot->pages)
        return malformed(err, "a long value's page");
    const unsigned char *p = snapshot->db->file.ptr + number * size;
    if (!(get16(p + PAGE_FLAGS) & PAGE_OVERFLOW) || PAGE_HEADER + node->number > (snapshot->pages - number) * size)
        return malformed(err, "a long value");
    *value = slice_make(p + PAGE_HEADER, node->number);
    return 0;
}

static int
compare(struct slice a, struct slice b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len ? memcmp(a.ptr, b.ptr, len) : 0;

    return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

/* The first entry of the page that is not before the key; a branch's first key counts as the least of all. */
static int
search(const struct snapshot *snapshot, const struct page *page, struct slice key, unsigned *index, bool *equal,
       struct err *err)
{
    unsigned low = page->leaf ? 0 : 1, high = page->count;
    struct node node;

    *equal = false;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (get_node(snapshot, page, middle, &node, err) < 0)
            return -1;
        int order = compare(key, node.key);
        if (order == 0) {
            *equal = true;
            low = middle;
            break;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    *index = low;
    return 0;
}

/* ---- the tree ---- */

/* The way from the root to a leaf. */
struct path {
    struct page pages[DEPTH_LIMIT];
    unsigned index[DEPTH_LIMIT];
};

static int
descend(const struct snapshot *snapshot, struct slice key, struct path *path, bool *equal, struct err *err)
{
    uint64_t number = snapshot->root;

    for (unsigned level = 0; level < snapshot->depth; level++) {
        struct page *page = &path->pages[level];
        struct node node;
        if (get_page(snapshot, number, page, err) < 0)
            return -1;
        if (page->leaf != (level + 1 == snapshot->depth))
            return malformed(err, "the depth of a page");
        if (search(snapshot, page, key, &path->index[level], equal, err) < 0)
            return -1;
        if (page->leaf)
            break;
        if (!*equal)
            path->index[level]--;
        if (get_node(snapshot, page, path->index[level], &node, err) < 0)
            return -1;
        number = node.number;
    }
    return 0;
}

/* From the end of a leaf to the beginning of the next one. 0: there is none. */
static int
next_leaf(const struct snapshot *snapshot, struct path *path, struct err *err)
{
    unsigned level = snapshot->depth - 1;
    struct node node;

    while (level > 0 && path->index[level - 1] + 1 >= path->pages[level - 1].count)
        level--;
    if (level == 0)
        return 0;
    path->index[level - 1]++;
    for (; level < snapshot->depth; level++) {
        if (get_node(snapshot, &path->pages[level - 1], path->index[level - 1], &node, err) < 0 ||
            get_page(snapshot, node.number, &path->pages[level], err) < 0)
            return -1;
        if (path->pages[level].leaf != (level + 1 == snapshot->depth))
            return malformed(err, "the depth of a page");
        path->index[level] = 0;
    }
    return 1;
}

static int
find_in(const struct snapshot *snapshot, struct arena *arena, struct slice key, struct slice *value, struct err *err)
{
    uint64_t number = snapshot->root;
    struct page page;
    struct node node;
    bool equal;

    *value = slice_make(NULL, 0);
    for (unsigned level = 0; level < snapshot->depth; level++) {
        unsigned index;
        if (get_page(snapshot, number, &page, err) < 0 || search(snapshot, &page, key, &index, &equal, err) < 0)
            return -1;
        if (page.leaf != (level + 1 == snapshot->depth))
            return malformed(err, "the depth of a page");
        if (page.leaf && !equal)
            return 0;
        if (get_node(snapshot, &page, page.leaf || equal ? index : index - 1, &node, err) < 0)
            return -1;
        number = node.number;
    }
    if (snapshot->depth == 0)
        return 0;
    if (get_value(snapshot, &page, &node, value, err) < 0)
        return -1;
    *value = arena_slice(arena, *value);
    return 0;
}

static int
after_in(const struct snapshot *snapshot, struct arena *arena, struct slice after, struct slice *key,
         struct slice *value, struct err *err)
{
    struct path path;
    struct node node;
    bool equal = false;
    unsigned leaf = snapshot->depth - 1;

    *key = *value = slice_make(NULL, 0);
    if (snapshot->depth == 0)
        return 0;
    if (descend(snapshot, after, &path, &equal, err) < 0)
        return -1;
    path.index[leaf] += equal;
    if (path.index[leaf] >= path.pages[leaf].count) {
        int more = next_leaf(snapshot, &path, err);
        if (more <= 0)
            return more;
    }
    if (get_node(snapshot, &path.pages[leaf], path.index[leaf], &node, err) < 0 ||
        get_value(snapshot, &path.pages[leaf], &node, value, err) < 0)
        return -1;
    *key = arena_slice(arena, node.key);
    *value = arena_slice(arena, *value);
    return 0;
}

/* ---- what others call ---- */

int
lmdb_read_init(struct lmdb_read *db, int fd, struct err *err)
{
    if (mapped_file_init(&db->file, fd, true, err) < 0)
        return -1;
    int result = db->file.size < META_TRANSACTION + 8 ? malformed(err, "it is too short") : 0;
    if (result == 0)
        result = check_meta(db->file.ptr, err);
    if (result == 0) {
        db->page_size = get32(db->file.ptr + META_FREE_DB);
        if (db->page_size < 512 || db->page_size > 65536 || (db->page_size & (db->page_size - 1)) ||
            db->file.size < 2 * db->page_size)
            result = malformed(err, "the size of its pages");
    }
    if (result < 0)
        mapped_file_release(&db->file);
    return result;
}

void
lmdb_read_release(struct lmdb_read *db)
{
    mapped_file_release(&db->file);
}

/* 1: the answer stands (result is it); 0: try again. */
static int
is_final(const struct snapshot *snapshot, bool last_try, int *result, struct err *err)
{
    if (snapshot->db->file.is_damaged) {
        *result = malformed(err, "it was cut while in use");
        return 1;
    }
    if (is_current(snapshot))
        return 1;
    if (last_try)
        *result = err_set(err, ERR_TEMP, "the file changes all the time");
    return last_try;
}

int
lmdb_read_find(struct lmdb_read *db, struct arena *arena, struct slice key, struct slice *value, struct err *err)
{
    struct snapshot snapshot;

    for (unsigned i = 1;; i++) {
        int result = take_snapshot(db, &snapshot, err);
        if (result == 0)
            result = find_in(&snapshot, arena, key, value, err);
        if (is_final(&snapshot, i == TRIES, &result, err))
            return result;
    }
}

int
lmdb_read_after(struct lmdb_read *db, struct arena *arena, struct slice after, struct slice *key, struct slice *value,
                struct err *err)
{
    struct snapshot snapshot;

    for (unsigned i = 1;; i++) {
        int result = take_snapshot(db, &snapshot, err);
        if (result == 0)
            result = after_in(&snapshot, arena, after, key, value, err);
        if (is_final(&snapshot, i == TRIES, &result, err))
            return result;
    }
}
