/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about mailboxes as a whole: SELECT, EXAMINE, CLOSE, UNSELECT, CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS,
 * NAMESPACE. */
#include <stdlib.h>
#include <string.h>

#include "imap/attributes.h"
#include "imap/condstore.h"
#include "imap/quota.h"
#include "imap/session.h"
#include "imap/settings.h"
#include "imap/status.h"
#include "lib/imap/output.h"

/* " name" and, if last, nothing more. NULL: *reply says what is wrong. */
static const char *
take_name(struct session *s, bool last, struct imap_reply *reply)
{
    struct slice wire;
    const char *name;
    struct err err;
    if (imap_space(&s->in) < 0 || imap_astring(&s->in, &wire) < 0 || (last && imap_end(&s->in) < 0)) {
        *reply = imap_bad(s);
        return NULL;
    }
    if (mailbox_name(s->cmd, wire, s->utf8, &name, &err) < 0) {
        *reply = imap_error(s, &err);
        return NULL;
    }
    return name;
}

/* ---- SELECT, EXAMINE ---- */

static void
tell_flags(struct session *s, const struct folder *folder)
{
    struct buf out = {0};
    buf_append_text(&out, "\\Answered \\Flagged \\Deleted \\Seen \\Draft");
    for (unsigned i = 0; i < FOLDER_KEYWORDS; i++)
        if (folder_keyword(folder, i))
            buf_printf(&out, " %s", folder_keyword(folder, i));
    session_printf(s, "* FLAGS (%s)\r\n* OK [PERMANENTFLAGS (%s%s)] Flags permitted.\r\n", buf_text(&out),
                   s->read_only ? "" : buf_text(&out), s->read_only ? "" : " \\*");
    buf_release(&out);
}

static struct imap_reply
select_mailbox(struct session *s, bool read_only)
{
    struct imap_reply reply;
    struct err err;
    uint32_t moved = 0;
    bool was_selected = s->selected != NULL;
    struct condstore_select parameters;
    const char *name = take_name(s, false, &reply);
    if (!name)
        return reply;
    if (condstore_take_select(s, &parameters) < 0 || imap_end(&s->in) < 0)
        return imap_bad(s);
    if (parameters.condstore)
        s->condstore = true;
    session_unselect(s);
    if (was_selected)
        session_printf(s, "* OK [CLOSED] Previous mailbox closed.\r\n");
    struct open_mailbox *box = mailbox_open(s->mailboxes, name, &err);
    if (!box)
        return imap_error(s, &err);
    if (!read_only && folder_take_new(box->folder, &moved, &err) < 0) {
        mailbox_close(s->mailboxes, box);
        return imap_error(s, &err);
    }
    s->selected = box;
    s->is_fresh = true;
    s->read_only = read_only;
    view_init(&s->view, box->folder);
    if (moved)
        s->view.recent_from = moved;
    tell_flags(s, box->folder);
    session_printf(s, "* %zu EXISTS\r\n* %zu RECENT\r\n", s->view.count, view_count_recent(&s->view));
    s->view.uid_only = s->uid_only;
    s->view.condstore = s->condstore;
    s->view.qresync = s->qresync;
    size_t unseen = s->uid_only ? 0 : view_sequence(&s->view, folder_first_unseen(box->folder));
    if (unseen)
        session_printf(s, "* OK [UNSEEN %zu] First unseen.\r\n", unseen);
    session_printf(s, "* OK [UIDVALIDITY %u] UIDs valid\r\n* OK [UIDNEXT %u] Predicted next UID\r\n",
                   folder_uid_validity(box->folder), folder_next_uid(box->folder));
    char id[OBJECT_ID_SIZE];
    attributes_mailbox_id(box->folder, id);
    if (*id)
        session_printf(s, "* OK [MAILBOXID (%s)] Mailbox id\r\n", id);
    condstore_tell_highest(s);
    if (condstore_tell_resync(s, &parameters, &err) < 0)
        return imap_error(s, &err);
    if (s->rev2) {
        struct buf out = {0};
        mailbox_put_name(&out, name, s->utf8);
        session_printf(s, "* LIST () \".\" %s\r\n", buf_text(&out));
        buf_release(&out);
    }
    return (struct imap_reply){IMAP_OK, read_only ? "READ-ONLY" : "READ-WRITE", "Select completed."};
}

