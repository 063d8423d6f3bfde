/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/mbox_parse.h: what stands in an mbox: From_ lines, and the header fields in which programs keep what they know of a
 * message (their own, as c-client and Dovecot write them and mutt follows them):
 *
 *   X-IMAPbase: 1275660208 0000025022 Junk $Forwarded    UIDVALIDITY, highest UID given, keywords; first message only
 *   X-UID: 25006
 *   Status: RO          R seen, O not new
 *   X-Status: AFDT      answered, flagged, deleted, draft
 *   X-Keywords: Junk
 */
#ifndef LIB_STORE_MBOX_PARSE_H
#define LIB_STORE_MBOX_PARSE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "lib/base/slice.h"

/* "From sender Tue Nov 24 05:20:11 2026", with or without its line end: a line that begins a message. *when (may be NULL): as local time,
 * or in the line's own zone if it names one as +0100. */
bool mbox_is_from_line(struct slice line, time_t *when);

struct mbox_own {
    unsigned flags; /* FLAG_... of lib/store/folder.h */
    bool is_old;    /* Status has O */
    uint32_t uid;   /* 0: none */
    struct slice keywords;
    uint32_t uid_validity, last_uid; /* of X-IMAPbase or X-IMAP; 0: none */
    struct slice base_keywords;
    bool is_internal;        /* X-IMAP: no message at all, c-client keeps its data there */
    size_t first, own_bytes; /* where the first own field begins (the header's length: none); bytes of all */
};

/* One field with its folded lines and line ends is cut off the header; false at its end. */
bool mbox_cut_field(struct slice *header, struct slice *field);

enum mbox_field {
    MBOX_OTHER,
    MBOX_OWN,    /* of the above: hidden from clients, and written anew */
    MBOX_HIDDEN, /* Content-Length: hidden from clients, and left as it is */
};
enum mbox_field mbox_field_kind(struct slice field);

/* The length of a header with the empty line after it; 0: it does not end here. *lines: without the empty line. */
size_t mbox_header_length(struct slice bytes, size_t *lines);

/* header: without the empty line. */
void mbox_parse_own(struct slice header, struct mbox_own *);

#endif
