/* SPDX-License-Identifier: Apache-2.0 */
/* lib/smtp/data_scan.h: takes a message's content out of the bytes that follow DATA.
 *
 * Only CR LF '.' CR LF ends a content (RFC 5321 section 4.1.1.4), or '.' CR LF right behind the DATA command. Whatever
 * else stands there is content, so that nobody can smuggle a second message past us or past the next server:
 *   - a bare LF becomes CR LF, a bare CR a blank, so the output holds neither;
 *   - a line that is a lone '.' but ends or begins with a bare LF becomes an empty line;
 *   - the output is wire form (dot-stuffed, CR LF), whole lines, without the final dot line: CR LF '.' CR LF can't
 *     occur in it.
 * The state is small and does not depend on how the bytes were split. Input that is clean is copied in whole runs. */
#ifndef LIB_SMTP_DATA_SCAN_H
#define LIB_SMTP_DATA_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/buf.h"
#include "lib/base/slice.h"

/* Where the scanner stands. Zero-filled: at the start of a content. */
enum data_place { DATA_LINE_START, DATA_IN_LINE, DATA_AFTER_CR, DATA_AFTER_DOT, DATA_AFTER_DOT_CR };

struct data_scan {
    enum data_place place;
    bool line_after_lf; /* this line began after a bare LF */
    bool saw_bare_lf;   /* there was one: the caller may refuse the message */
    bool saw_bare_cr;
    bool done; /* the end of the content was found */
};

/* How many of the bytes, from the first on, come out as they are: these are taken, and need no copy. They are seldom all: the last
 * few, and what is not quite clean, are left to data_scan(). */
size_t data_scan_clean(struct data_scan *, struct slice bytes);

/* Scans bytes and appends content to out. Returns how many bytes were taken: all, or those up to and with the end. */
size_t data_scan(struct data_scan *, struct slice bytes, struct buf *out);

#endif
