/* SPDX-License-Identifier: Apache-2.0 */
/* tools/login_sender.h: local_login_sender_maps: the envelope senders that the caller of postdrop may use. */
#ifndef TOOLS_LOGIN_SENDER_H
#define TOOLS_LOGIN_SENDER_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/slice.h"
#include "lib/conf/conf.h"
#include "lib/conf/settings_tools.h"

struct login_sender;

/* Looks up the caller: by login name, or by "uid:" and the number where there is none. Fatal (EX_TEMPFAIL) if a table can't
 * say. Lives in the arena. */
struct login_sender *login_sender_new(struct arena *, const struct conf *, const struct tools_settings *);

/* May the caller be this sender? Raw form; an extension does not count; "" is the empty sender. */
bool login_sender_may(const struct login_sender *, struct slice sender);

/* For messages: the key that was looked up. */
const char *login_sender_name(const struct login_sender *);

#endif
