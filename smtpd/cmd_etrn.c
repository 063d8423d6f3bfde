/* SPDX-License-Identifier: Apache-2.0 */
/* ETRN: RFC 1985. Has mail tried at once that is deferred for a domain; flush(8) knows it. Only domains in fast_flush_domains have
 * lists. The replies have no enhanced codes, as Postfix's have none. */
#include <string.h>

#include "lib/base/log.h"
#include "lib/mail/addr.h"
#include "lib/mail/messages.h"
#include "lib/run/loop.h"
#include "smtpd/restrict.h"
#include "smtpd/session.h"

#define FLUSH_TIME SECONDS(60)

static int may_wait
ask(struct session *s, const char *domain)
{
    const struct msg_flush_site wanted = {.site = domain};
    struct link_message reply;

    if (!s->server->flush)
        return FLUSHED_NOT_ELIGIBLE;
    if (link_call(s->server->flush, s->cmd, &type_flush_site, &wanted, slice_make(NULL, 0), NULL, 0, &type_flushed,
                  &reply, loop_now() + FLUSH_TIME, &s->err) < 0) {
        log_warning("flush service: %s", s->err.text);
        return FLUSHED_FAILED;
    }
    link_close_fds(&reply);
    return (int)((const struct msg_flushed *)reply.message)->result;
}

struct smtp_reply may_wait
cmd_etrn(struct session *s, struct slice args)
{
    struct smtp_reply refusal;
    const char *domain;

    if (s->server->stand_alone) /* it reaches no daemon */
        return smtp_reply(s->cmd, 458, NULL, "Unable to queue messages");
    if (!s->helo && s->server->set.smtpd_helo_required)
        return smtp_reply(s->cmd, 503, NULL, "Error: send HELO/EHLO first");
    if (args.len == 0 || memchr(args.ptr, ' ', args.len))
        return smtp_reply(s->cmd, 500, NULL, "Syntax: ETRN domain");
    /* "@domain" and "#queue" are RFC 1985's other names; here both mean the domain. */
    if (*args.ptr == '@' || *args.ptr == '#')
        args = slice_make(args.ptr + 1, args.len - 1);
    if (args.len > 255 || !addr_is_site(args))
        return smtp_reply(s->cmd, 501, NULL, "Error: invalid parameter syntax");
    domain = arena_strndup(s->cmd, args.ptr, args.len);
    if (access_check_etrn(s, domain, &refusal) < 0)
        return refusal;
    switch (ask(s, domain)) {
    case FLUSHED_DONE: return smtp_reply(s->cmd, 250, NULL, "Queuing started");
    case FLUSHED_NOT_ELIGIBLE:
        log_warning("reject: ETRN %.100s... from %s", domain, s->client);
        return smtp_reply(s->cmd, 459, NULL, "<%s>: service unavailable", domain);
    default: return smtp_reply(s->cmd, 458, NULL, "<%s>: unable to queue messages", domain);
    }
}
