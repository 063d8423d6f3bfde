/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup/announce.h: tells qmgr of durable images, and hears when they are needed no more.
 *
 * An announcement stays until it is answered. When the link breaks, those that were not answered are made again on the
 * next one: qmgr knows by the place what it has already. When qmgr can't be reached for some seconds, messages become
 * files in incoming/, which it finds when it comes back. */
#ifndef CLEANUP_ANNOUNCE_H
#define CLEANUP_ANNOUNCE_H

#include <stdint.h>

#include "lib/base/clock.h"
#include "lib/base/slice.h"
#include "lib/mail/journal.h"

/* path: of qmgr's socket; kept. */
void announce_start(const char *path);

/* envelope: encoded; copied. */
void announce(const struct journal_place *, struct slice envelope);

void announce_segment_gone(uint32_t segment, uint32_t generation);

/* Waits until nothing is outstanding, or the deadline, which may change meanwhile; when the system stops, writes files soon if
 * qmgr isn't there. */
void may_wait announce_drain(const usec_t *deadline);

/* Forgets what is outstanding: the images stay where they are. */
void announce_end(void);

#endif
