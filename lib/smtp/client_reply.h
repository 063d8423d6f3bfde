/* SPDX-License-Identifier: Apache-2.0 */
/* lib/smtp/client_reply.h: what a server answers, as a client reads it (RFC 5321 section 4.2). Servers may be hostile:
 * what comes out is bounded and printable, whatever came in. */
#ifndef LIB_SMTP_CLIENT_REPLY_H
#define LIB_SMTP_CLIENT_REPLY_H

#include "lib/base/arena.h"
#include "lib/base/compiler.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/run/stream.h"
#include "lib/table/maps.h"

enum {
    CLIENT_REPLY_LINE = 2048,  /* bytes of a line that are looked at; the rest of it is skipped */
    CLIENT_REPLY_LINES = 1000, /* in one reply */
    CLIENT_REPLY_TEXT = 8192,  /* bytes of a reply that are kept */
};

/* Zero-filled before its first line. */
struct client_reply {
    int code;         /* 200..599 */
    const char *text; /* the lines as they came, with code, split by '\n'; printable */
    char dsn[12];     /* "5.1.1": from the text if its class fits the code, else "5.0.0" */
    unsigned lines;
    size_t len, cap; /* of text; cap 0: exactly that long */
};

/* Takes the next line, without its end. 1: the reply is complete; 0: it goes on; -1: ERR_SYNTAX, that is no reply, or
 * one without end; what follows can't be understood any more. Texts live in the arena. */
int client_reply_line(struct client_reply *, struct arena *, struct slice line, struct err *) MUST_USE;

/* Reads a whole reply. filter: tables that may put another line in a line's place (smtp_reply_filter); NULL: none. -1: also what the
 * stream says, and a table that failed (ERR_TEMP). */
int may_wait client_reply_read(struct client_reply *, struct arena *, struct stream *, const struct maps *filter,
                               struct err *) MUST_USE;

/* The text on one line: for the log and reports. */
const char *client_reply_joined(const struct client_reply *, struct arena *);

/* Visits the lines of a reply without their codes; start with *rest = reply->text. False at the end. */
bool client_reply_next_line(const char **rest, struct slice *line);

#endif
