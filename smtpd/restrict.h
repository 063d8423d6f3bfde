/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/restrict.h: the lists smtpd_..._restrictions, and what runs them.
 *
 * A list is a row of restrictions by name (restrictions.def), each of which permits (the list is done), refuses (with a
 * reply) or does not care (the next decides; behind the last: permitted). A restriction that can't tell because something
 * failed refuses temporarily. So does a name that is unknown, when it is reached: nothing is permitted by mistake. */
#ifndef SMTPD_RESTRICT_H
#define SMTPD_RESTRICT_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/conf/restriction.h"
#include "lib/smtp/reply.h"
#include "lib/table/table.h"
#include "smtpd/session.h"

/* parameter is kept, for the log. Never fails: see above. Opens the tables and services that the list names, so that it is to
 * be called before the sandbox. implied: the restriction that a table by itself ("hash:/etc/postfix/access") stands for; NULL:
 * that of the list in which this one is run. */
struct access_list *access_list_new(struct server *, struct arena *, const char *parameter, const char *text,
                                    const char *implied);

/* Is the parameter's default kept as it was in old versions (compatibility_level)? Who acts on it says so in the log. */
bool access_by_old_default(struct session *, const char *parameter);

/* Does the list hold a restriction of this name that is in effect? */
bool access_list_has(const struct access_list *, const char *name);

/* The lists that belong to a stage; -1: *refusal is the reply, and it is in the log. With smtpd_delay_reject those of
 * client, HELO and sender wait for RCPT (those of client and HELO: or ETRN). */
int may_wait access_check_connect(struct session *, struct smtp_reply *refusal) MUST_USE;
int may_wait access_check_helo(struct session *, const char *helo, struct smtp_reply *refusal) MUST_USE;
int may_wait access_check_sender(struct session *, const char *sender, struct smtp_reply *refusal) MUST_USE;
int may_wait access_check_rcpt(struct session *, const char *recipient, struct smtp_reply *refusal) MUST_USE;
int may_wait access_check_data(struct session *, struct smtp_reply *refusal) MUST_USE;
int may_wait access_check_end_of_data(struct session *, struct smtp_reply *refusal) MUST_USE;
int may_wait access_check_etrn(struct session *, const char *domain, struct smtp_reply *refusal) MUST_USE;

/* ---- for restrictions ---- */

enum access { ACCESS_DUNNO, ACCESS_PERMIT, ACCESS_REFUSE };

/* What is being checked. */
struct access_check {
    struct session *session;
    const char *helo, *sender,
        *recipient;   /* NULL: not known at this stage; recipient: at RCPT, and later where there is one alone */
    const char *etrn; /* the domain, at ETRN */
    bool at_rcpt;     /* recipient is not in the transaction yet */
    const char *what; /* what the list is about: "<a@b>" or "<name[address]>" in replies */
    const char *kind; /* "Sender address", "Client host" ... */
    struct smtp_reply refusal; /* of ACCESS_REFUSE */
    bool defer_if_permit;      /* an earlier restriction failed; its reply is in deferral */
    struct smtp_reply deferral;
    bool defer_if_reject;
    struct smtp_reply
        reject_deferral; /* what is said then instead of a refusal for good; code 0: 450 and the same text */
    const char *implied; /* see access_list_new() */
    unsigned depth;      /* lists within lists */
    bool recipient_looked_up, sender_looked_up; /* the tables of known users have been asked */
};

struct restriction {
    const char *name;
    enum access (*check)(struct access_check *, const char *argument);
    enum access_argument argument;
    const char *help;
};

/* "<what>: kind rejected: reason". detail: an enhanced code without its class, which is the code's: "7.1". */
enum access access_refuse(struct access_check *, int64_t code, const char *detail, const char *reason);

/* The whole text. */
enum access access_refuse_text(struct access_check *, int64_t code, const char *detail, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* Nothing decided, but if nobody refuses, refuse for now with this reply (made by access_refuse...). */
enum access access_defer_if_permit(struct access_check *);

/* The same for the case that somebody refuses for good. */
enum access access_defer_if_reject(struct access_check *);

/* Runs restrictions that stand in a table's result or in a policy service's answer. They can use tables and services only
 * that some list of main.cf names too. */
enum access may_wait access_run_text(struct access_check *, const char *source, const char *text);

/* The table that the restriction being run names. */
struct table *access_table(const struct access_check *, const char *name);

/* Where the address goes. -1: that can't be told now, also because the answer says so. */
int may_wait access_route(struct access_check *, const char *address, struct route_answer *, struct err *) MUST_USE;

/* Asks DNS; the answer says whether there is something. -1: that can't be told now, also because the answer says so. */
int may_wait access_dns(struct access_check *, const char *name, const char *type, struct msg_dns_answer *,
                        struct err *) MUST_USE;

/* Somebody permits: noted, if smtpd_log_access_permit_actions has the action. source: the table that says so, or NULL. A list that
 * can't be asked is noted itself; what was permitted stays so. */
void may_wait access_note_permit(struct access_check *, const char *action, const char *kind, const char *what,
                                 const char *source);

/* What a reject_... restriction does when it can't tell: the refusal made by access_refuse...(), at once ("defer"), or
 * if nobody refuses ("defer_if_permit"). */
enum access access_tempfail(struct access_check *, const char *action);

/* 451: a look-up failed; why goes to the log. */
enum access access_fail(struct access_check *, const struct err *why);

#define RESTRICTION(name, check, argument, help) \
    enum access may_wait check(struct access_check *, const char *argument);
#include "lib/conf/restrictions.def"
#undef RESTRICTION

#endif
