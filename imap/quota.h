/* SPDX-License-Identifier: Apache-2.0 */
/* imap/quota.h: the quota of all the user's mailboxes: that of Maildir++ (lib/store/maildir.h), which delivery keeps to as well. */
#ifndef IMAP_QUOTA_H
#define IMAP_QUOTA_H

#include "imap/mailboxes.h"
#include "lib/store/maildir.h"

int quota_load(struct mailboxes *, struct maildir_quota *, bool *present, struct err *) MUST_USE;

/* Is there room in this mailbox for so much more? Where there is no quota, or the mailbox does not count (Trash), there is. */
int quota_has_room(struct mailboxes *, const char *mailbox, uint64_t bytes, uint64_t count, bool *fits,
                   struct err *) MUST_USE;

/* Notes what came or went (less than 0). That a note fails is logged: the mail counts, not the sum, which is made anew now and then. */
void quota_note(struct mailboxes *, const char *mailbox, int64_t bytes, int64_t count);

/* Bytes of a message as quotas count them. */
int64_t quota_size(struct folder *, struct folder_message *);

#endif
