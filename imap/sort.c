/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/sort.h"

#include <stdlib.h>
#include <string.h>

#include "imap/cache.h"
#include "imap/search_text.h"

enum { SORT_KEYS = 9, SORT_TURN = 256 };

int
sort_take_keys(struct session *s, struct sort_key **keys, size_t *count)
{
    static const char *const words[] = {"ARRIVAL", "CC", "DATE",        "FROM",     "SIZE",
                                        "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO"};
    *keys = arena_array(s->cmd, SORT_KEYS, sizeof(**keys));
    *count = 0;
    if (imap_take(&s->in, '(') < 0)
        return -1;
    for (;;) {
        bool reverse = imap_keyword(&s->in, "REVERSE");
        size_t i = 0;
        if (reverse && imap_space(&s->in) < 0)
            return -1;
        while (i < ARRAY_LEN(words) && !imap_keyword(&s->in, words[i]))
            i++;
        if (i == ARRAY_LEN(words))
            return imap_fail(&s->in, "unknown sort key");
        if (*count == SORT_KEYS)
            return imap_fail(&s->in, "too many sort keys");
        (*keys)[(*count)++] = (struct sort_key){(enum sort_kind)i, reverse};
        if (imap_at(&s->in, ')'))
            return imap_take(&s->in, ')');
        if (imap_space(&s->in) < 0)
            return -1;
    }
}

/* ---- base subjects ---- */

static bool
trim_end(struct slice *text)
{
    bool any = false;
    for (;;) {
        struct slice trimmed = slice_trim(*text);
        if (trimmed.len >= 5 && slice_equal_text_fold(slice_make(trimmed.ptr + trimmed.len - 5, 5), "(fwd)")) {
            *text = slice_make(trimmed.ptr, trimmed.len - 5);
            any = true;
            continue;
        }
        *text = trimmed;
        return any;
    }
}

/* "[blob] " at the front: its length, 0: none. */
static size_t
blob(struct slice text)
{
    const char *end = text.len > 0 && text.ptr[0] == '[' ? memchr(text.ptr, ']', text.len) : NULL;
    if (!end || memchr(text.ptr + 1, '[', (size_t)(end - text.ptr - 1)))
        return 0;
    size_t len = (size_t)(end - text.ptr) + 1;
    while (len < text.len && text.ptr[len] == ' ')
        len++;
    return len;
}

/* "Re:", "Fw[x]:", "Fwd :" at the front: its length, 0: none. */
static size_t
reply_mark(struct slice text)
{
    size_t len = 0;
    if (text.len >= 3 && slice_starts_with_fold(text, "fwd"))
        len = 3;
    else if (text.len >= 2 && (slice_starts_with_fold(text, "re") || slice_starts_with_fold(text, "fw")))
        len = 2;
    if (!len)
        return 0;
    while (len < text.len && text.ptr[len] == ' ')
        len++;
    len += blob(slice_make(text.ptr + len, text.len - len));
    return len < text.len && text.ptr[len] == ':' ? len + 1 : 0;
}

static bool
trim_front(struct slice *text, bool *is_reply)
{
    size_t blobs = 0, last = 0, one, mark;
    *text = slice_trim(*text);
    while ((one = blob(slice_make(text->ptr + blobs, text->len - blobs))) > 0) {
        mark = reply_mark(slice_make(text->ptr + blobs + one, text->len - blobs - one));
        last = blobs;
        blobs += one;
        if (mark > 0)
            break;
    }
    mark = reply_mark(slice_make(text->ptr + blobs, text->len - blobs));
    if (mark > 0) {
        *text = slice_make(text->ptr + blobs + mark, text->len - blobs - mark);
        *is_reply = true;
        return true;
    }
    size_t off = blobs < text->len ? blobs : last; /* all at once, for there may be thousands; something stays */
    *text = slice_make(text->ptr + off, text->len - off);
    return off > 0;
}

struct slice
sort_base_subject(struct arena *arena, struct slice subject, bool *is_reply)
{
    struct buf words = {0}, folded = {0};
    mime_decode_words(mime_unfold(arena, subject), &words);
    search_fold(buf_slice(&words), &folded);
    struct slice text = arena_slice(arena, buf_slice(&folded));
    buf_release(&words);
    buf_release(&folded);
    *is_reply = false;
    for (;;) {
        if (trim_end(&text))
            *is_reply = true;
        while (trim_front(&text, is_reply))
            ;
        if (text.len < 6 || !slice_starts_with_fold(text, "[fwd:") || text.ptr[text.len - 1] != ']')
            return text;
        text = slice_make(text.ptr + 5, text.len - 6);
        *is_reply = true;
    }
}

