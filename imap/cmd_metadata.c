/* SPDX-License-Identifier: Apache-2.0 */
/* GETMETADATA, SETMETADATA (RFC 5464). */
#include <string.h>
#include <unistd.h>

#include "imap/metadata.h"
#include "imap/session.h"
#include "lib/imap/output.h"
#include "lib/store/file.h"

/* Where the entries of a mailbox, or of "" , lie. */
struct place {
    struct open_mailbox *box; /* NULL: the server's */
    int fd;
    const char *file;
};

static int
find_place(struct session *s, struct slice wire, struct place *place, struct imap_reply *reply)
{
    const char *name;
    struct err err;
    *place = (struct place){.fd = mailboxes_fd(s->mailboxes), .file = metadata_server_file};
    if (wire.len == 0)
        return 0;
    if (mailbox_name(s->cmd, wire, s->utf8, &name, &err) == 0)
        place->box = mailbox_open(s->mailboxes, name, &err);
    if (!place->box) {
        *reply = imap_error(s, &err);
        return -1;
    }
    place->fd = folder_fd(place->box->folder);
    place->file = metadata_file;
    return 0;
}

static void
leave_place(struct session *s, struct place *place)
{
    if (place->box)
        mailbox_close(s->mailboxes, place->box);
}

/* ---- GETMETADATA ---- */

struct get_request {
    struct slice mailbox;
    uint64_t max_size;
    unsigned depth; /* 0, 1, UINT_MAX */
    struct slice *names;
    size_t count;
};

static int
take_get_options(struct session *s, struct get_request *r)
{
    if (imap_take(&s->in, '(') < 0)
        return -1;
    for (;;) {
        if (imap_keyword(&s->in, "MAXSIZE")) {
            if (imap_space(&s->in) < 0 || imap_number(&s->in, UINT32_MAX, &r->max_size) < 0)
                return -1;
        } else if (imap_keyword(&s->in, "DEPTH")) {
            if (imap_space(&s->in) < 0)
                return -1;
            if (imap_keyword(&s->in, "infinity"))
                r->depth = UINT32_MAX;
            else if (imap_keyword(&s->in, "1"))
                r->depth = 1;
            else if (!imap_keyword(&s->in, "0"))
                return imap_fail(&s->in, "bad DEPTH");
        } else {
            return imap_fail(&s->in, "unknown option");
        }
        if (imap_at(&s->in, ')'))
            return imap_take(&s->in, ')');
        if (imap_space(&s->in) < 0)
            return -1;
    }
}

static int
take_names(struct session *s, struct get_request *r)
{
    bool list = imap_at(&s->in, '(');
    struct slice given;
    r->names = arena_array(s->cmd, METADATA_ENTRIES, sizeof(*r->names));
    if (list && imap_take(&s->in, '(') < 0)
        return -1;
    for (;;) {
        if (r->count == METADATA_ENTRIES)
            return imap_fail(&s->in, "too many entries");
        if (imap_astring(&s->in, &given) < 0)
            return -1;
        if (!metadata_name(s->cmd, given, &r->names[r->count++]))
            return imap_fail(&s->in, "bad name of an entry");
        if (!list)
            return 0;
        if (imap_at(&s->in, ')'))
            return imap_take(&s->in, ')');
        if (imap_space(&s->in) < 0)
            return -1;
    }
}

/* Options stand in front of the mailbox (RFC 5464), or behind it, as many clients send them. */
static int
parse_get(struct session *s, struct get_request *r)
{
    *r = (struct get_request){.max_size = UINT64_MAX};
    if (imap_space(&s->in) < 0 || (imap_at(&s->in, '(') && (take_get_options(s, r) < 0 || imap_space(&s->in) < 0)) ||
        imap_astring(&s->in, &r->mailbox) < 0 || imap_space(&s->in) < 0)
        return -1;
    if (slice_starts_with_fold(s->in.rest, "(MAXSIZE ") || slice_starts_with_fold(s->in.rest, "(DEPTH "))
        if (take_get_options(s, r) < 0 || imap_space(&s->in) < 0)
            return -1;
    return take_names(s, r) < 0 ? -1 : imap_end(&s->in);
}

static bool
is_asked_for(const struct get_request *r, struct slice name)
{
    for (size_t i = 0; i < r->count; i++) {
        struct slice asked = r->names[i];
        if (slice_equal(asked, name))
            return true;
        if (r->depth == 0 || name.len <= asked.len || memcmp(name.ptr, asked.ptr, asked.len) != 0 ||
            name.ptr[asked.len] != '/')
            continue;
        if (r->depth > 1 || !memchr(name.ptr + asked.len + 1, '/', name.len - asked.len - 1))
            return true;
    }
    return false;
}

static void
put_mailbox(struct session *s, const struct place *place, struct buf *out)
{
    if (place->box)
        mailbox_put_name(out, place->box->name, s->utf8);
    else
        buf_append_text(out, "\"\"");
}

static void
put_value(struct buf *out, struct slice value)
{
    if (memchr(value.ptr, '\0', value.len)) {
        buf_printf(out, "~{%zu}\r\n", value.len);
        buf_append_slice(out, value);
    } else {
        imap_put_string(out, value, false);
    }
}

