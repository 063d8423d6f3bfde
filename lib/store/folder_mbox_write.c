/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/store/folder_mbox.h"
#include "lib/store/mbox_rewrite.h"

static const char base_mark[] = "user.postern.imapbase";
enum { PADDING = 60, BASE_PADDING = 160 }; /* blanks that later changes can use */

/* ---- what stays when a file has no messages ---- */

void
mbox_remember_base(const struct folder *folder, int fd)
{
    char text[40];
    int len = snprintf(text, sizeof(text), "%u %u", folder->uid_validity, folder->next_uid);
    (void)fsetxattr(fd, base_mark, text, (size_t)len, 0);
}

void
folder_mbox_begin_uids(int fd, uint32_t uid_validity)
{
    char text[40];
    int len = snprintf(text, sizeof(text), "%u 1", uid_validity);
    (void)fsetxattr(fd, base_mark, text, (size_t)len, 0);
}

void
mbox_recall_base(struct folder *folder, int fd)
{
    char text[40];
    ssize_t len = fd >= 0 ? fgetxattr(fd, base_mark, text, sizeof(text) - 1) : 0;
    unsigned validity, next;
    text[len > 0 ? len : 0] = '\0';
    if (len > 0 && sscanf(text, "%u %u", &validity, &next) == 2 && validity > 0 && next > 0) {
        folder->uid_validity = validity;
        folder->next_uid = next;
    } else {
        folder->uid_validity = (uint32_t)time(NULL);
    }
}

/* ---- our own fields ---- */

static void
put_keywords(const struct folder *folder, uint32_t bits, struct buf *out)
{
    for (unsigned i = 0; i < FOLDER_KEYWORDS; i++)
        if ((bits & (1U << i)) && folder->keywords[i])
            buf_printf(out, " %s", folder->keywords[i]);
}

/* Without blanks to spare: those go to the end of X-Keywords, whose line end is cut off here. */
void
mbox_put_own(const struct folder *folder, const struct folder_message *m, bool is_base, bool is_internal,
             struct slice others, struct buf *out)
{
    struct slice word;
    if (is_base) {
        buf_printf(out, "%s: %u %010u", is_internal ? "X-IMAP" : "X-IMAPbase", folder->uid_validity,
                   folder->next_uid - 1);
        put_keywords(folder, UINT32_MAX, out);
        buf_append_byte(out, '\n');
    }
    if (m->uid)
        buf_printf(out, "X-UID: %u\n", m->uid);
    if ((m->flags & FLAG_SEEN) || !m->is_new)
        buf_printf(out, "Status: %s%s\n", m->flags & FLAG_SEEN ? "R" : "", m->is_new ? "" : "O");
    if (m->flags & (FLAG_ANSWERED | FLAG_FLAGGED | FLAG_DELETED | FLAG_DRAFT))
        buf_printf(out, "X-Status: %s%s%s%s\n", m->flags & FLAG_ANSWERED ? "A" : "", m->flags & FLAG_FLAGGED ? "F" : "",
                   m->flags & FLAG_DRAFT ? "T" : "", m->flags & FLAG_DELETED ? "D" : "");
    buf_append_text(out, "X-Keywords:");
    put_keywords(folder, m->keywords, out);
    while (slice_word(&others, " \t\r\n", &word))
        if (folder_find_keyword(folder, word) < 0) {
            buf_append_byte(out, ' ');
            buf_append_slice(out, word);
        }
    buf_append_byte(out, ' ');
}

static void
put_blanks(struct buf *out, size_t n)
{
    memset(buf_reserve(out, n + 1), ' ', n);
    buf_added(out, n);
    buf_append_byte(out, '\n');
}

/* The header's lines as they shall be. As long as they are now if that is possible. */
static void
compose(const struct folder *folder, const struct folder_message *m, bool is_base, bool is_internal,
        struct slice header, struct buf *out)
{
    struct slice rest = header, field;
    struct mbox_own own;
    mbox_parse_own(header, &own);
    while (mbox_cut_field(&rest, &field))
        if (mbox_field_kind(field) != MBOX_OWN)
            buf_append_slice(out, field);
    if (out->len > 0 && out->ptr[out->len - 1] != '\n')
        buf_append_byte(out, '\n');
    mbox_put_own(folder, m, is_base, is_internal, own.keywords, out);
    size_t blanks = is_base ? BASE_PADDING : PADDING;
    if (own.own_bytes > 0 && out->len + 1 <= header.len)
        blanks = header.len - out->len - 1;
    put_blanks(out, blanks);
}