struct imap_reply
cmd_select(struct session *s)
{
    return select_mailbox(s, false);
}

struct imap_reply
cmd_examine(struct session *s)
{
    return select_mailbox(s, true);
}

struct imap_reply
cmd_unselect(struct session *s)
{
    if (imap_end(&s->in) < 0)
        return imap_bad(s);
    session_unselect(s);
    return imap_ok("Unselect completed.");
}

/* Expunges without telling. */
struct imap_reply
cmd_close(struct session *s)
{
    struct err err;
    if (imap_end(&s->in) < 0)
        return imap_bad(s);
    struct folder *folder = s->selected->folder;
    int64_t bytes = 0, gone = 0;
    for (size_t i = 0; !s->read_only && i < s->view.count; i++) {
        struct folder_message *message = folder_find(folder, s->view.uids[i]);
        if (!message || !(message->flags & FLAG_DELETED))
            continue;
        bytes += quota_size(folder, message);
        gone++;
        if (folder_expunge(folder, message, &err) < 0)
            return imap_error(s, &err);
    }
    quota_note(s->mailboxes, s->selected->name, -bytes, -gone);
    if (!s->read_only && folder_settle(folder, &err) < 0)
        return imap_error(s, &err);
    mailbox_changed(s->selected);
    session_unselect(s);
    return imap_ok("Close completed.");
}

/* ---- CREATE and its kin ---- */

struct imap_reply
cmd_create(struct session *s)
{
    struct imap_reply reply;
    struct err err;
    const char *name = take_name(s, false, &reply);
    if (!name)
        return reply;
    if (imap_at(&s->in, ' ')) { /* RFC 6154: (USE (\Drafts)): the name alone decides here */
        struct slice flag;
        if (imap_space(&s->in) < 0 || imap_take(&s->in, '(') < 0 || !imap_keyword(&s->in, "USE") ||
            imap_space(&s->in) < 0 || imap_take(&s->in, '(') < 0 || imap_flag(&s->in, &flag) < 0 ||
            imap_take(&s->in, ')') < 0 || imap_take(&s->in, ')') < 0) {
            (void)imap_fail(&s->in, "bad create parameter");
            return imap_bad(s);
        }
        const char *use = mailbox_special_use(name);
        if (!use || !slice_equal_text_fold(flag, use))
            return imap_no(s, "USEATTR", "That use is tied to another name.");
    }
    if (imap_end(&s->in) < 0)
        return imap_bad(s);
    if (mailbox_create(s->mailboxes, name, &err) < 0)
        return imap_error(s, &err);
    struct imap_reply created = imap_ok("Create completed.");
    struct open_mailbox *box = mailbox_open(s->mailboxes, name, &err);
    char id[OBJECT_ID_SIZE];
    if (box) {
        attributes_mailbox_id(box->folder, id);
        if (*id)
            created.code = arena_printf(s->cmd, "MAILBOXID (%s)", id);
        mailbox_close(s->mailboxes, box);
    }
    return created;
}

struct imap_reply
cmd_delete(struct session *s)
{
    struct imap_reply reply;
    struct err err;
    const char *name = take_name(s, true, &reply);
    if (!name)
        return reply;
    if (s->selected && strcmp(s->selected->name, name) == 0)
        session_unselect(s);
    return mailbox_delete(s->mailboxes, name, &err) < 0 ? imap_error(s, &err) : imap_ok("Delete completed.");
}

struct imap_reply
cmd_rename(struct session *s)
{
    struct imap_reply reply;
    struct err err;
    const char *from = take_name(s, false, &reply), *to = from ? take_name(s, true, &reply) : NULL;
    if (!to)
        return reply;
    return mailbox_rename(s->mailboxes, from, to, &err) < 0 ? imap_error(s, &err) : imap_ok("Rename completed.");
}

static struct imap_reply
subscribe(struct session *s, bool on)
{
    struct imap_reply reply;
    struct err err;
    const char *name = take_name(s, true, &reply);
    if (!name)
        return reply;
    if (mailbox_subscribe(s->mailboxes, name, on, &err) < 0)
        return imap_error(s, &err);
    return imap_ok(on ? "Subscribe completed." : "Unsubscribe completed.");
}

struct imap_reply
cmd_subscribe(struct session *s)
{
    return subscribe(s, true);
}

struct imap_reply
cmd_unsubscribe(struct session *s)
{
    return subscribe(s, false);
}

