/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup/spool.h: makes a queue file of an image. */
#ifndef CLEANUP_SPOOL_H
#define CLEANUP_SPOOL_H

#include "lib/base/err.h"
#include "lib/mail/journal.h"

/* Writes the message at that place, without what the done-list says is done, to the queue, durably, and strikes the
 * image. 0 too when nothing was left to do. The image is not released. */
int may_wait spool_image(const struct journal_place *, const char *queue, struct err *) MUST_USE;

/* Strikes it only: it is not to be delivered, come what may. */
int may_wait spool_strike(const struct journal_place *, struct err *) MUST_USE;

#endif
