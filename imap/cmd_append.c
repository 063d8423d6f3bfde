/* SPDX-License-Identifier: Apache-2.0 */
/* APPEND (RFC 3501 section 6.3.11), several at once (RFC 3502), with UIDs (RFC 4315), made of pieces (CATENATE, RFC 4469), in another's place
 * (REPLACE, RFC 8508). The message is streamed to the disk. */
#include <string.h>
#include <time.h>

#include "imap/flags.h"
#include "imap/quota.h"
#include "imap/session.h"
#include "imap/settings.h"
#include "imap/url.h"
#include "lib/imap/output.h"
#include "lib/mail/mime.h"
#include "lib/run/loop.h"

enum { APPEND_MESSAGES = 1000, APPEND_PIECES = 1000 };

struct job {
    struct session *s;
    struct open_mailbox *box;
    struct folder_append append;
    uint64_t size;      /* of the pieces so far, in wire form */
    uint64_t total;     /* of all messages */
    uint64_t forgiven;  /* what goes when all has come: room that it gives back */
    const char **names; /* of messages that are in their place */
    size_t count;
    bool refused; /* NO: with code (NULL: as err says) and err */
    const char *code;
    struct err err;
};

struct prelude {
    unsigned flags;
    uint32_t keywords;
    int64_t arrived;
    struct err err; /* of a keyword */
};

/* Flags and date, both optional. */
static int
parse_prelude(struct session *s, struct folder *folder, struct prelude *p)
{
    *p = (struct prelude){.arrived = time(NULL)};
    if (imap_at(&s->in, '(') &&
        (imap_take_flags(s, folder, false, &p->flags, &p->keywords, &p->err) < 0 || imap_space(&s->in) < 0))
        return -1;
    if (imap_at(&s->in, '"') && (imap_date_time(&s->in, &p->arrived) < 0 || imap_space(&s->in) < 0))
        return -1;
    return 0;
}

static int
refuse(struct job *job, const char *code, const char *text)
{
    job->refused = true;
    job->code = code;
    if (text)
        err_set(&job->err, ERR_PERM, "%s", text);
    return -1;
}

/* So much more? */
static int
check_room(struct job *job, uint64_t size)
{
    uint64_t all = job->total + job->size + size;
    bool fits;
    if (settings.append_limit && (size > settings.append_limit || job->size + size > settings.append_limit))
        return refuse(job, "TOOBIG", "The message is too large.");
    if (quota_has_room(job->s->mailboxes, job->box->name, all > job->forgiven ? all - job->forgiven : 0,
                       job->forgiven ? 0 : job->count + 1, &fits, &job->err) < 0)
        return refuse(job, NULL, NULL);
    return fits ? 0 : refuse(job, "OVERQUOTA", "The quota would be exceeded.");
}

/* ---- pieces ---- */

/* Reads size bytes of the literal into the file; all of them also when the disk fails. */
static int may_wait
stream_message(struct job *job, uint64_t size)
{
    struct session *s = job->s;
    struct slice bytes;
    while (size > 0) {
        stream_set_deadline(s->stream, loop_now() + settings.idle_timeout);
        if (stream_peek(s->stream, &bytes, &s->in.err) < 0)
            return -1;
        if (bytes.len > size)
            bytes.len = (size_t)size;
        if (!job->refused && folder_append_write(job->box->folder, &job->append, bytes, &job->err) < 0)
            (void)refuse(job, NULL, NULL);
        stream_take(s->stream, bytes.len);
        size -= bytes.len;
    }
    return 0;
}

static int may_wait
take_literal(struct job *job)
{
    struct session *s = job->s;
    uint64_t size;
    bool binary;
    if (imap_literal_size(&s->in, &size) == 0 && check_room(job, size) < 0)
        return -1;
    if (imap_literal_begin(&s->in, INT64_MAX, &size, &binary) < 0)
        return -1;
    if (size == 0)
        return imap_fail(&s->in, "an empty message");
    job->size += size;
    if (stream_message(job, size) < 0 || imap_literal_done(&s->in) < 0)
        return -1;
    return job->refused ? -1 : 0;
}

static void
write_piece(void *ctx, struct slice bytes)
{
    struct job *job = ctx;
    if (!job->refused && folder_append_write(job->box->folder, &job->append, bytes, &job->err) < 0)
        (void)refuse(job, NULL, NULL);
}

static int
copy_section(struct job *job, struct open_mailbox *from, const struct imap_url *url, struct arena *arena)
{
    struct folder_message *message = folder_find(from->folder, url->uid);
    struct folder_content content;
    struct slice bytes;
    if (!message || (url->uid_validity && url->uid_validity != folder_uid_validity(from->folder)))
        return -1;
    if (folder_read(from->folder, message, &content, &job->err) < 0)
        return -1;
    int result = imap_url_section(arena, content.bytes, url->section, &bytes) ? 0 : -1;
    if (result == 0) {
        uint64_t wire = mime_wire_size(bytes, NULL), left = url->offset < wire ? wire - url->offset : 0;
        uint64_t size = url->length < left ? url->length : left;
        result = check_room(job, size);
        job->size += size;
        if (result == 0)
            mime_wire(bytes, url->offset, size, write_piece, job);
    }
    folder_content_release(&content);
    return job->refused ? -1 : result;
}

