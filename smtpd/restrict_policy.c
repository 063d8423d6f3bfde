/* SPDX-License-Identifier: Apache-2.0 */
/* check_policy_service: what a service says is an action as in access(5). */
#include "lib/mail/addr.h"
#include "smtpd/access_action.h"
#include "smtpd/policy.h"

enum access may_wait
restrict_check_policy_service(struct access_check *check, const char *argument)
{
    const char *what = check->what, *kind = check->kind;
    const char *action = policy_ask(check, argument);

    return access_act(check, argument, action, what, kind);
}
