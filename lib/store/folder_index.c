/* SPDX-License-Identifier: Apache-2.0 */
/* An open folder and the index: what the folder shows is brought into the index, and the index tells what the folder can't. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/siphash.h"
#include "lib/store/folder_private.h"
#include "lib/store/uidlist.h"

/* ---- what has to be brought in ---- */

static void
add_uid(struct folder_uids *list, uint32_t uid)
{
    if (list->count > 0 && list->uids[list->count - 1] == uid)
        return;
    if (list->count == list->size) {
        list->size = list->size ? 2 * list->size : 16;
        list->uids = realloc(list->uids, list->size * sizeof(*list->uids));
        if (!list->uids)
            fatal("out of memory");
    }
    list->uids[list->count++] = uid;
}

static int
compare_uids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Ascending, each once. */
static void
sort_uids(struct folder_uids *list)
{
    size_t kept = 0;
    if (list->count == 0)
        return;
    qsort(list->uids, list->count, sizeof(*list->uids), compare_uids);
    for (size_t i = 1; i < list->count; i++)
        if (list->uids[i] != list->uids[kept])
            list->uids[++kept] = list->uids[i];
    list->count = kept + 1;
}

void
folder_index_changed(struct folder *folder, struct folder_message *message)
{
    if (!folder->index)
        return;
    message->modseq = 0;
    add_uid(&folder->changed, message->uid);
}

void
folder_index_learned(struct folder *folder, const struct folder_message *message)
{
    if (folder->index)
        add_uid(&folder->changed, message->uid);
}

void
folder_index_gone(struct folder *folder, uint32_t uid)
{
    if (folder->index)
        add_uid(&folder->gone, uid);
}

/* ---- the first look ---- */

struct index_key
folder_key(const struct folder *folder)
{
    const char *unique = folder_guid(folder);
    return index_key(slice_from(*unique ? unique : folder->path), folder_uid_validity(folder));
}

/* True: it is another than before, since UIDVALIDITY is. */
static bool
take_key(struct folder *folder)
{
    struct index_key key = folder_key(folder);
    bool is_same = memcmp(&key, &folder->index_key, sizeof(key)) == 0;
    folder->index_key = key;
    return !is_same;
}

static void
merge_one(struct folder *folder, struct folder_message *message, const struct index_message *known)
{
    bool is_new = known->flags & INDEX_IS_NEW;
    bool is_same = message->flags == (known->flags & ~(unsigned)INDEX_IS_NEW) && message->keywords == known->keywords;
    if (is_same)
        message->modseq = known->modseq;
    if (!is_same || is_new != message->is_new)
        add_uid(&folder->changed, message->uid);
    message->saved = known->saved;
    if (!message->wire_size)
        message->wire_size = known->size;
    else if (!known->size)
        add_uid(&folder->changed, message->uid);
    if (!message->arrived)
        message->arrived = known->arrived;
}

/* UIDs under which the index knows another file than the folder has: a Maildir that was put back to an older state gives numbers once
 * more. */
struct others {
    struct folder *folder;
    struct folder_uids uids;
};

static void
compare_name(void *ctx, uint32_t uid, const struct index_name *name)
{
    struct others *others = ctx;
    const struct folder_message *message = folder_find(others->folder, uid);
    if (message && message->file && !slice_equal(uidlist_base_name(name->text), message->name))
        add_uid(&others->uids, uid);
}

static int
find_others(struct folder *folder, const struct index_message *known, size_t count, struct others *others,
            struct err *err)
{
    for (size_t i = 0; i < count && folder->kind->index_name;) {
        uint32_t run = known[i].uid / INDEX_RUN;
        if (index_names(folder->index, &folder->index_key, known[i].uid, compare_name, others, err) < 0)
            return -1;
        while (i < count && known[i].uid / INDEX_RUN == run)
            i++;
    }
    return 0;
}

/* All three lists ascend. */
static void
merge(struct folder *folder, const struct index_message *known, size_t count, const struct folder_uids *others)
{
    size_t k = 0, other = 0;
    folder->changed.count = folder->gone.count = 0;
    for (size_t i = 0; i < folder->count; i++) {
        struct folder_message *message = folder->messages[i];
        message->modseq = 0;
        while (k < count && known[k].uid < message->uid)
            add_uid(&folder->gone, known[k++].uid);
        while (other < others->count && others->uids[other] < message->uid)
            other++;
        bool is_known = k < count && known[k].uid == message->uid;
        bool is_other = other < others->count && others->uids[other] == message->uid;
        if (is_known && is_other)
            add_uid(&folder->gone, known[k++].uid);
        if (is_known && !is_other)
            merge_one(folder, message, &known[k++]);
        else
            add_uid(&folder->changed, message->uid);
    }
    while (k < count)
        add_uid(&folder->gone, known[k++].uid);
}

