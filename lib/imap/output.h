/* SPDX-License-Identifier: Apache-2.0 */
/* lib/imap/output.h: values as IMAP writes them (RFC 3501 section 9), appended to a buf. */
#ifndef LIB_IMAP_OUTPUT_H
#define LIB_IMAP_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/slice.h"

/* A quoted string, or a literal where quoting can't say it (CR, LF, NUL, 8 bits unless utf8, or long). */
void imap_put_string(struct buf *, struct slice, bool utf8);
void imap_put_nstring(struct buf *, struct slice, bool utf8); /* NIL for an empty one */
void imap_put_astring(struct buf *, struct slice, bool utf8); /* an atom where that will do */

/* "17-Jul-1996 02:44:25 +0000" with quotes. */
void imap_put_date_time(struct buf *, int64_t seconds);

/* A set: numbers in ascending order, given one after the other; end closes it. */
struct imap_set_writer {
    struct buf *out;
    uint32_t from, to;
    bool any, written;
};
void imap_set_add(struct imap_set_writer *, uint32_t number);
void imap_set_close(struct imap_set_writer *);

/* Names of mailboxes: modified UTF-7 (RFC 3501 section 5.1.3) to UTF-8 and back. False: malformed. */
bool imap_utf7_to_utf8(struct slice, struct buf *out);
void imap_utf8_to_utf7(struct slice, struct buf *out);

#endif
