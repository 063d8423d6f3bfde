/* SPDX-License-Identifier: Apache-2.0 */
/* imap/condstore.h: CONDSTORE and QRESYNC (RFC 7162): mod-sequences, for a client that keeps what it knows of a mailbox and asks for
 * what changed since. The numbers come from the folder's index; where a folder has none, the client is told NOMODSEQ, and what
 * needs them is refused. */
#ifndef IMAP_CONDSTORE_H
#define IMAP_CONDSTORE_H

#include "imap/session.h"

/* The client wants mod-sequences from now on; when a mailbox is selected already, it is told the highest. */
void may_wait condstore_enable(struct session *);
void may_wait condstore_enable_qresync(struct session *);

/* Refuses the command where the selected folder has no mod-sequences: -1 with in.err. */
int condstore_need(struct session *) MUST_USE;

struct condstore_select {
    bool condstore, qresync, has_known;
    uint32_t uid_validity;
    uint64_t modseq;
    struct imap_set known;
};

/* "(CONDSTORE)" or "(QRESYNC (67890007 20050715194045000 41,43:211 (1,5 41,60)))" behind SELECT's name. */
int condstore_take_select(struct session *, struct condstore_select *) MUST_USE;
/* Of the mailbox that was just selected: its HIGHESTMODSEQ. */
void may_wait condstore_tell_highest(struct session *);
/* What changed since the client saw it last. */
int may_wait condstore_tell_resync(struct session *, struct condstore_select *, struct err *) MUST_USE;

/* "* VANISHED (EARLIER) 1:5": UIDs of that set (NULL: all) that were expunged after that mod-sequence. */
int may_wait condstore_tell_vanished(struct session *, uint64_t since, struct imap_set *, struct err *) MUST_USE;

/* A mod-sequence in a command. */
int condstore_take_modseq(struct session *, uint64_t *) MUST_USE;

#endif