/* URL "/INBOX;UIDVALIDITY=1/;UID=2/;SECTION=1" */
static int may_wait
take_url(struct job *job)
{
    struct session *s = job->s;
    struct open_mailbox *from = s->selected;
    struct imap_url url;
    struct slice text;
    const char *name;
    struct err err;
    if (imap_space(&s->in) < 0 || imap_astring(&s->in, &text) < 0)
        return -1;
    bool good = imap_url_parse(s->cmd, text, &url);
    if (good && url.mailbox.len > 0)
        from = mailbox_name(s->cmd, url.mailbox, true, &name, &err) < 0 ? NULL : mailbox_open(s->mailboxes, name, &err);
    struct arena *arena = arena_new();
    int result = good && from ? copy_section(job, from, &url, arena) : -1;
    arena_free(&arena);
    if (from && from != s->selected)
        mailbox_close(s->mailboxes, from);
    else if (from && url.mailbox.len > 0)
        mailbox_close(s->mailboxes, from);
    if (result < 0 && !job->refused) {
        struct buf code = {0};
        buf_append_text(&code, "BADURL ");
        imap_put_string(&code, text, true);
        (void)refuse(job, memchr(buf_text(&code), '\n', code.len) ? "BADURL" : arena_strdup(s->cmd, buf_text(&code)),
                     "No such part of a message.");
        buf_release(&code);
    }
    return result;
}

/* "CATENATE (URL ... TEXT {n} ...)" behind the word. */
static int may_wait
catenate(struct job *job)
{
    struct session *s = job->s;
    unsigned pieces = 0;
    if (imap_space(&s->in) < 0 || imap_take(&s->in, '(') < 0)
        return -1;
    do {
        if (pieces > 0 && imap_space(&s->in) < 0)
            return -1;
        if (++pieces > APPEND_PIECES)
            return imap_fail(&s->in, "too many pieces");
        if (imap_keyword(&s->in, "TEXT")) {
            if (imap_space(&s->in) < 0 || take_literal(job) < 0)
                return -1;
        } else if (!imap_keyword(&s->in, "URL")) {
            return imap_fail(&s->in, "TEXT or URL is expected");
        } else if (take_url(job) < 0) {
            return -1;
        }
    } while (!imap_at(&s->in, ')'));
    return imap_take(&s->in, ')');
}

static int may_wait
take_content(struct job *job)
{
    struct session *s = job->s;
    if (imap_keyword(&s->in, "CATENATE"))
        return catenate(job);
    bool utf8 = imap_keyword(&s->in, "UTF8"); /* UTF8 (~{n}...) of RFC 6855 */
    if (utf8 && (imap_space(&s->in) < 0 || imap_take(&s->in, '(') < 0))
        return -1;
    if (take_literal(job) < 0)
        return -1;
    return utf8 ? imap_take(&s->in, ')') : 0;
}

/* ---- messages ---- */

/* One message. -1: refused, or s->in.err. */
static int may_wait
append_one(struct job *job)
{
    struct folder *folder = job->box->folder;
    struct prelude p;
    job->size = 0;
    if (parse_prelude(job->s, folder, &p) < 0)
        return -1;
    if (p.err.kind != ERR_NONE) {
        job->err = p.err;
        return refuse(job, NULL, NULL);
    }
    if (folder_append_begin(folder, &job->append, &job->err) < 0)
        return refuse(job, NULL, NULL);
    int result = take_content(job);
    if (result == 0 && job->append.size == 0)
        result = imap_fail(&job->s->in, "an empty message");
    if (result < 0) {
        folder_append_abort(folder, &job->append);
        return -1;
    }
    if (folder_append_finish(folder, &job->append, p.flags, p.keywords, p.arrived, job->s->cmd,
                             &job->names[job->count], &job->err) < 0)
        return refuse(job, NULL, NULL);
    job->count++;
    job->total += job->size;
    return 0;
}

/* "APPENDUID validity uids" */
static const char *
appenduid(const struct job *job)
{
    const struct folder *folder = job->box->folder;
    struct buf out = {0};
    struct imap_set_writer uids = {.out = &out};
    buf_printf(&out, "APPENDUID %u ", folder_uid_validity(folder));
    for (size_t i = 0; i < job->count; i++) {
        uint32_t uid = folder_uid_of(folder, job->names[i]);
        if (!uid) {
            buf_release(&out);
            return NULL;
        }
        imap_set_add(&uids, uid);
    }
    imap_set_close(&uids);
    char *code = arena_strdup(job->s->cmd, buf_text(&out));
    buf_release(&out);
    return code;
}

/* MULTIAPPEND is all or nothing: what came before a failure goes again. */
static void
take_back(struct job *job)
{
    for (size_t i = 0; i < job->count; i++)
        folder_take_back(job->box->folder, job->names[i]);
    mailbox_changed(job->box);
}

