/* SPDX-License-Identifier: Apache-2.0 */
/* STORE, COPY, MOVE (RFC 6851), EXPUNGE, and their UID forms (UIDPLUS, RFC 4315). */
#include <string.h>

#include "imap/condstore.h"
#include "imap/flags.h"
#include "imap/quota.h"
#include "imap/session.h"
#include "lib/imap/output.h"

/* ---- flags ---- */

/* \Seen and so on; 0: it is none of the system flags. */
static unsigned
system_flag(struct slice flag)
{
    static const struct {
        const char *name;
        unsigned flag;
    } flags[] = {{"\\Seen", FLAG_SEEN},
                 {"\\Answered", FLAG_ANSWERED},
                 {"\\Flagged", FLAG_FLAGGED},
                 {"\\Deleted", FLAG_DELETED},
                 {"\\Draft", FLAG_DRAFT}};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (slice_equal_text_fold(flag, flags[i].name))
            return flags[i].flag;
    return 0;
}

/* "(\Seen Junk)" or, with loose, flags without parentheses. \Recent is ignored. */
int
imap_take_flags(struct session *s, struct folder *folder, bool loose, unsigned *flags, uint32_t *keywords,
                struct err *why)
{
    bool list = imap_at(&s->in, '(');
    struct slice flag;
    struct err err;
    *flags = 0;
    *keywords = 0;
    *why = (struct err){0};
    if (!list && !loose)
        return imap_fail(&s->in, "a list of flags is expected");
    if (list && imap_take(&s->in, '(') < 0)
        return -1;
    while (!(list ? imap_at(&s->in, ')') : imap_at_end(&s->in))) {
        if (imap_flag(&s->in, &flag) < 0)
            return -1;
        unsigned system = system_flag(flag);
        if (system) {
            *flags |= system;
        } else if (flag.ptr[0] != '\\') {
            int number = folder_keyword_number(folder, flag, true, &err);
            if (number >= 0)
                *keywords |= 1U << number;
            else if (err.kind != ERR_PERM)
                *why = err;
        } else if (!slice_equal_text_fold(flag, "\\Recent")) {
            return imap_fail(&s->in, "unknown flag");
        }
        if (imap_at(&s->in, ' '))
            (void)!imap_space(&s->in);
        else
            break;
    }
    return list ? imap_take(&s->in, ')') : 0;
}

/* ---- STORE ---- */

struct store_request {
    char how; /* '+', '-', '=' */
    bool silent;
    unsigned flags;
    uint32_t keywords;
    bool is_conditional; /* only what did not change since then (RFC 7162) */
    uint64_t unchanged_since;
    struct buf done, modified; /* UIDs */
    struct err err;            /* of a keyword */
};

/* "(UNCHANGEDSINCE 320162338) " */
static int
take_condition(struct session *s, struct store_request *r)
{
    if (!imap_at(&s->in, '('))
        return 0;
    if (imap_take(&s->in, '(') < 0)
        return -1;
    if (!imap_keyword(&s->in, "UNCHANGEDSINCE"))
        return imap_fail(&s->in, "unknown modifier");
    r->is_conditional = true;
    if (condstore_need(s) < 0 || imap_space(&s->in) < 0 || condstore_take_modseq(s, &r->unchanged_since) < 0 ||
        imap_take(&s->in, ')') < 0)
        return -1;
    return imap_space(&s->in);
}

static int
parse_store(struct session *s, struct imap_set *set, struct store_request *r)
{
    if (imap_space(&s->in) < 0 || imap_set(&s->in, set) < 0 || imap_space(&s->in) < 0 || take_condition(s, r) < 0)
        return -1;
    r->how = '=';
    if (imap_at(&s->in, '+') || imap_at(&s->in, '-')) {
        r->how = s->in.rest.ptr[0];
        (void)!imap_take(&s->in, r->how);
    }
    if (imap_keyword(&s->in, "FLAGS.SILENT"))
        r->silent = true;
    else if (!imap_keyword(&s->in, "FLAGS"))
        return imap_fail(&s->in, "FLAGS is expected");
    if (imap_space(&s->in) < 0 || imap_take_flags(s, s->selected->folder, true, &r->flags, &r->keywords, &r->err) < 0)
        return -1;
    return imap_end(&s->in);
}

