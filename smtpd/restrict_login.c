/* SPDX-License-Identifier: Apache-2.0 */
/* Restrictions that ask who has logged in, and whether the sender's address is his (smtpd_sender_login_maps). */
#include <string.h>

#include "lib/mail/addr.h"
#include "smtpd/access_action.h"

enum access may_wait
restrict_permit_sasl_authenticated(struct access_check *check, const char *argument)
{
    (void)argument;
    return check->session->sasl_username ? ACCESS_PERMIT : ACCESS_DUNNO;
}

static enum access
refuse(struct access_check *check, const char *why)
{
    return access_refuse_text(check, 553, "7.1", "<%s>: Sender address rejected: %s",
                              addr_quote(check->session->cmd, check->sender), why);
}

static bool
is_owner(const char *owners, const char *user)
{
    struct slice rest = slice_from(owners), word;

    while (slice_word(&rest, ", \t\r\n", &word))
        if (slice_equal_text_fold(word, user))
            return true;
    return false;
}

static int
is_local(void *ctx, struct slice domain, bool *ours, struct err *err)
{
    (void)domain;
    (void)err;
    *ours = *(const bool *)ctx;
    return 0;
}

/* Those who own the sender's address; NULL: it is in no table. */
static enum access may_wait
find_owners(struct access_check *check, const char **owners)
{
    struct session *s = check->session;
    struct route_answer route;
    bool local;
    struct maps_ours ours = {.is_ours = is_local, .ctx = &local};
    const char *extension;

    *owners = NULL;
    if (maps_is_empty(s->server->login_owners))
        return ACCESS_DUNNO;
    if (access_route(check, check->sender, &route, &s->err) < 0)
        return access_fail(check, &s->err);
    local = (route.flags & ROUTE_LOCAL) != 0;
    if (maps_find_address(s->server->login_owners, s->cmd, slice_from(check->sender),
                          s->server->set.recipient_delimiter, MAPS_FULL | MAPS_LOCAL | MAPS_DOMAIN, &ours, owners,
                          &extension, &s->err) < 0)
        return access_table_failed(check, "smtpd_sender_login_maps", check->sender, &s->err);
    return ACCESS_DUNNO;
}

/* authenticated, other: which clients are looked at; known: only senders that are in a table. */
static enum access may_wait
check_owner(struct access_check *check, bool authenticated, bool other, bool known)
{
    const char *user = check->session->sasl_username, *owners;

    if (!check->sender || !check->sender[0] || (user ? !authenticated : !other))
        return ACCESS_DUNNO;
    enum access result = find_owners(check, &owners);
    if (result != ACCESS_DUNNO)
        return result;
    if (!owners)
        return user && !known ? refuse(check, arena_printf(check->session->cmd, "not owned by user %s", user))
                              : ACCESS_DUNNO;
    if (!user)
        return refuse(check, "not logged in");
    if (is_owner(owners, user))
        return ACCESS_DUNNO;
    return refuse(check, arena_printf(check->session->cmd, "not owned by user %s", user));
}

enum access may_wait
restrict_reject_sender_login_mismatch(struct access_check *check, const char *argument)
{
    (void)argument;
    return check_owner(check, true, true, false);
}

enum access may_wait
restrict_reject_known_sender_login_mismatch(struct access_check *check, const char *argument)
{
    (void)argument;
    return check_owner(check, true, true, true);
}

enum access may_wait
restrict_reject_authenticated_sender_login_mismatch(struct access_check *check, const char *argument)
{
    (void)argument;
    return check_owner(check, true, false, false);
}

enum access may_wait
restrict_reject_unauthenticated_sender_login_mismatch(struct access_check *check, const char *argument)
{
    (void)argument;
    return check_owner(check, false, true, false);
}
