/* SPDX-License-Identifier: Apache-2.0 */
/* RSET, NOOP, QUIT: RFC 5321 sections 4.1.1.5, 4.1.1.9, 4.1.1.10. */
#include "smtpd/session.h"

struct smtp_reply may_wait
cmd_rset(struct session *s, struct slice args)
{
    (void)args;
    session_reset(s);
    return smtp_reply(s->cmd, 250, "2.0.0", "Ok");
}

struct smtp_reply may_wait
cmd_noop(struct session *s, struct slice args)
{
    (void)args;
    return smtp_reply(s->cmd, 250, "2.0.0", "Ok");
}

struct smtp_reply may_wait
cmd_quit(struct session *s, struct slice args)
{
    (void)args;
    return smtp_reply_close(s->cmd, 221, "2.0.0", "Bye");
}