/* Nothing changed, but the client wants to know. */
static void
tell_unchanged(struct session *s, const struct folder_message *message)
{
    struct buf out = {0};
    view_put_flags(&s->view, s->selected->folder, view_sequence(&s->view, message->uid), message, &out);
    session_write(s, buf_slice(&out));
    buf_release(&out);
}

static int
store_one(struct session *s, struct store_request *r, uint32_t uid, struct err *err)
{
    struct folder *folder = s->selected->folder;
    struct folder_message *message = folder_find(folder, uid);
    bool gone;
    if (!message)
        return 0;
    if (r->is_conditional && message->modseq > r->unchanged_since) {
        buf_append(&r->modified, &uid, sizeof(uid));
        return 0;
    }
    unsigned flags = r->how == '+'   ? message->flags | r->flags
                     : r->how == '-' ? message->flags & ~r->flags
                                     : r->flags | (message->flags & FLAG_PASSED);
    uint32_t keywords = r->how == '+'   ? message->keywords | r->keywords
                        : r->how == '-' ? message->keywords & ~r->keywords
                                        : r->keywords;
    if (flags == message->flags && keywords == message->keywords) {
        if (!r->silent)
            tell_unchanged(s, message);
        return 0;
    }
    uint64_t before = folder_change(folder);
    bool all_known = s->view.change == before;
    int result = folder_set_flags(folder, message, flags, keywords, &gone, err);
    if (r->silent && all_known && folder_change(folder) == before + 1)
        s->view.change = before + 1; /* only ours: the client knows */
    if (r->silent && s->condstore)
        buf_append(&r->done, &uid, sizeof(uid));
    return result;
}

/* A client that stores silently still wants to know the new mod-sequences. */
static void may_wait
tell_modseqs(struct session *s, const struct buf *done)
{
    struct buf out = {0};
    for (size_t i = 0; i + sizeof(uint32_t) <= done->len; i += sizeof(uint32_t)) {
        uint32_t uid;
        memcpy(&uid, done->ptr + i, sizeof(uid));
        const struct folder_message *message = folder_find(s->selected->folder, uid);
        if (!message || !message->modseq)
            continue;
        if (s->uid_only)
            buf_printf(&out, "* %u UIDFETCH (", uid);
        else
            buf_printf(&out, "* %zu FETCH (UID %u ", view_sequence(&s->view, uid), uid);
        buf_printf(&out, "MODSEQ (%llu))\r\n", (unsigned long long)message->modseq);
    }
    session_write(s, buf_slice(&out));
    buf_release(&out);
}

/* "MODIFIED 7,9": what was not stored, since it had changed. */
static const char *
modified_code(struct session *s, const struct buf *modified)
{
    struct buf out = {0};
    struct imap_set_writer set = {.out = &out};
    buf_append_text(&out, "MODIFIED ");
    for (size_t i = 0; i + sizeof(uint32_t) <= modified->len; i += sizeof(uint32_t)) {
        uint32_t uid;
        memcpy(&uid, modified->ptr + i, sizeof(uid));
        imap_set_add(&set, s->by_uid ? uid : (uint32_t)view_sequence(&s->view, uid));
    }
    imap_set_close(&set);
    const char *code = arena_strdup(s->cmd, buf_text(&out));
    buf_release(&out);
    return code;
}

static struct imap_reply may_wait
store_all(struct session *s, struct store_request *r, const uint32_t *uids, size_t count)
{
    struct folder *folder = s->selected->folder;
    struct err err;
    int result = 0;
    for (size_t i = 0; result == 0 && i < count; i++)
        result = store_one(s, r, uids[i], &err);
    if (folder_settle_flags(folder, result == 0 ? &err : NULL) < 0)
        result = -1;
    mailbox_changed(s->selected);
    tell_modseqs(s, &r->done);
    if (result < 0)
        return imap_error(s, &err);
    if (r->modified.len > 0)
        return (struct imap_reply){IMAP_OK, modified_code(s, &r->modified), "Some had changed."};
    return imap_ok("Store completed.");
}

