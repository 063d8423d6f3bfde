/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/mime.h: a message taken apart, as RFC 5322 and RFC 2045 say, for those who show it: header fields, the tree of
 * parts, their places and sizes. Nothing is decoded or copied: slices point into the message, which may have LF or CRLF
 * line ends; sizes "on the wire" count every line end as two bytes.
 *
 * Any bytes give a tree: what is malformed is taken for plain text. Limits: MIME_DEPTH levels, MIME_PARTS parts in all
 * (what is deeper or more stays one opaque part), MIME_PARAMETERS for each field. */
#ifndef LIB_MAIL_MIME_H
#define LIB_MAIL_MIME_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/slice.h"

enum { MIME_DEPTH = 50, MIME_PARTS = 10000, MIME_PARAMETERS = 100 };

/* ---- header fields ---- */

/* Takes the next field off *rest, which is a header or begins with one; value without the line end behind it, but with
 * those within. False at the header's end (an empty line, which is taken too, or no more bytes). A line that is no field
 * is skipped. */
bool mime_field_next(struct slice *rest, struct slice *name, struct slice *value);

/* The first field of that name; false if there is none. */
bool mime_field_find(struct slice header, const char *name, struct slice *value);

/* Line ends and the blanks behind them become one blank, other control characters too; blanks at both ends go. In the
 * arena. */
struct slice mime_unfold(struct arena *, struct slice value);

/* ---- parts ---- */

struct mime_parameter {
    struct slice name, value; /* unquoted */
};

struct mime_part {
    struct slice header; /* with the empty line that ends it */
    struct slice body;
    uint64_t header_wire, body_wire; /* sizes with CRLF */
    uint64_t lines;                  /* line ends in the body */
    struct slice type, subtype;      /* "text", "plain" where nothing is said */
    struct mime_parameter *parameters;
    unsigned parameter_count;
    struct slice encoding;    /* "7bit" where nothing is said */
    struct slice disposition; /* "" if there is none */
    struct mime_parameter *disposition_parameters;
    unsigned disposition_parameter_count;
    bool is_multipart;
    struct mime_part *message; /* of message/rfc822 and message/global: what is inside */
    struct mime_part **parts;
    unsigned part_count;
};

/* The message's tree, in the arena. */
struct mime_part *mime_parse(struct arena *, struct slice message);

/* The same, but only the top: header, sizes, type; no parts. Cheap where the tree is not wanted. */
struct mime_part *mime_parse_top(struct arena *, struct slice message);

/* Value of a parameter, "" if there is none. */
struct slice mime_parameter(const struct mime_parameter *, unsigned count, const char *name);

/* ---- values ---- */

/* Takes a token, a quoted string (unquoted, in the arena) or one special character off *rest, skipping blanks and
 * comments. False at the end. */
enum mime_token_kind { MIME_ATOM, MIME_QUOTED, MIME_SPECIAL };
bool mime_token_next(struct arena *, struct slice *rest, const char *specials, enum mime_token_kind *, struct slice *);

/* Bytes in their wire form, from offset on, at most max of them: line ends become CRLF. Calls emit for each run. */
void mime_wire(struct slice bytes, uint64_t offset, uint64_t max, void (*emit)(void *ctx, struct slice), void *ctx);
uint64_t mime_wire_size(struct slice bytes, uint64_t *lines); /* lines may be NULL */

/* Undoes base64 or quoted-printable (anything else is copied), appending to out; malformed input gives what can be read.
 * CRLF or LF line ends of quoted-printable and plain text stay as they are. */
void mime_decode(struct slice body, struct slice encoding, struct buf *out);

/* RFC 2047: encoded words in an unfolded value become UTF-8 (charsets by ICU; what can't be converted stays as it is). */
void mime_decode_words(struct slice value, struct buf *out);

/* Text in a charset to UTF-8, appending; bytes that can't be converted become U+FFFD. False: the charset is unknown, and the
 * bytes were appended as they are. */
bool mime_to_utf8(struct slice text, struct slice charset, struct buf *out);

/* ---- addresses (RFC 5322 section 3.4, obsolete forms too) ---- */

struct mime_address {
    struct slice name, route, local,
        domain; /* as IMAP's ENVELOPE has them; a group begins with local = its name and no domain,
                                              * and ends with neither */
    bool group_begin, group_end;
};

/* In the arena; at most 1000. What can't be understood is left out. */
unsigned mime_addresses(struct arena *, struct slice value, struct mime_address **);

/* RFC 5322 date: seconds since 1970 and the zone in minutes; false if it is none. */
bool mime_date(struct slice value, int64_t *seconds, int *zone);

#endif
