/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/condstore.h"

#include "lib/imap/output.h"

/* ---- the state ---- */

void
condstore_tell_highest(struct session *s)
{
    uint64_t highest = folder_highest_modseq(s->selected->folder);
    if (highest)
        session_printf(s, "* OK [HIGHESTMODSEQ %llu] Highest\r\n", (unsigned long long)highest);
    else
        session_printf(s, "* OK [NOMODSEQ] No mod-sequences here\r\n");
}

void
condstore_enable(struct session *s)
{
    bool was = s->condstore;
    s->condstore = s->view.condstore = true;
    if (!was && s->selected)
        condstore_tell_highest(s);
}

void
condstore_enable_qresync(struct session *s)
{
    condstore_enable(s);
    s->qresync = s->view.qresync = true;
}

int
condstore_need(struct session *s)
{
    if (!folder_highest_modseq(s->selected->folder))
        return imap_fail(&s->in, "this mailbox has no mod-sequences");
    return 0;
}

/* ---- parsing ---- */

int
condstore_take_modseq(struct session *s, uint64_t *modseq)
{
    return imap_number(&s->in, INT64_MAX, modseq);
}

/* " (1,5 41,60)": numbers and the UIDs that they had: we find what vanished without. */
static int
take_matches(struct session *s)
{
    struct imap_set numbers, uids;
    if (imap_space(&s->in) < 0 || imap_take(&s->in, '(') < 0 || imap_set(&s->in, &numbers) < 0 ||
        imap_space(&s->in) < 0 || imap_set(&s->in, &uids) < 0)
        return -1;
    return imap_take(&s->in, ')');
}

static int
take_qresync(struct session *s, struct condstore_select *select)
{
    uint64_t validity;
    if (!s->qresync)
        return imap_fail(&s->in, "QRESYNC is not enabled");
    if (imap_space(&s->in) < 0 || imap_take(&s->in, '(') < 0 || imap_nz_number(&s->in, UINT32_MAX, &validity) < 0 ||
        imap_space(&s->in) < 0 || condstore_take_modseq(s, &select->modseq) < 0)
        return -1;
    select->uid_validity = (uint32_t)validity;
    select->qresync = true;
    while (imap_at(&s->in, ' ')) {
        if (s->in.rest.len > 1 && s->in.rest.ptr[1] == '(') {
            if (take_matches(s) < 0)
                return -1;
            break;
        }
        if (select->has_known)
            return imap_fail(&s->in, "malformed QRESYNC");
        if (imap_space(&s->in) < 0 || imap_set(&s->in, &select->known) < 0)
            return -1;
        if (select->known.is_saved)
            return imap_fail(&s->in, "malformed QRESYNC");
        select->has_known = true;
    }
    return imap_take(&s->in, ')');
}

int
condstore_take_select(struct session *s, struct condstore_select *select)
{
    *select = (struct condstore_select){0};
    if (!imap_at(&s->in, ' '))
        return 0;
    if (imap_space(&s->in) < 0 || imap_take(&s->in, '(') < 0)
        return -1;
    for (;;) {
        if (imap_keyword(&s->in, "CONDSTORE"))
            select->condstore = true;
        else if (!imap_keyword(&s->in, "QRESYNC"))
            return imap_fail(&s->in, "unknown parameter");
        else if (take_qresync(s, select) < 0)
            return -1;
        if (imap_at(&s->in, ')'))
            return imap_take(&s->in, ')');
        if (imap_space(&s->in) < 0)
            return -1;
    }
}

/* ---- what vanished ---- */

static void
put_range(struct buf *out, uint32_t from, uint32_t to)
{
    if (from > to)
        return;
    if (out->len > 0)
        buf_append_byte(out, ',');
    buf_printf(out, from == to ? "%u" : "%u:%u", from, to);
}

/* All of first to last that the folder has not. */
static void
put_missing(const struct folder *folder, uint32_t first, uint32_t last, struct buf *out)
{
    uint32_t next = first;
    for (size_t i = folder_lower_bound(folder, first); i < folder_count(folder); i++) {
        uint32_t uid = folder_at(folder, i)->uid;
        if (uid > last)
            break;
        put_range(out, next, uid - 1);
        next = uid + 1;
    }
    put_range(out, next, last);
}

/* The index does not reach back so far: all that is not there may have vanished since. */
static void
put_all_missing(const struct folder *folder, const struct imap_set *set, struct buf *out)
{
    uint32_t most = folder_next_uid(folder) - 1;
    if (!set) {
        put_missing(folder, 1, most, out);
        return;
    }
    for (size_t i = 0; i < set->count; i++) {
        struct imap_range range = set->ranges[i];
        put_missing(folder, range.from ? range.from : 1, range.to < most ? range.to : most, out);
    }
}

static void
put_listed(const struct folder *folder, const struct imap_set *set, const uint32_t *uids, size_t count,
           struct buf *out)
{
    struct imap_set_writer writer = {.out = out};
    for (size_t i = 0; i < count; i++)
        if ((!set || imap_set_has(set, uids[i])) && !folder_find(folder, uids[i]))
            imap_set_add(&writer, uids[i]);
    imap_set_close(&writer);
}

int
condstore_tell_vanished(struct session *s, uint64_t since, struct imap_set *set, struct err *err)
{
    struct folder *folder = s->selected->folder;
    struct buf out = {0};
    uint32_t *uids;
    size_t count;
    bool known;
    if (folder_vanished(folder, since, s->cmd, &uids, &count, &known, err) < 0)
        return -1;
    if (set)
        imap_set_resolve(set, folder_next_uid(folder) - 1);
    if (known)
        put_listed(folder, set, uids, count, &out);
    else
        put_all_missing(folder, set, &out);
    if (out.len > 0)
        session_printf(s, "* VANISHED (EARLIER) %s\r\n", buf_text(&out));
    buf_release(&out);
    return 0;
}

/* ---- SELECT ---- */

int
condstore_tell_resync(struct session *s, struct condstore_select *select, struct err *err)
{
    struct folder *folder = s->selected->folder;
    struct imap_set *known = select->has_known ? &select->known : NULL;
    struct buf out = {0};
    if (!select->qresync || select->uid_validity != folder_uid_validity(folder) || !folder_highest_modseq(folder))
        return 0;
    if (condstore_tell_vanished(s, select->modseq, known, err) < 0)
        return -1;
    for (size_t i = 0; i < s->view.count; i++) {
        const struct folder_message *message = folder_find(folder, s->view.uids[i]);
        if (message && message->modseq > select->modseq && (!known || imap_set_has(known, message->uid)))
            view_put_flags(&s->view, folder, i + 1, message, &out);
    }
    session_write(s, buf_slice(&out));
    buf_release(&out);
    return 0;
}