struct imap_reply
cmd_store(struct session *s)
{
    struct store_request r = {0};
    struct imap_set set;
    struct err err;
    uint32_t *uids;
    size_t count;

    if (parse_store(s, &set, &r) < 0 || session_set_uids(s, &set, &uids, &count) < 0)
        return imap_bad(s);
    if (s->read_only)
        return imap_no(s, NULL, "The mailbox is selected read-only.");
    if (r.err.kind != ERR_NONE)
        return imap_error(s, &r.err);
    /* What others changed until now is told first; then all that is new is ours. */
    if (session_sync(s, false, &err) < 0)
        return imap_error(s, &err);
    if (r.is_conditional)
        condstore_enable(s);
    struct imap_reply reply = store_all(s, &r, uids, count);
    buf_release(&r.done);
    buf_release(&r.modified);
    return reply;
}

/* ---- EXPUNGE ---- */

struct imap_reply
cmd_expunge(struct session *s)
{
    struct imap_set set;
    struct err err;
    uint32_t *uids = s->view.uids;
    size_t count = s->view.count;

    if (s->by_uid && (imap_space(&s->in) < 0 || imap_set(&s->in, &set) < 0 || imap_end(&s->in) < 0 ||
                      session_set_uids(s, &set, &uids, &count) < 0))
        return imap_bad(s);
    if (!s->by_uid && imap_end(&s->in) < 0)
        return imap_bad(s);
    if (s->read_only)
        return imap_no(s, NULL, "The mailbox is selected read-only.");
    struct folder *folder = s->selected->folder;
    int64_t bytes = 0, gone = 0;
    if (folder_sync(folder, &err) < 0) /* what others have taken \Deleted from meanwhile stays */
        return imap_error(s, &err);
    if (folder_uid_validity(folder) != s->view.uid_validity)
        return imap_no(s, NULL, "The mailbox was numbered anew.");
    for (size_t i = 0; i < count; i++) {
        struct folder_message *message = folder_find(folder, uids[i]);
        if (!message || !(message->flags & FLAG_DELETED))
            continue;
        bytes += quota_size(folder, message);
        gone++;
        if (folder_expunge(folder, message, &err) < 0)
            return imap_error(s, &err);
    }
    quota_note(s->mailboxes, s->selected->name, -bytes, -gone);
    if (folder_settle(folder, &err) < 0)
        return imap_error(s, &err);
    mailbox_changed(s->selected);
    const char *code = NULL;
    if (s->qresync && gone > 0 && folder_highest_modseq(folder))
        code = arena_printf(s->cmd, "HIGHESTMODSEQ %llu", (unsigned long long)folder_highest_modseq(folder));
    return (struct imap_reply){IMAP_OK, code, "Expunge completed."};
}

/* ---- COPY, MOVE ---- */

struct copied {
    uint32_t *from;
    const char **names;
    size_t count;
};

/* "COPYUID validity from to" */
static const char *
copyuid(struct session *s, const struct copied *copied, const struct folder *to)
{
    struct buf out = {0};
    struct imap_set_writer from = {.out = &out}, target = {.out = &out};
    buf_printf(&out, "COPYUID %u ", folder_uid_validity(to));
    for (size_t i = 0; i < copied->count; i++)
        imap_set_add(&from, copied->from[i]);
    imap_set_close(&from);
    buf_append_byte(&out, ' ');
    for (size_t i = 0; i < copied->count; i++) {
        uint32_t uid = folder_uid_of(to, copied->names[i]);
        if (!uid) { /* another program took it away: no mapping is right */
            buf_release(&out);
            return NULL;
        }
        imap_set_add(&target, uid);
    }
    imap_set_close(&target);
    char *code = arena_strdup(s->cmd, buf_text(&out));
    buf_release(&out);
    return code;
}