struct imap_reply
cmd_namespace(struct session *s)
{
    if (imap_end(&s->in) < 0)
        return imap_bad(s);
    session_printf(s, "* NAMESPACE ((\"\" \".\")) NIL NIL\r\n");
    return imap_ok("Namespace completed.");
}

/* ---- STATUS ---- */

/* "(MESSAGES UNSEEN ...)": parsed to a set of bits. */
int
status_items(struct session *s, unsigned *items)
{
    *items = 0;
    if (imap_take(&s->in, '(') < 0)
        return -1;
    for (;;) {
        size_t i = 0;
        while (i < STATUS_ITEMS && !imap_keyword(&s->in, status_names[i]))
            i++;
        if (i == STATUS_ITEMS)
            return imap_fail(&s->in, "unknown status item");
        *items |= 1U << i;
        if (imap_at(&s->in, ')'))
            return imap_take(&s->in, ')');
        if (imap_space(&s->in) < 0)
            return -1;
    }
}

enum { STATUS_SIZE = 5, STATUS_DELETED_STORAGE = 7, STATUS_APPENDLIMIT = 8, STATUS_MAILBOXID = 9, STATUS_MODSEQ = 10 };

const char *const status_names[STATUS_ITEMS] = {"MESSAGES",    "RECENT",    "UIDNEXT",      "UIDVALIDITY",
                                                "UNSEEN",      "SIZE",      "DELETED",      "DELETED-STORAGE",
                                                "APPENDLIMIT", "MAILBOXID", "HIGHESTMODSEQ"};

static void
put_status(struct buf *out, const struct folder *folder, size_t item, uint64_t value)
{
    char id[OBJECT_ID_SIZE];
    buf_append_text(out, status_names[item]);
    if (item == STATUS_MAILBOXID) {
        attributes_mailbox_id(folder, id);
        buf_printf(out, " (%s)", *id ? id : "NONE");
    } else if (item == STATUS_APPENDLIMIT && value == 0) {
        buf_append_text(out, " NIL");
    } else {
        buf_printf(out, " %llu", (unsigned long long)value);
    }
}

int
status_tell(struct session *s, const char *name, unsigned items, struct err *err)
{
    struct buf out = {0};
    struct open_mailbox *box = mailbox_open(s->mailboxes, name, err);
    const char *blank = "";
    if (!box)
        return -1;
    struct folder *folder = box->folder;
    uint64_t values[STATUS_ITEMS] = {[0] = folder_count(folder),
                                     [2] = folder_next_uid(folder),
                                     [3] = folder_uid_validity(folder),
                                     [STATUS_APPENDLIMIT] = settings.append_limit,
                                     [STATUS_MODSEQ] = folder_highest_modseq(folder)};
    if (items & (1U << STATUS_MODSEQ))
        condstore_enable(s);
    for (size_t i = 0; i < folder_count(folder); i++) {
        struct folder_message *message = folder_at(folder, i);
        values[1] += message->is_new;
        values[4] += !(message->flags & FLAG_SEEN);
        values[6] += (message->flags & FLAG_DELETED) != 0;
        if (message->flags & FLAG_DELETED)
            values[STATUS_DELETED_STORAGE] += (uint64_t)quota_size(folder, message);
        if (items & (1U << STATUS_SIZE))
            values[STATUS_SIZE] += folder_message_size(folder, message, err);
    }
    mailbox_put_name(&out, name, s->utf8);
    buf_append_text(&out, " (");
    for (size_t i = 0; i < STATUS_ITEMS; i++)
        if (items & (1U << i)) {
            buf_append_text(&out, blank);
            put_status(&out, folder, i, values[i]);
            blank = " ";
        }
    mailbox_close(s->mailboxes, box);
    session_printf(s, "* STATUS %s)\r\n", buf_text(&out));
    buf_release(&out);
    return 0;
}

struct imap_reply
cmd_status(struct session *s)
{
    struct imap_reply reply;
    struct err err;
    unsigned items;
    const char *name = take_name(s, false, &reply);
    if (!name)
        return reply;
    if (imap_space(&s->in) < 0 || status_items(s, &items) < 0 || imap_end(&s->in) < 0)
        return imap_bad(s);
    return status_tell(s, name, items, &err) < 0 ? imap_error(s, &err) : imap_ok("Status completed.");
}
