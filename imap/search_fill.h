/* SPDX-License-Identifier: Apache-2.0 */
/* imap/search_fill.h: the full-text index is filled by searches, and where one would take too long, behind it. */
#ifndef IMAP_SEARCH_FILL_H
#define IMAP_SEARCH_FILL_H

#include "imap/mailboxes.h"

/* Brings the mailbox's messages into the index, a few at a time, in a task of its own; one mailbox at a time: of a second nothing
 * happens until somebody searches it again. It ends with the process. */
void search_fill_later(struct mailboxes *, const char *name);
bool search_fill_is_running(void);

/* While a search runs (on: it begins; else: it has ended) the task waits. */
void search_fill_hold(bool on);

#endif
