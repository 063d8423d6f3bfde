/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/mime_walk.h: a message on its way through a program that looks at each header and each line of the body and may
 * drop, replace or add some: header_checks(5) and its kin, in cleanup(8) and smtp(8). The content is in wire form (CRLF,
 * dot-stuffed), in pieces cut anywhere. Here are also the few things to know about one header.
 *
 * mime_walk goes through the body's MIME structure (RFC 2046), one line at a time. Memory: one line, one header, and a boundary
 * for each level of nesting. */
#ifndef LIB_MAIL_MIME_WALK_H
#define LIB_MAIL_MIME_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/compiler.h"
#include "lib/base/slice.h"

/* ---- headers ---- */

/* RFC 5322 section 2.2: a name, perhaps blanks (section 4.5), a colon, the value, up to the line end. */
bool header_split(struct slice wire, struct slice *name, struct slice *value);

/* A header's bytes in wire form with LF between its lines and no line end behind the last, cut at limit. */
struct slice header_as_text(struct arena *, struct slice wire, size_t limit);

/* A text of an administrator's in wire form, with a line end. In a header (folds) further lines are continuation lines. */
struct slice header_wire(struct arena *, const char *text, bool folds);

/* Is it one of the headers that describe a MIME part? */
bool header_is_mime(struct slice name);

/* ---- the body ---- */

enum check_kind { CHECK_HEADER, CHECK_MIME_HEADER, CHECK_NESTED_HEADER, CHECK_BODY, CHECK_KINDS };

struct check_result {
    bool drop;           /* it goes */
    const char *prepend; /* a line to stand before it; NULL: none */
    const char *replace; /* what takes its place; NULL: it stays */
};

struct mime_walk_rules {
    bool follows_structure; /* MIME processing is on */
    bool strict_header, strict_body; /* refuse() 8-bit bytes where they must not be, */
    bool strict_domain;              /* and encodings of what has parts */
    size_t header_limit, boundary_limit, line_limit;
    unsigned nesting_limit;
    uint64_t body_limit; /* bytes of each part's body that are looked at */

    /* text: a header with LF between its lines and none at the end, or a line of the body. -1: the message ends here. */
    int (*ask)(void *ctx, enum check_kind, struct slice text, struct check_result *); /* may wait */

    /* What MIME forbids. -1: the message ends here; 0: never mind. */
    int (*refuse)(void *ctx, const char *why, struct slice what);

    /* NULL where nothing is converted. part: the header section of the whole, a part or an attached message has ended. Returns
     * a header that is to stand at its end, or NULL; with *converts what follows up to the next delimiter is one body,
     * and goes to convert() instead of the sink: lines in wire form with their ends, the final dot too, very long
     * ones in pieces. */
    const char *(*part)(void *ctx, struct slice type, struct slice encoding, bool *converts); /* encoding: the word */
    int (*convert)(void *ctx, struct slice wire); /* may wait; -1: it failed */
    void *ctx;
};

/* The word that a Content-Transfer-Encoding's value is, without comments and what follows it. */
struct slice mime_encoding(struct arena *, struct slice value);

struct mime_walk;

/* After the header section is known, whose Content-Type and Content-Transfer-Encoding those are ("": there is none). Lives
 * in the arena until mime_walk_free(); rules are kept. NULL: refuse() said so. With "message/rfc822" and "" the whole message is
 * walked through, its own header section too. */
struct mime_walk *mime_walk_new(struct arena *, const struct mime_walk_rules *, struct slice type,
                                struct slice encoding);

/* What is to stay goes to the sink, in pieces: out of the input where it can be, else in memory that is gone when emit()
 * returns (is_copy). -1: ask(), refuse() or emit() said so. */
struct mime_sink {
    int (*emit)(void *ctx, struct slice, bool is_copy); /* may wait */
    void *ctx;
};
int may_wait mime_walk_add(struct mime_walk *, struct slice wire, const struct mime_sink *) MUST_USE;

/* The end of the content. */
int may_wait mime_walk_end(struct mime_walk *, const struct mime_sink *) MUST_USE;

void mime_walk_free(struct mime_walk **);

#endif