static int
load(struct folder *folder, struct err *err)
{
    struct others others = {.folder = folder};
    struct index_message *known;
    size_t count;
    if (index_load(folder->index, &folder->index_key, &known, &count, &folder->highest_modseq, &folder->in_index, err) <
        0)
        return -1;
    int result = find_others(folder, known, count, &others, err);
    if (result == 0)
        merge(folder, known, count, &others.uids);
    folder->is_index_loaded = result == 0;
    free(known);
    free(others.uids.uids);
    return result;
}

/* ---- following ---- */

static size_t
gather(struct folder *folder, struct index_message *messages, struct index_name *names)
{
    uint32_t now = (uint32_t)time(NULL);
    size_t count = 0;
    sort_uids(&folder->changed);
    for (size_t i = 0; i < folder->changed.count; i++) {
        struct folder_message *message = folder_find(folder, folder->changed.uids[i]);
        if (!message)
            continue;
        if (!message->saved)
            message->saved = now;
        if (folder->kind->index_name)
            folder->kind->index_name(folder, message, &names[count]);
        messages[count++] = (struct index_message){.uid = message->uid,
                                                   .flags = message->flags | (message->is_new ? INDEX_IS_NEW : 0),
                                                   .keywords = message->keywords,
                                                   .saved = message->saved,
                                                   .modseq = message->modseq,
                                                   .size = message->wire_size,
                                                   .arrived = message->arrived};
    }
    return count;
}

static int
commit(struct folder *folder, struct err *err)
{
    struct index_message *messages = calloc(folder->changed.count + 1, sizeof(*messages));
    struct index_name *names = calloc(folder->changed.count + 1, sizeof(*names));
    struct index_snapshot snapshot = {0};
    struct index_place place = {.names = names, .highest = folder->highest_modseq};
    if (!messages || !names)
        fatal("out of memory");
    if (folder->kind->snapshot && folder->kind->snapshot(folder, &snapshot))
        place.snapshot = &snapshot;
    size_t count = gather(folder, messages, names);
    sort_uids(&folder->gone);
    int result = index_commit(folder->index, &folder->index_key, messages, count, folder->gone.uids, folder->gone.count,
                              folder->kind->snapshot ? &place : NULL, &folder->highest_modseq, err);
    folder->in_index = place.snapshot && !place.is_behind ? snapshot : (struct index_snapshot){0};
    if (place.is_behind)
        folder->is_index_loaded = false;
    for (size_t i = 0; result == 0 && i < count; i++) {
        struct folder_message *message = folder_find(folder, messages[i].uid);
        message->modseq = messages[i].modseq;
        message->saved = messages[i].saved;
        message->arrived = messages[i].arrived;
    }
    folder->changed.count = folder->gone.count = 0;
    free(messages);
    free(names);
    return result;
}

/* The index tells the next process more than it does now. */
static bool
has_new_snapshot(const struct folder *folder)
{
    struct index_snapshot snapshot = {0};
    return folder->kind->snapshot && folder->kind->snapshot(folder, &snapshot) &&
           memcmp(&snapshot, &folder->in_index, sizeof(snapshot)) != 0;
}

void
folder_index_follow(struct folder *folder)
{
    struct err err;
    if (!folder->index)
        return;
    if (take_key(folder))
        folder->is_index_loaded = false;
    int result = folder->is_index_loaded ? 0 : load(folder, &err);
    if (result == 0 && (folder->changed.count > 0 || folder->gone.count > 0 || folder->highest_modseq == 0 ||
                        has_new_snapshot(folder)))
        result = commit(folder, &err);
    if (result == 0)
        return;
    log_warning("%s: goes on without its index: %s", folder->path, err.text);
    folder->index = NULL;
    folder->highest_modseq = 0;
}

void
folder_commit_flags(struct folder *folder)
{
    folder_index_follow(folder);
}

void
folder_index_release(struct folder *folder)
{
    if (folder->index && folder->is_index_loaded && folder->changed.count > 0)
        folder_index_follow(folder); /* sizes and times that were learned */
    free(folder->changed.uids);
    free(folder->gone.uids);
}

/* ---- instead of a look at the folder ---- */

static bool
is_like(const struct index_snapshot *a, const struct index_snapshot *b)
{
    return memcmp(&a->cur, &b->cur, sizeof(a->cur)) == 0 && memcmp(&a->new, &b->new, sizeof(a->new)) == 0 &&
           memcmp(&a->list, &b->list, sizeof(a->list)) == 0;
}