/* Tells what is there and asked for; the longest that was left out for its size. */
static uint64_t
tell_entries(struct session *s, const struct get_request *r, const struct place *place, const struct metadata *m)
{
    struct buf out = {0};
    uint64_t longest = 0;
    bool any = false;
    buf_append_text(&out, "* METADATA ");
    put_mailbox(s, place, &out);
    buf_append_text(&out, " (");
    for (size_t i = 0; i < m->count; i++) {
        if (!is_asked_for(r, m->entries[i].name))
            continue;
        if (m->entries[i].value.len > r->max_size) {
            longest = m->entries[i].value.len > longest ? m->entries[i].value.len : longest;
            continue;
        }
        buf_append_text(&out, any ? " " : "");
        imap_put_astring(&out, m->entries[i].name, s->utf8);
        buf_append_byte(&out, ' ');
        put_value(&out, m->entries[i].value);
        any = true;
    }
    for (size_t i = 0; i < r->count; i++) { /* what is not there has the value NIL */
        if (metadata_find(m, r->names[i]))
            continue;
        buf_append_text(&out, any ? " " : "");
        imap_put_astring(&out, r->names[i], s->utf8);
        buf_append_text(&out, " NIL");
        any = true;
    }
    buf_append_text(&out, ")\r\n");
    if (any)
        session_write(s, buf_slice(&out));
    buf_release(&out);
    return longest;
}

struct imap_reply
cmd_getmetadata(struct session *s)
{
    struct imap_reply reply;
    struct get_request r;
    struct metadata m;
    struct place place;
    struct err err;
    if (parse_get(s, &r) < 0)
        return imap_bad(s);
    if (find_place(s, r.mailbox, &place, &reply) < 0)
        return reply;
    if (metadata_read(s->cmd, place.fd, place.file, &m, &err) < 0) {
        reply = imap_error(s, &err);
    } else {
        uint64_t longest = tell_entries(s, &r, &place, &m);
        reply = imap_ok("Getmetadata completed.");
        if (longest)
            reply.code = arena_printf(s->cmd, "METADATA LONGENTRIES %llu", (unsigned long long)longest);
    }
    leave_place(s, &place);
    return reply;
}

/* ---- SETMETADATA ---- */

struct set_request {
    struct slice mailbox;
    struct metadata_entry entries[METADATA_ENTRIES];
    bool is_nil[METADATA_ENTRIES];
    size_t count;
};

static int may_wait
parse_set(struct session *s, struct set_request *r)
{
    struct slice given;
    if (imap_space(&s->in) < 0 || imap_astring(&s->in, &r->mailbox) < 0 || imap_space(&s->in) < 0 ||
        imap_take(&s->in, '(') < 0)
        return -1;
    for (;;) {
        struct metadata_entry *entry = &r->entries[r->count];
        if (r->count == METADATA_ENTRIES)
            return imap_fail(&s->in, "too many entries");
        if (imap_astring(&s->in, &given) < 0 || imap_space(&s->in) < 0)
            return -1;
        if (!metadata_name(s->cmd, given, &entry->name))
            return imap_fail(&s->in, "bad name of an entry");
        if (imap_nstring(&s->in, &entry->value, &r->is_nil[r->count++]) < 0)
            return -1;
        if (imap_at(&s->in, ')'))
            break;
        if (imap_space(&s->in) < 0)
            return -1;
    }
    return imap_take(&s->in, ')') < 0 ? -1 : imap_end(&s->in);
}

static struct imap_reply
set_entries(struct session *s, const struct set_request *r, const struct place *place)
{
    struct metadata m;
    struct err err;
    for (size_t i = 0; i < r->count; i++)
        if (r->entries[i].value.len > METADATA_VALUE)
            return imap_no(s, arena_printf(s->cmd, "METADATA MAXSIZE %d", METADATA_VALUE), "A value is too long.");
    if (file_dotlock(place->fd, "postern-metadata.lock", &err) < 0)
        return imap_error(s, &err);
    bool room = true;
    int result = metadata_read(s->cmd, place->fd, place->file, &m, &err);
    for (size_t i = 0; result == 0 && i < r->count; i++)
        room = room && metadata_set(&m, r->entries[i].name, r->entries[i].value, r->is_nil[i]) == 0;
    if (result == 0 && room)
        result = metadata_write(place->fd, place->file, &m, &err);
    unlinkat(place->fd, "postern-metadata.lock", 0);
    if (!room)
        return imap_no(s, "METADATA TOOMANY", "Too many entries.");
    return result < 0 ? imap_error(s, &err) : imap_ok("Setmetadata completed.");
}

struct imap_reply
cmd_setmetadata(struct session *s)
{
    struct set_request *r = arena_alloc(s->cmd, sizeof(*r));
    struct imap_reply reply;
    struct place place;
    memset(r, 0, sizeof(*r));
    if (parse_set(s, r) < 0)
        return imap_bad(s);
    if (find_place(s, r->mailbox, &place, &reply) < 0)
        return reply;
    reply = set_entries(s, r, &place);
    leave_place(s, &place);
    return reply;
}
