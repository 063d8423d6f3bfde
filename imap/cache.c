/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/cache.h"

#include <stdio.h>
#include <string.h>

#include "imap/sort.h"
#include "imap/structure.h"

enum { REFERENCES = 200 };

static bool
is_wide(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] & 0x80)
            return true;
    return false;
}

static struct slice
keep(struct arena *arena, struct buf *text)
{
    struct slice result = arena_slice(arena, buf_slice(text));
    buf_release(text);
    return result;
}

/* Message-IDs in a field: what stands between "<" and ">", each with a NUL behind it. */
static struct slice
take_ids(struct arena *arena, struct slice value, unsigned most)
{
    const char *at = value.ptr, *end = value.ptr + value.len;
    struct buf out = {0};
    for (unsigned count = 0; at < end && count < most && (at = memchr(at, '<', (size_t)(end - at)));) {
        const char *close = memchr(at, '>', (size_t)(end - at));
        if (!close)
            break;
        struct slice id = mime_unfold(arena, slice_make(at + 1, (size_t)(close - at - 1)));
        if (id.len > 0) {
            buf_append_slice(&out, id);
            buf_append_byte(&out, '\0');
            count++;
        }
        at = close + 1;
    }
    return keep(arena, &out);
}

static void
fill_ids(struct arena *arena, struct slice header, struct index_cached *cached)
{
    struct slice value;
    if (mime_field_find(header, "message-id", &value)) {
        struct slice id = take_ids(arena, value, 1);
        cached->texts[INDEX_ID] = slice_make(id.ptr, id.len ? id.len - 1 : 0);
    }
    if (mime_field_find(header, "references", &value))
        cached->texts[INDEX_REFERENCES] = take_ids(arena, value, REFERENCES);
    else if (mime_field_find(header, "in-reply-to", &value))
        cached->texts[INDEX_REFERENCES] = take_ids(arena, value, 1);
}

static void
fill_sort_keys(struct arena *arena, struct slice header, struct index_cached *cached)
{
    struct slice value;
    int zone;
    cached->has_sent = mime_field_find(header, "date", &value) && mime_date(value, &cached->sent, &zone);
    if (mime_field_find(header, "subject", &value))
        cached->texts[INDEX_SUBJECT] = sort_base_subject(arena, value, &cached->is_reply);
    cached->texts[INDEX_FROM] = sort_address(arena, header, "from", false);
    cached->texts[INDEX_TO] = sort_address(arena, header, "to", false);
    cached->texts[INDEX_CC] = sort_address(arena, header, "cc", false);
    cached->texts[INDEX_DISPLAY_FROM] = sort_address(arena, header, "from", true);
    cached->texts[INDEX_DISPLAY_TO] = sort_address(arena, header, "to", true);
}

void
cache_fill(struct folder *folder, uint32_t uid, const struct mime_part *parts, struct arena *arena,
           struct index_cached *cached)
{
    struct folder_message *message = folder_find(folder, uid);
    struct buf out = {0};
    *cached = (struct index_cached){0};
    structure_put_envelope(arena, parts->header, false, &out);
    cached->texts[INDEX_ENVELOPE] = keep(arena, &out);
    structure_put_body(arena, parts, true, false, &out);
    cached->texts[INDEX_STRUCTURE] = keep(arena, &out);
    cached->is_wide = is_wide(cached->texts[INDEX_ENVELOPE]) || is_wide(cached->texts[INDEX_STRUCTURE]);
    fill_sort_keys(arena, parts->header, cached);
    fill_ids(arena, parts->header, cached);
    if (!message)
        return;
    folder_learn_size(folder, message, parts->header_wire + parts->body_wire);
    folder_cache(folder, uid, cached);
}

int
cache_get(struct folder *folder, uint32_t uid, struct arena *arena, struct index_cached *cached, struct err *err)
{
    struct folder_message *message;
    struct folder_content content;
    if (folder_cached(folder, uid, arena, cached))
        return 1;
    *cached = (struct index_cached){0};
    message = folder_find(folder, uid);
    if (!message)
        return 0;
    if (folder_read(folder, message, &content, err) < 0)
        return err->kind == ERR_PERM ? 0 : -1;
    cache_fill(folder, uid, mime_parse(arena, content.bytes), arena, cached);
    folder_content_release(&content);
    return 1;
}

/* ---- identifiers ---- */

int
cache_get_email_id(struct folder *folder, uint32_t uid, struct arena *arena, char id[OBJECT_ID_SIZE], struct err *err)
{
    struct folder_message *message = folder_find(folder, uid);
    struct folder_content content;
    struct slice known;
    if (!message)
        return 0;
    if (folder_cached_email_id(folder, uid, arena, &known) && known.len < OBJECT_ID_SIZE) {
        snprintf(id, OBJECT_ID_SIZE, "%.*s", SLICE_ARG(known));
        return 1;
    }
    if (folder_read(folder, message, &content, err) < 0)
        return err->kind == ERR_PERM ? 0 : -1;
    attributes_object_id('M', content.bytes, id);
    folder_content_release(&content);
    folder_cache_email_id(folder, uid, slice_from(id));
    return 1;
}

int
cache_get_thread_id(struct folder *folder, uint32_t uid, struct arena *arena, char id[OBJECT_ID_SIZE], struct err *err)
{
    struct index_cached cached;
    struct slice root;
    int result = cache_get(folder, uid, arena, &cached, err);
    if (result <= 0)
        return result;
    struct slice references = cached.texts[INDEX_REFERENCES];
    if (!slice_cut(&references, '\0', &root))
        root = cached.texts[INDEX_ID];
    if (root.len > 0) {
        attributes_object_id('T', root, id);
        return 1;
    }
    result = cache_get_email_id(folder, uid, arena, id, err);
    id[0] = 'T';
    return result;
}

/* ---- header fields ---- */

static const char *const kept[] = {"bcc",
                                   "cc",
                                   "content-description",
                                   "content-type",
                                   "date",
                                   "from",
                                   "importance",
                                   "in-reply-to",
                                   "lines",
                                   "list-id",
                                   "list-post",
                                   "list-subscribe",
                                   "list-unsubscribe",
                                   "message-id",
                                   "newsgroups",
                                   "priority",
                                   "references",
                                   "reply-to",
                                   "sender",
                                   "subject",
                                   "to",
                                   "x-label",
                                   "x-priority",
                                   "x-spam-flag",
                                   "x-spam-status"};

bool
cache_keeps_field(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (slice_equal_text_fold(name, kept[i]))
            return true;
    return false;
}

bool
cache_get_header(struct folder *folder, uint32_t uid, struct arena *arena, struct slice *header)
{
    return folder_cached_header(folder, uid, arena, header);
}

void
cache_fill_header(struct folder *folder, uint32_t uid, struct slice header, struct arena *arena)
{
    struct slice rest = header, name, value;
    char *out = arena_alloc(arena, header.len + 3);
    size_t len = 0;
    while (mime_field_next(&rest, &name, &value)) {
        size_t field = (size_t)(value.ptr + value.len - name.ptr);
        if (!cache_keeps_field(name))
            continue;
        memcpy(out + len, name.ptr, field);
        len += field;
        out[len++] = '\n';
    }
    out[len++] = '\n';
    folder_cache_header(folder, uid, slice_make(out, len));
}
