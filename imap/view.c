/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/view.h"

#include <stdlib.h>
#include <string.h>

#include "imap/session.h"
#include "lib/base/check.h"
#include "lib/imap/output.h"

static void
unshare(struct view *view)
{
    if (!view->shared)
        return;
    view->size = view->count + 64;
    view->uids = calloc(view->size, sizeof(*view->uids));
    if (!view->uids)
        fatal("out of memory");
    memcpy(view->uids, view->shared->uids, view->count * sizeof(*view->uids));
    uid_list_release(&view->shared);
}

static void
append(struct view *view, uint32_t uid)
{
    unshare(view);
    if (view->count == view->size) {
        view->size = view->size ? 2 * view->size : 64;
        view->uids = realloc(view->uids, view->size * sizeof(*view->uids));
        if (!view->uids)
            fatal("out of memory");
    }
    view->uids[view->count++] = uid;
}

void
view_init(struct view *view, struct folder *folder)
{
    *view = (struct view){.uid_validity = folder_uid_validity(folder),
                          .change = folder_change(folder),
                          .recent_from = UINT32_MAX,
                          .shared = folder_uid_list(folder)};
    view->uids = view->shared->uids;
    view->count = view->shared->count;
}

void
view_release(struct view *view)
{
    if (!view->shared)
        free(view->uids);
    uid_list_release(&view->shared);
    free(view->doubtful);
    *view = (struct view){0};
}

size_t
view_lower_bound(const struct view *view, uint32_t uid)
{
    size_t low = 0, high = view->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (view->uids[middle] < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t
view_sequence(const struct view *view, uint32_t uid)
{
    size_t at = view_lower_bound(view, uid);
    return at < view->count && view->uids[at] == uid ? at + 1 : 0;
}

bool
view_is_recent(const struct view *view, uint32_t uid)
{
    return uid >= view->recent_from;
}

size_t
view_count_recent(const struct view *view)
{
    size_t recent = 0;
    for (size_t i = view->count; i > 0 && view_is_recent(view, view->uids[i - 1]); i--)
        recent++;
    return recent;
}

void
view_doubt(struct view *view, uint32_t uid)
{
    if (view->doubtful_count == view->doubtful_size) {
        view->doubtful_size = view->doubtful_size ? 2 * view->doubtful_size : 64;
        view->doubtful = realloc(view->doubtful, view->doubtful_size * sizeof(*view->doubtful));
        if (!view->doubtful)
            fatal("out of memory");
    }
    view->doubtful[view->doubtful_count++] = uid;
}

static void
tell_vanished(const struct view *view, const struct folder *folder, struct buf *out)
{
    struct imap_set_writer uids = {.out = out};
    buf_append_text(out, "* VANISHED ");
    for (size_t i = 0; i < view->count; i++)
        if (!folder_find(folder, view->uids[i]))
            imap_set_add(&uids, view->uids[i]);
    imap_set_close(&uids);
    buf_append_text(out, "\r\n");
}

static size_t
first_new(const struct view *view, const struct folder *folder)
{
    uint32_t last = view->count ? view->uids[view->count - 1] : 0;
    return last == UINT32_MAX ? folder_count(folder) : folder_lower_bound(folder, last + 1);
}

/* Messages that the client was told of, and that had gone before anybody gave them a UID. */
static void
tell_never_seen(struct view *view, const struct folder *folder, struct buf *out)
{
    for (size_t new = folder_count(folder) - first_new(view, folder); view->told > new; view->told--)
        buf_printf(out, "* %zu EXPUNGE\r\n", view->count + view->told);
}

/* From the end, so that each number is right when the client reads it. */
static void
tell_expunged(struct view *view, const struct folder *folder, struct buf *out)
{
    size_t gone = 0;
    for (size_t i = view->count; i > 0; i--)
        if (!folder_find(folder, view->uids[i - 1])) {
            if (!view->uid_only && !view->qresync)
                buf_printf(out, "* %zu EXPUNGE\r\n", i);
            gone++;
        }
    if (!gone)
        return;
    if (view->uid_only || view->qresync)
        tell_vanished(view, folder, out);
    unshare(view);
    for (size_t i = 0; i < view->count; i++)
        if (!folder_find(folder, view->uids[i]))
            view->uids[i] = 0;
    size_t kept = 0;
    for (size_t i = 0; i < view->count; i++)
        if (view->uids[i])
            view->uids[kept++] = view->uids[i];
    view->count = kept;
}

static void
tell_new(struct view *view, const struct folder *folder, struct buf *out)
{
    size_t before = view->count, told = view->told;
    for (size_t i = first_new(view, folder); i < folder_count(folder); i++)
        append(view, folder_at(folder, i)->uid);
    size_t added = view->count - before;
    view->told = told > added ? told - added : 0;
    if (added <= told)
        return;
    buf_printf(out, "* %zu EXISTS\r\n* %zu RECENT\r\n", view->count, view_count_recent(view));
}

void
view_begin_flags(const struct view *view, size_t sequence, uint32_t uid, struct buf *out)
{
    if (view->uid_only)
        buf_printf(out, "* %u UIDFETCH (FLAGS ", uid);
    else
        buf_printf(out, "* %zu FETCH (UID %u FLAGS ", sequence, uid);
}

void
view_put_flags(const struct view *view, const struct folder *folder, size_t sequence,
               const struct folder_message *message, struct buf *out)
{
    view_begin_flags(view, sequence, message->uid, out);
    session_put_flags(out, folder, message, view_is_recent(view, message->uid));
    if (view->condstore && message->modseq)
        buf_printf(out, " MODSEQ (%llu)", (unsigned long long)message->modseq);
    buf_append_text(out, ")\r\n");
}

static void
tell_flags(struct view *view, const struct folder *folder, size_t known, struct buf *out)
{
    size_t doubt = 0;
    for (size_t i = 0; i < known; i++) {
        const struct folder_message *message = folder_find(folder, view->uids[i]);
        while (doubt < view->doubtful_count && view->doubtful[doubt] < view->uids[i])
            doubt++;
        bool doubtful = doubt < view->doubtful_count && view->doubtful[doubt] == view->uids[i];
        if (!message || (message->change <= view->change && !doubtful))
            continue;
        view_put_flags(view, folder, i + 1, message, out);
    }
}

void
view_update(struct view *view, const struct folder *folder, bool expunges, struct buf *out)
{
    if (!view->restored && folder_change(folder) == view->change && (!expunges || view->count == folder_count(folder)))
        return;
    if (expunges) {
        tell_never_seen(view, folder, out);
        tell_expunged(view, folder, out);
    }
    size_t known = view->count;
    tell_new(view, folder, out);
    tell_flags(view, folder, known, out);
    view->change = folder_change(folder);
    view->restored = view->restored && !expunges;
    view->doubtful_count = 0;
}
