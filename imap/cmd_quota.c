/* SPDX-License-Identifier: Apache-2.0 */
/* GETQUOTA, GETQUOTAROOT (RFC 9208). One root, "", holds all mailboxes; its limits are the administrator's, so there is no SETQUOTA. */
#include <string.h>

#include "imap/quota.h"
#include "imap/session.h"

static void
tell_quota(struct session *s, const struct maildir_quota *quota)
{
    struct buf out = {0};
    if (quota->bytes_limit > 0)
        buf_printf(&out, "STORAGE %lld %lld", ((long long)quota->bytes + 1023) / 1024,
                   ((long long)quota->bytes_limit + 1023) / 1024);
    if (quota->count_limit > 0)
        buf_printf(&out, "%sMESSAGE %lld %lld", out.len ? " " : "", (long long)quota->count,
                   (long long)quota->count_limit);
    session_printf(s, "* QUOTA \"\" (%s)\r\n", buf_text(&out));
    buf_release(&out);
}

struct imap_reply
cmd_getquota(struct session *s)
{
    struct maildir_quota quota;
    struct slice root;
    struct err err;
    bool present;
    if (imap_space(&s->in) < 0 || imap_astring(&s->in, &root) < 0 || imap_end(&s->in) < 0)
        return imap_bad(s);
    if (quota_load(s->mailboxes, &quota, &present, &err) < 0)
        return imap_error(s, &err);
    if (root.len > 0 || !present)
        return imap_no(s, "NONEXISTENT", "No such quota root.");
    tell_quota(s, &quota);
    return imap_ok("Getquota completed.");
}

struct imap_reply
cmd_getquotaroot(struct session *s)
{
    struct maildir_quota quota;
    struct buf wire = {0};
    struct slice name;
    const char *mailbox;
    struct err err;
    bool present;
    if (imap_space(&s->in) < 0 || imap_astring(&s->in, &name) < 0 || imap_end(&s->in) < 0)
        return imap_bad(s);
    if (mailbox_name(s->cmd, name, s->utf8, &mailbox, &err) < 0 ||
        quota_load(s->mailboxes, &quota, &present, &err) < 0)
        return imap_error(s, &err);
    mailbox_put_name(&wire, mailbox, s->utf8);
    session_printf(s, "* QUOTAROOT %s%s\r\n", buf_text(&wire), present ? " \"\"" : "");
    buf_release(&wire);
    if (present)
        tell_quota(s, &quota);
    return imap_ok("Getquotaroot completed.");
}