/* A COPY that fails leaves nothing (RFC 3501 section 6.4.7). */
static void
take_back(struct folder *to, struct copied *copied)
{
    for (size_t i = 0; i < copied->count; i++)
        folder_take_back(to, copied->names[i]);
    copied->count = 0;
}

static int
copy_all(struct session *s, struct folder *to, bool move, const uint32_t *uids, size_t count, struct copied *copied,
         struct err *err)
{
    struct folder *from = s->selected->folder;
    copied->from = arena_array(s->cmd, count + 1, sizeof(*copied->from));
    copied->names = arena_array(s->cmd, count + 1, sizeof(*copied->names));
    for (size_t i = 0; i < count; i++) {
        struct folder_message *message = folder_find(from, uids[i]);
        if (!message)
            continue;
        if (folder_copy(from, message, to, move, s->cmd, &copied->names[copied->count], err) < 0) {
            if (!move)
                take_back(to, copied);
            return -1;
        }
        copied->from[copied->count++] = uids[i];
    }
    int result = folder_settle(to, err);
    if (result < 0 && !move)
        take_back(to, copied);
    return result;
}

static int64_t
total_size(const struct session *s, const uint32_t *uids, size_t count)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        struct folder_message *message = folder_find(s->selected->folder, uids[i]);
        bytes += message ? quota_size(s->selected->folder, message) : 0;
    }
    return bytes;
}

static struct imap_reply
copy(struct session *s, bool move)
{
    struct copied copied = {0};
    struct imap_set set;
    struct slice wire;
    struct err err;
    const char *name;
    uint32_t *uids;
    size_t count;

    if (imap_space(&s->in) < 0 || imap_set(&s->in, &set) < 0 || imap_space(&s->in) < 0 ||
        imap_astring(&s->in, &wire) < 0 || imap_end(&s->in) < 0 || session_set_uids(s, &set, &uids, &count) < 0)
        return imap_bad(s);
    if (move && s->read_only)
        return imap_no(s, NULL, "The mailbox is selected read-only.");
    if (mailbox_name(s->cmd, wire, s->utf8, &name, &err) < 0)
        return imap_error(s, &err);
    struct open_mailbox *to = mailbox_open(s->mailboxes, name, &err);
    if (!to)
        return strcmp(err.text, "no such mailbox") == 0 ? imap_no(s, "TRYCREATE", "No such mailbox.")
                                                        : imap_error(s, &err);
    if (move && to == s->selected) { /* nothing moves */
        mailbox_close(s->mailboxes, to);
        return imap_ok("Move completed.");
    }
    int64_t bytes = total_size(s, uids, count);
    bool fits = true;
    if (!move && quota_has_room(s->mailboxes, to->name, (uint64_t)bytes, count, &fits, &err) < 0) {
        mailbox_close(s->mailboxes, to);
        return imap_error(s, &err);
    }
    if (!fits) {
        mailbox_close(s->mailboxes, to);
        return imap_no(s, "OVERQUOTA", "The quota would be exceeded.");
    }
    int result = copy_all(s, to->folder, move, uids, count, &copied, &err);
    if (result == 0) {
        quota_note(s->mailboxes, to->name, bytes, (int64_t)copied.count);
        if (move)
            quota_note(s->mailboxes, s->selected->name, -bytes, -(int64_t)copied.count);
    }
    const char *code = result == 0 && copied.count > 0 ? copyuid(s, &copied, to->folder) : NULL;
    mailbox_changed(to);
    mailbox_close(s->mailboxes, to);
    if (result < 0)
        return imap_error(s, &err);
    if (!move)
        return (struct imap_reply){IMAP_OK, code, "Copy completed."};
    if (code)
        session_printf(s, "* OK [%s] Moved\r\n", code);
    if (folder_settle(s->selected->folder, &err) < 0)
        return imap_error(s, &err);
    mailbox_changed(s->selected);
    return imap_ok("Move completed.");
}

struct imap_reply
cmd_copy(struct session *s)
{
    return copy(s, false);
}

struct imap_reply
cmd_move(struct session *s)
{
    return copy(s, true);
}