/* ---- the file ---- */

struct flush {
    struct folder *folder;
    int fd;
    struct buf old, new; /* the lines of a header */
    struct err *err;
};

/* c-client's data come first, if there are any. */
static size_t
item_count(const struct folder *folder)
{
    return folder->count + (mbox_of(folder)->internal ? 1 : 0);
}

static struct mbox_message *
item(const struct folder *folder, size_t i)
{
    struct mbox_message *internal = mbox_of(folder)->internal;
    if (internal && i == 0)
        return internal;
    return mbox_own_of(folder->messages[internal ? i - 1 : i]);
}

static bool
base_is_stale(const struct folder *folder)
{
    const struct mbox_folder *b = mbox_of(folder);
    return b->base_is_dirty || b->base_validity != folder->uid_validity || b->base_last != folder->next_uid - 1;
}

/* Fills f->new. */
static int
renew_header(struct flush *f, const struct mbox_message *m, bool is_base)
{
    size_t len = (size_t)m->place.lines;
    buf_clear(&f->old);
    buf_clear(&f->new);
    char *to = buf_reserve(&f->old, len + 1);
    ssize_t n = pread(f->fd, to, len, m->place.at + m->place.from_len);
    if (n != (ssize_t)len)
        return n < 0 ? err_errno(f->err, "read") : err_set(f->err, ERR_TEMP, "the mailbox became shorter");
    buf_added(&f->old, len);
    compose(f->folder, &m->message, is_base, m == mbox_of(f->folder)->internal, buf_slice(&f->old), &f->new);
    return 0;
}

/* What does not fit in its place: the first of those that are written anew. */
static int
patch_headers(struct flush *f, size_t *from)
{
    size_t count = item_count(f->folder);
    bool stale = base_is_stale(f->folder), is_too_long;
    for (*from = 0; *from < count; ++*from) {
        struct mbox_message *m = item(f->folder, *from);
        bool is_base = *from == 0;
        if (m->is_doomed)
            return 0;
        if (!m->is_dirty && !(is_base && stale))
            continue;
        if (renew_header(f, m, is_base) < 0)
            return -1;
        if (f->new.len != f->old.len)
            return 0;
        mbox_of(f->folder)->has_patched = true;
        if (mbox_patch(f->fd, m->place.at + m->place.from_len, buf_slice(&f->old), buf_slice(&f->new), &is_too_long,
                       f->err) < 0)
            return -1;
        if (is_too_long)
            return 0;
        m->is_dirty = false;
    }
    return 0;
}

static bool
needs_header(const struct flush *f, const struct mbox_message *m, bool is_base)
{
    return m->is_dirty || (is_base && base_is_stale(f->folder)) || (is_base && m->place.at > 0);
}

/* Where a message will lie. */
static int
plan_one(struct flush *f, const struct mbox_message *m, bool is_base, off_t at, struct mbox_place *new)
{
    off_t body = m->place.end - m->place.at - m->place.from_len - m->place.header;
    *new = m->place;
    new->at = at;
    if (needs_header(f, m, is_base)) {
        if (renew_header(f, m, is_base) < 0)
            return -1;
        off_t blank = mbox_lacks_blank(&m->place) ? 1 : m->place.header - m->place.lines;
        new->lines = (off_t)f->new.len;
        new->header = new->lines + blank;
    }
    new->end = at + new->from_len + new->header + body;
    return 0;
}

