/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/checks.h: smtp_header_checks and its kin (header_checks(5)): patterns for the content on its way out. What is in the
 * queue stays as it is, and so does where the message goes: actions that would change that are not to be had here. */
#ifndef SMTP_CHECKS_H
#define SMTP_CHECKS_H

#include "lib/conf/conf.h"
#include "lib/conf/settings_smtp.h"
#include "lib/mail/mime_walk.h"

struct checks;

/* With the files of the start. *result NULL: no tables are set. */
int checks_new(struct arena *, const struct conf *, const struct smtp_settings *, bool lmtp, struct checks **result,
               struct err *) MUST_USE;

/* A content on its way. */
struct checking;

/* Lives in the arena; released with it. sink: where the content goes. */
struct checking *checking_new(struct arena *, const struct checks *, const char *queue_id,
                              const struct mime_sink *sink);

/* Takes wire form in pieces cut anywhere. -1: emit() failed; or, *err.kind set, a table did. */
int may_wait checking_add(struct checking *, struct slice wire, struct err *) MUST_USE;

/* The end of the content, its final dot included. */
int may_wait checking_end(struct checking *, struct err *) MUST_USE;

#endif
