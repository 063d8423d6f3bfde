/* SPDX-License-Identifier: Apache-2.0 */
/* Access rights (RFC 4314). Nobody but their owner reaches these mailboxes, and the owner has all rights, always: so the list
 * of each mailbox has one entry, which can't be changed. */
#include <string.h>

#include "imap/session.h"
#include "lib/imap/output.h"
#include "lib/service/user_process.h"

const char session_own_rights[] = "lrswipkxtea";

/* " mailbox": its name as it goes back, in *wire. False: *reply. */
static bool
take_mailbox(struct session *s, bool last, struct buf *wire, struct imap_reply *reply)
{
    struct slice given;
    const char *name;
    struct err err;
    if (imap_space(&s->in) < 0 || imap_astring(&s->in, &given) < 0 || (last && imap_end(&s->in) < 0)) {
        *reply = imap_bad(s);
        return false;
    }
    if (mailbox_name(s->cmd, given, s->utf8, &name, &err) < 0) {
        *reply = imap_error(s, &err);
        return false;
    }
    if (!mailbox_exists(s->mailboxes, name)) {
        *reply = imap_no(s, "NONEXISTENT", "No such mailbox.");
        return false;
    }
    mailbox_put_name(wire, name, s->utf8);
    return true;
}

static void
put_owner(struct session *s, struct buf *out)
{
    imap_put_astring(out, slice_from(user_identity()->user), s->utf8);
}

struct imap_reply
cmd_myrights(struct session *s)
{
    struct imap_reply reply = imap_ok("Myrights completed.");
    struct buf name = {0};
    if (take_mailbox(s, true, &name, &reply))
        session_printf(s, "* MYRIGHTS %s %s\r\n", buf_text(&name), session_own_rights);
    buf_release(&name);
    return reply;
}

struct imap_reply
cmd_getacl(struct session *s)
{
    struct imap_reply reply = imap_ok("Getacl completed.");
    struct buf name = {0}, owner = {0};
    put_owner(s, &owner);
    if (take_mailbox(s, true, &name, &reply))
        session_printf(s, "* ACL %s %s %s\r\n", buf_text(&name), buf_text(&owner), session_own_rights);
    buf_release(&name);
    buf_release(&owner);
    return reply;
}

struct imap_reply
cmd_listrights(struct session *s)
{
    struct imap_reply reply = imap_ok("Listrights completed.");
    struct buf name = {0}, who = {0};
    struct slice identifier;
    if (take_mailbox(s, false, &name, &reply)) {
        if (imap_space(&s->in) < 0 || imap_astring(&s->in, &identifier) < 0 || imap_end(&s->in) < 0) {
            reply = imap_bad(s);
        } else { /* the owner's rights are all there in any case; nobody else can get any */
            bool own = slice_equal_text(identifier, user_identity()->user);
            imap_put_astring(&who, identifier, s->utf8);
            session_printf(s, "* LISTRIGHTS %s %s %s\r\n", buf_text(&name), buf_text(&who), own ? session_own_rights : "\"\"");
        }
    }
    buf_release(&name);
    buf_release(&who);
    return reply;
}

static struct imap_reply
change(struct session *s, bool with_rights)
{
    struct imap_reply reply;
    struct slice identifier, rights;
    struct buf name = {0};
    bool good = take_mailbox(s, false, &name, &reply);
    buf_release(&name);
    if (!good)
        return reply;
    if (imap_space(&s->in) < 0 || imap_astring(&s->in, &identifier) < 0 ||
        (with_rights && (imap_space(&s->in) < 0 || imap_astring(&s->in, &rights) < 0)) || imap_end(&s->in) < 0)
        return imap_bad(s);
    return imap_no(s, "CANNOT", "Mailboxes belong to their owner alone.");
}

struct imap_reply
cmd_setacl(struct session *s)
{
    return change(s, true);
}

struct imap_reply
cmd_deleteacl(struct session *s)
{
    return change(s, false);
}
