/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/addr_form.h: the canonical form of an address: a pure function of its text and the settings. Raw form in and
 * out (lib/mail/addr.h). trivial-rewrite(8) says in which order the rules apply. */
#ifndef LIB_MAIL_ADDR_FORM_H
#define LIB_MAIL_ADDR_FORM_H

#include "lib/base/arena.h"
#include "lib/conf/settings_rewrite.h"

/* complete: append $myorigin and $mydomain where a part is missing (the "local" context). "" stays "". */
const char *address_canonical(struct arena *, const struct rewrite_settings *, const char *address, bool complete);

/* From now on it is logged where that happens because the default of append_dot_mydomain is kept as it was in old versions
 * (compatibility_level). */
int address_tell_old_default(const struct conf *, struct err *) MUST_USE;

/* Takes one level of routing out of a local part: "a%b" -> "a@b", "b!a" -> "a@b", as the settings allow; NULL if there
 * is none. */
const char *address_unroute(struct arena *, const struct rewrite_settings *, struct slice local);

#endif
