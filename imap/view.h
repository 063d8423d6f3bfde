/* SPDX-License-Identifier: Apache-2.0 */
/* imap/view.h: what a session's client knows of the selected mailbox: the UIDs behind its sequence numbers, and up to which
 * change of flags it was told. The folder itself may be ahead. */
#ifndef IMAP_VIEW_H
#define IMAP_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/store/folder.h"

struct view {
    uint32_t *uids; /* of sequence numbers 1, 2, ... */
    size_t count, size;
    struct uid_list *shared; /* uids are these, and change only in a copy; NULL: our own */
    uint32_t uid_validity;   /* that the client was told: under another the UIDs mean other messages */
    uint64_t change;         /* flags are known as of this folder_change() */
    uint32_t recent_from;    /* messages from this UID on are \Recent here; UINT32_MAX: none */
    bool uid_only;           /* messages are named by UIDs (UIDONLY, RFC 9586) */
    bool condstore;          /* FETCH tells MODSEQ (RFC 7162) */
    bool qresync;            /* VANISHED in place of EXPUNGE */
    bool restored;           /* made from a state (imap/park.h): the next update looks at everything */
    size_t told;             /* new messages beyond count that its client was told of while it was parked */
    uint32_t *doubtful;      /* UIDs whose flags it tells in any case, ascending */
    size_t doubtful_count, doubtful_size;
};

void view_init(struct view *, struct folder *);
void view_release(struct view *);

/* Sequence number of a UID, from 1; 0: the client does not know it. */
size_t view_sequence(const struct view *, uint32_t uid);
size_t view_lower_bound(const struct view *, uint32_t uid); /* index */

/* Appends the untagged responses that tell the client of all that is new: EXPUNGE (if allowed), EXISTS, FETCH FLAGS. with_uid:
 * FETCH names the UID too. */
/* "* 5 FETCH (UID 7 FLAGS ", or with uid_only "* 7 UIDFETCH (FLAGS ". */
void view_begin_flags(const struct view *, size_t sequence, uint32_t uid, struct buf *out);
/* The whole response, with MODSEQ where the client wants it. */
void view_put_flags(const struct view *, const struct folder *, size_t sequence, const struct folder_message *,
                    struct buf *out);

void view_update(struct view *, const struct folder *, bool expunges, struct buf *out);

/* The next update tells its flags. UIDs ascend from call to call. */
void view_doubt(struct view *, uint32_t uid);

/* Flags of this message were just told to the client (or are to be told by nobody: .SILENT). */
bool view_is_recent(const struct view *, uint32_t uid);
size_t view_count_recent(const struct view *);

#endif