bool
folder_index_take(struct folder *folder, struct index_snapshot *snapshot, struct index_message **messages,
                  size_t *count)
{
    struct index_snapshot stored;
    uint64_t highest;
    struct err err;
    bool known;
    if (!folder->index)
        return false;
    (void)take_key(folder);
    if (index_get_snapshot(folder->index, &folder->index_key, &stored, &known, &err) < 0 || !known ||
        !is_like(&stored, snapshot) ||
        index_load(folder->index, &folder->index_key, messages, count, &highest, &stored, &err) < 0)
        return false;
    if (!is_like(&stored, snapshot) || stored.count != *count || highest == 0) {
        free(*messages);
        return false;
    }
    *snapshot = folder->in_index = stored;
    folder->highest_modseq = highest;
    folder->is_index_loaded = true;
    folder->changed.count = folder->gone.count = 0;
    return true;
}

bool
folder_index_names(struct folder *folder, uint32_t uid, index_take_name *take, void *ctx)
{
    struct err err;
    return folder->index && index_names(folder->index, &folder->index_key, uid, take, ctx, &err) == 0;
}

/* ---- which message it is ---- */

static uint32_t
identity_of_name(struct slice base)
{
    static const struct siphash_key key = {0x6964656e74697479, 0x6f662061206e616d};
    uint64_t sum = siphash(&key, base.ptr, base.len);
    return (uint32_t)(sum >> 32) | 1;
}

static void
identify_name(void *ctx, uint32_t uid, const struct index_name *name)
{
    ((uint32_t *)ctx)[uid % INDEX_RUN] = identity_of_name(uidlist_base_name(name->text));
}

void
folder_identify(struct folder *folder, uint32_t run, uint32_t identities[INDEX_RUN])
{
    uint32_t named[INDEX_RUN] = {0};
    bool has_asked = false;
    memset(identities, 0, INDEX_RUN * sizeof(*identities));
    for (size_t i = folder_lower_bound(folder, run * INDEX_RUN); i < folder->count; i++) {
        const struct folder_message *message = folder->messages[i];
        uint32_t slot = message->uid % INDEX_RUN;
        if (message->uid / INDEX_RUN != run)
            break;
        if (folder->kind->identity)
            identities[slot] = folder->kind->identity(message);
        else if (message->file)
            identities[slot] = identity_of_name(message->name);
        else {
            if (!has_asked)
                (void)folder_index_names(folder, message->uid, identify_name, named);
            has_asked = true;
            identities[slot] = named[slot];
        }
    }
}

/* ---- what others ask ---- */

void
folder_use_index(struct folder *folder, struct index *index)
{
    folder->index = index;
    folder->is_index_loaded = false;
}

void
folder_index_forget(struct folder *folder)
{
    struct err err;
    if (!folder->index)
        return;
    (void)take_key(folder);
    if (index_forget(folder->index, &folder->index_key, &err) < 0)
        log_warning("%s", err.text);
    folder->index = NULL;
}

uint64_t
folder_highest_modseq(const struct folder *folder)
{
    return folder->highest_modseq;
}

int
folder_vanished(struct folder *folder, uint64_t since, struct arena *arena, uint32_t **uids, size_t *count, bool *known,
                struct err *err)
{
    *known = false;
    *count = 0;
    if (!folder->index)
        return 0;
    return index_vanished(folder->index, &folder->index_key, since, arena, uids, count, known, err);
}

bool
folder_cached(struct folder *folder, uint32_t uid, struct arena *arena, struct index_cached *cached)
{
    return folder->is_index_loaded && folder->index && index_get(folder->index, &folder->index_key, uid, arena, cached);
}

void
folder_cache(struct folder *folder, uint32_t uid, const struct index_cached *cached)
{
    if (folder->is_index_loaded && folder->index)
        index_put(folder->index, &folder->index_key, uid, cached);
}

bool
folder_cached_header(struct folder *folder, uint32_t uid, struct arena *arena, struct slice *header)
{
    return folder->is_index_loaded && folder->index &&
           index_get_header(folder->index, &folder->index_key, uid, arena, header);
}

void
folder_cache_header(struct folder *folder, uint32_t uid, struct slice header)
{
    if (folder->is_index_loaded && folder->index)
        index_put_header(folder->index, &folder->index_key, uid, header);
}

bool
folder_cached_email_id(struct folder *folder, uint32_t uid, struct arena *arena, struct slice *id)
{
    return folder->is_index_loaded && folder->index &&
           index_get_email_id(folder->index, &folder->index_key, uid, arena, id);
}

void
folder_cache_email_id(struct folder *folder, uint32_t uid, struct slice id)
{
    if (folder->is_index_loaded && folder->index)
        index_put_email_id(folder->index, &folder->index_key, uid, id);
}

void
folder_cache_flush(struct folder *folder)
{
    if (folder->index)
        index_flush(folder->index);
}