int64_t
sort_sent_date(struct folder *folder, struct folder_message *message, const struct index_cached *cached)
{
    return cached->has_sent ? cached->sent : message ? folder_message_time(folder, message) : 0;
}

struct slice
sort_address(struct arena *arena, struct slice header, const char *field, bool display)
{
    struct mime_address *list;
    struct slice value, result = {"", 0};
    struct buf words = {0}, folded = {0};
    if (!mime_field_find(header, field, &value) || mime_addresses(arena, value, &list) == 0)
        return result;
    const struct mime_address *a = &list[0];
    if (!display) {
        buf_append_slice(&words, a->local);
    } else if (a->name.len > 0) {
        mime_decode_words(a->name, &words);
    } else {
        buf_append_slice(&words, a->local);
        if (a->domain.len > 0)
            buf_append_byte(&words, '@');
        buf_append_slice(&words, a->domain);
    }
    search_fold(buf_slice(&words), &folded);
    result = arena_slice(arena, buf_slice(&folded));
    buf_release(&words);
    buf_release(&folded);
    return result;
}

/* ---- sorting ---- */

struct value {
    int64_t number;
    struct slice text;
};

struct row {
    uint32_t uid;
    const struct sort_key *keys;
    size_t key_count;
    struct value *values; /* one of each key */
};

static bool
needs_header(const struct sort_key *keys, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (keys[i].kind != SORT_ARRIVAL && keys[i].kind != SORT_SIZE)
            return true;
    return false;
}

static void
fill_key(struct session *s, struct row *row, size_t i, const struct index_cached *cached)
{
    static const enum index_text texts[] = {[SORT_CC] = INDEX_CC,
                                            [SORT_FROM] = INDEX_FROM,
                                            [SORT_SUBJECT] = INDEX_SUBJECT,
                                            [SORT_TO] = INDEX_TO,
                                            [SORT_DISPLAYFROM] = INDEX_DISPLAY_FROM,
                                            [SORT_DISPLAYTO] = INDEX_DISPLAY_TO};
    struct folder *folder = s->selected->folder;
    struct folder_message *message = folder_find(folder, row->uid);
    struct value *value = &row->values[i];
    struct err err;
    switch (row->keys[i].kind) {
    case SORT_ARRIVAL: value->number = message ? folder_message_time(folder, message) : 0; break;
    case SORT_SIZE: value->number = message ? (int64_t)folder_message_size(folder, message, &err) : 0; break;
    case SORT_DATE: value->number = sort_sent_date(folder, message, cached); break;
    default: value->text = arena_slice(s->cmd, cached->texts[texts[row->keys[i].kind]]); break;
    }
}

static int
compare_slices(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n ? memcmp(a.ptr, b.ptr, n) : 0;
    return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

static int
compare_rows(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    for (size_t i = 0; i < x->key_count; i++) {
        const struct value *v = &x->values[i], *w = &y->values[i];
        int order = v->number != w->number ? (v->number < w->number ? -1 : 1) : compare_slices(v->text, w->text);
        if (order)
            return x->keys[i].reverse ? -order : order;
    }
    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

static int may_wait
fill_rows(struct session *s, struct row *rows, size_t count, const struct sort_key *keys, size_t key_count,
          struct err *err)
{
    struct value *values = arena_array(s->cmd, count * key_count + 1, sizeof(*values));
    bool read = needs_header(keys, key_count);
    struct arena *arena = arena_new();
    int result = 0;
    for (size_t i = 0; result == 0 && i < count; i++) {
        struct index_cached cached = {0};
        rows[i].keys = keys;
        rows[i].key_count = key_count;
        rows[i].values = &values[i * key_count];
        if (read && cache_get(s->selected->folder, rows[i].uid, arena, &cached, err) < 0)
            result = -1;
        for (size_t k = 0; k < key_count; k++)
            fill_key(s, &rows[i], k, &cached);
        arena_reset(arena);
        if (read && i % SORT_TURN == SORT_TURN - 1 && task_yield(err) < 0)
            result = -1;
    }
    arena_free(&arena);
    folder_cache_flush(s->selected->folder);
    return result;
}

int
sort_run(struct session *s, const struct sort_key *keys, size_t key_count, uint32_t *uids, size_t count,
         struct err *err)
{
    struct row *rows = arena_array(s->cmd, count + 1, sizeof(*rows));
    for (size_t i = 0; i < count; i++)
        rows[i].uid = uids[i];
    if (fill_rows(s, rows, count, keys, key_count, err) < 0)
        return -1;
    qsort(rows, count, sizeof(*rows), compare_rows);
    for (size_t i = 0; i < count; i++)
        uids[i] = rows[i].uid;
    return 0;
}
