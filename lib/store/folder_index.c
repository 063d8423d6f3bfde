/* SPDX-License-Identifier: Apache-2.0 */
/* An open folder and the index: what the folder shows is brought into the index, and the index tells what the folder can't. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/store/folder_private.h"

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

/* True: it is another than before, since UIDVALIDITY is. */
static bool
take_key(struct folder *folder)
{
    const char *unique = folder_guid(folder);
    struct index_key key = index_key(slice_from(*unique ? unique : folder->path), folder_uid_validity(folder));
    bool is_same = memcmp(&key, &folder->index_key, sizeof(key)) == 0;
    folder->index_key = key;
    return !is_same;
}

static void
merge_one(struct folder *folder, struct folder_message *message, const struct index_message *known)
{
    if (message->flags != known->flags || message->keywords != known->keywords) {
        add_uid(&folder->changed, message->uid);
    } else {
        message->modseq = known->modseq;
    }
    message->saved = known->saved;
    if (!message->wire_size)
        message->wire_size = known->size;
    else if (!known->size)
        add_uid(&folder->changed, message->uid);
    if (!message->arrived)
        message->arrived = known->arrived;
}

/* Both lists ascend. */
static void
merge(struct folder *folder, const struct index_message *known, size_t count)
{
    size_t k = 0;
    folder->changed.count = folder->gone.count = 0;
    for (size_t i = 0; i < folder->count; i++) {
        struct folder_message *message = folder->messages[i];
        message->modseq = 0;
        while (k < count && known[k].uid < message->uid)
            add_uid(&folder->gone, known[k++].uid);
        if (k < count && known[k].uid == message->uid)
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
    struct index_message *known;
    size_t count;
    if (index_load(folder->index, &folder->index_key, &known, &count, &folder->highest_modseq, err) < 0)
        return -1;
    merge(folder, known, count);
    free(known);
    folder->is_index_loaded = true;
    return 0;
}

/* ---- following ---- */

static size_t
gather(struct folder *folder, struct index_message *messages)
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
        messages[count++] = (struct index_message){.uid = message->uid,
                                                   .flags = message->flags,
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
    if (!messages)
        fatal("out of memory");
    size_t count = gather(folder, messages);
    sort_uids(&folder->gone);
    int result = index_commit(folder->index, &folder->index_key, messages, count, folder->gone.uids,
                              folder->gone.count, &folder->highest_modseq, err);
    for (size_t i = 0; result == 0 && i < count; i++) {
        struct folder_message *message = folder_find(folder, messages[i].uid);
        message->modseq = messages[i].modseq;
        message->saved = messages[i].saved;
        message->arrived = messages[i].arrived;
    }
    folder->changed.count = folder->gone.count = 0;
    free(messages);
    return result;
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
    if (result == 0 && (folder->changed.count > 0 || folder->gone.count > 0 || folder->highest_modseq == 0))
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
folder_vanished(struct folder *folder, uint64_t since, struct arena *arena, uint32_t **uids, size_t *count,
                bool *known, struct err *err)
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
    return folder->is_index_loaded && folder->index &&
           index_get(folder->index, &folder->index_key, uid, arena, cached);
}

void
folder_cache(struct folder *folder, uint32_t uid, const struct index_cached *cached)
{
    if (folder->is_index_loaded && folder->index)
        index_put(folder->index, &folder->index_key, uid, cached);
}

void
folder_cache_flush(struct folder *folder)
{
    if (folder->index)
        index_flush(folder->index);
}