static int
emit_one(struct flush *f, struct mbox_rewrite *w, const struct mbox_message *m, bool is_base)
{
    const struct mbox_place *p = &m->place;
    off_t body = p->at + p->from_len + p->header;
    if (!needs_header(f, m, is_base))
        return mbox_rewrite_copy(w, p->at, p->end - p->at, f->err);
    if (mbox_rewrite_copy(w, p->at, p->from_len, f->err) < 0 || renew_header(f, m, is_base) < 0 ||
        mbox_rewrite_put(w, buf_slice(&f->new), f->err) < 0)
        return -1;
    int blank = mbox_lacks_blank(p) ? mbox_rewrite_put(w, slice_from("\n"), f->err)
                                    : mbox_rewrite_copy(w, body - (p->header - p->lines), p->header - p->lines, f->err);
    return blank < 0 ? -1 : mbox_rewrite_copy(w, body, p->end - body, f->err);
}

static bool
stays_first(const struct folder *folder, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (!item(folder, k)->is_doomed)
            return false;
    return true;
}

/* Everything from the item on gets its new form. */
static int
rewrite_from(struct flush *f, size_t from)
{
    size_t count = item_count(f->folder);
    struct mbox_place *plan = calloc(count - from, sizeof(*plan));
    struct mbox_rewrite w;
    off_t start = item(f->folder, from)->place.at, at = start;
    bool first = stays_first(f->folder, from), is_base = first;
    int result = 0;
    if (!plan)
        fatal("out of memory");
    for (size_t i = from + 1; i < count; i++)
        if (item(f->folder, i)->place.at < item(f->folder, i - 1)->place.end)
            result = err_set(f->err, ERR_IO, "messages do not stand in the order of their UIDs");
    for (size_t i = from; result == 0 && i < count; i++)
        if (!item(f->folder, i)->is_doomed) {
            result = plan_one(f, item(f->folder, i), is_base, at, &plan[i - from]);
            at = plan[i - from].end;
            is_base = false;
        }
    if (result == 0 && from == 0 && at == start)
        mbox_remember_base(f->folder, f->fd);
    if (result == 0)
        result = mbox_rewrite_begin(&w, f->fd, start, at - start, f->err);
    if (result == 0) {
        is_base = first;
        for (size_t i = from; result == 0 && i < count; i++)
            if (!item(f->folder, i)->is_doomed) {
                result = emit_one(f, &w, item(f->folder, i), is_base);
                is_base = false;
            }
        if (result < 0)
            mbox_rewrite_abort(&w);
        else
            result = mbox_rewrite_commit(&w, f->err);
    }
    for (size_t i = from; result == 0 && i < count; i++)
        if (!item(f->folder, i)->is_doomed) {
            item(f->folder, i)->place = plan[i - from];
            item(f->folder, i)->is_dirty = false;
        }
    free(plan);
    return result;
}

static void
drop_doomed(struct folder *folder)
{
    for (size_t i = 0; i < folder->count; i++)
        folder->messages[i]->seen_now = !mbox_own_of(folder->messages[i])->is_doomed;
    folder_drop_unseen(folder, NULL);
    mbox_of(folder)->has_doomed = false;
}

void
mbox_spare_doomed(struct folder *folder)
{
    for (size_t i = 0; i < folder->count; i++)
        mbox_own_of(folder->messages[i])->is_doomed = false;
    mbox_of(folder)->has_doomed = false;
}

void
mbox_base_written(struct folder *folder)
{
    struct mbox_folder *b = mbox_of(folder);
    b->base_validity = folder->uid_validity;
    b->base_last = folder->next_uid - 1;
    b->base_is_dirty = false;
}

int
mbox_flush(struct folder *folder, struct mbox *file, struct err *err)
{
    struct mbox_folder *b = mbox_of(folder);
    struct flush f = {.folder = folder, .fd = file->file.fd, .err = err};
    size_t from;
    if (b->is_read_only)
        return b->has_doomed ? err_set(err, ERR_PERM, "the mailbox can't be written") : 0;
    int result = patch_headers(&f, &from);
    if (result == 0 && from < item_count(folder))
        result = rewrite_from(&f, from);
    buf_release(&f.old);
    buf_release(&f.new);
    if (result < 0) {
        mbox_spare_doomed(folder);
        b->is_settled = b->is_scanned = false; /* what the file holds now is found out by a look */
        return -1;
    }
    if (b->has_doomed)
        drop_doomed(folder);
    if (item_count(folder) > 0)
        mbox_base_written(folder);
    else
        b->base_validity = b->base_last = 0;
    return 0;
}
