/* SPDX-License-Identifier: Apache-2.0 */
/* imap/flags.h: lists of flags in commands: STORE's and APPEND's. */
#ifndef IMAP_FLAGS_H
#define IMAP_FLAGS_H

#include "imap/session.h"

/* "(\Seen Junk)"; loose: the parentheses may be missing. Keywords get their numbers in the folder; those for which it has no
 * room are left out. *why: ERR_NONE, or why one got no number, though there may be room: then nothing may be stored. */
int imap_take_flags(struct session *, struct folder *, bool loose, unsigned *flags, uint32_t *keywords,
                    struct err *why) MUST_USE;

#endif