static void
note_quota(struct job *job)
{
    const struct folder *folder = job->box->folder;
    int64_t bytes = 0;
    for (size_t i = 0; i < job->count; i++) {
        struct folder_message *message = folder_find(folder, folder_uid_of(folder, job->names[i]));
        bytes += message ? quota_size(job->box->folder, message) : 0;
    }
    quota_note(job->s->mailboxes, job->box->name, bytes, (int64_t)job->count);
}

static int may_wait
append_all(struct job *job, bool only_one)
{
    struct session *s = job->s;
    do {
        if (job->count == (only_one ? 1 : APPEND_MESSAGES))
            return imap_fail(&s->in, "too many messages");
        if (imap_space(&s->in) < 0 || append_one(job) < 0)
            return -1;
    } while (!imap_at_end(&s->in));
    if (folder_settle(job->box->folder, &job->err) < 0)
        return refuse(job, NULL, NULL);
    note_quota(job);
    mailbox_changed(job->box);
    return 0;
}

static struct imap_reply may_wait
failed(struct job *job)
{
    struct session *s = job->s;
    take_back(job);
    if (!job->refused || (s->in.err.kind != ERR_SYNTAX && s->in.err.kind != ERR_NONE))
        return imap_bad(s);
    imap_skip_rest(&s->in);
    return job->code ? imap_no(s, job->code, "%s", job->err.text) : imap_error(s, &job->err);
}

/* " mailbox" opened; NULL: *reply. */
static struct open_mailbox *
take_mailbox(struct session *s, struct imap_reply *reply)
{
    struct slice wire;
    struct err err;
    const char *name;
    if (imap_space(&s->in) < 0 || imap_astring(&s->in, &wire) < 0) {
        *reply = imap_bad(s);
        return NULL;
    }
    struct open_mailbox *box = NULL;
    if (mailbox_name(s->cmd, wire, s->utf8, &name, &err) == 0)
        box = mailbox_open(s->mailboxes, name, &err);
    if (box)
        return box;
    imap_skip_rest(&s->in);
    *reply = strcmp(err.text, "no such mailbox") == 0 ? imap_no(s, "TRYCREATE", "No such mailbox.") : imap_error(s, &err);
    return NULL;
}

struct imap_reply
cmd_append(struct session *s)
{
    struct imap_reply reply;
    struct job job = {.s = s, .append = {.fd = -1}};
    s->in.err = (struct err){0};
    job.box = take_mailbox(s, &reply);
    if (!job.box)
        return reply;
    job.names = arena_array(s->cmd, APPEND_MESSAGES, sizeof(char *));
    if (append_all(&job, false) < 0)
        reply = failed(&job);
    else
        reply = (struct imap_reply){IMAP_OK, appenduid(&job), "Append completed."};
    mailbox_close(s->mailboxes, job.box);
    return reply;
}

/* ---- REPLACE ---- */

/* The message is in its new place: the old one goes. */
static struct imap_reply
finish_replace(struct job *job, uint32_t uid)
{
    struct session *s = job->s;
    struct folder_message *old = folder_find(s->selected->folder, uid);
    const char *code = appenduid(job);
    struct err err;
    if (code)
        session_printf(s, "* OK [%s] The new message is there.\r\n", code);
    int64_t size = old ? quota_size(s->selected->folder, old) : 0;
    if (old && folder_expunge(s->selected->folder, old, &err) < 0)
        return imap_error(s, &err);
    if (folder_settle(s->selected->folder, &err) < 0)
        return imap_error(s, &err);
    if (old)
        quota_note(s->mailboxes, s->selected->name, -size, -1);
    mailbox_changed(s->selected);
    return imap_ok("Replace completed.");
}

struct imap_reply
cmd_replace(struct session *s)
{
    struct job job = {.s = s, .append = {.fd = -1}};
    struct imap_reply reply;
    uint64_t number;
    s->in.err = (struct err){0};
    if (imap_space(&s->in) < 0 || imap_nz_number(&s->in, UINT32_MAX, &number) < 0)
        return imap_bad(s);
    if (!s->by_uid && number > s->view.count) {
        (void)imap_fail(&s->in, "no such message");
        return imap_bad(s);
    }
    uint32_t uid = s->by_uid ? (uint32_t)number : s->view.uids[number - 1];
    struct folder_message *old = view_sequence(&s->view, uid) ? folder_find(s->selected->folder, uid) : NULL;
    if (!old || s->read_only) {
        imap_skip_rest(&s->in);
        return imap_no(s, old ? NULL : "NONEXISTENT", old ? "The mailbox is selected read-only." : "No such message.");
    }
    job.forgiven = (uint64_t)quota_size(s->selected->folder, old);
    job.box = take_mailbox(s, &reply);
    if (!job.box)
        return reply;
    job.names = arena_array(s->cmd, 1, sizeof(char *));
    reply = append_all(&job, true) < 0 ? failed(&job) : finish_replace(&job, uid);
    mailbox_close(s->mailboxes, job.box);
    return reply;
}
