/* SPDX-License-Identifier: Apache-2.0 */
/* lib/smtp/reply.h: an SMTP reply: make one, put it on the wire. Handlers return a reply; only the session loop sends it,
 * so logging, error counts and pipelining have one home. A reply is a value; its strings live in the arena it was made
 * in. */
#ifndef LIB_SMTP_REPLY_H
#define LIB_SMTP_REPLY_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/compiler.h"

struct smtp_reply {
    int code;             /* 200..599; 0: no reply, all was said already */
    const char *enhanced; /* "5.1.1"; NULL for greeting, HELO, EHLO, 3xx */
    const char *text;     /* lines split by '\n' */
    bool close;           /* the session ends when it is sent */
    bool forgiven;        /* an error that is not held against the client */
};

/* The class of enhanced must match code (RFC 2034 section 4); if not, it is our bug: panics. */
struct smtp_reply smtp_reply(struct arena *, int code, const char *enhanced, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* The same, and the session ends with it. */
struct smtp_reply smtp_reply_close(struct arena *, int code, const char *enhanced, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* A reply whose code and enhanced code come from another process or a table: what does not fit together is put right
 * (an enhanced code of another class gets the code's; a code out of range is 451). */
struct smtp_reply smtp_reply_lenient(struct arena *, int code, const char *enhanced, const char *text);

/* 4xx or 5xx */
bool smtp_reply_is_error(struct smtp_reply);

/* Appends the wire form: code on every line, CRLF, unprintable bytes as '?'. */
void smtp_reply_encode(struct smtp_reply, struct buf *out);

/* In place: what is not printable ASCII becomes '?'. */
void smtp_printable(char *text, size_t len);

/* "554 5.7.1 text", its lines joined by a blank: for the log. */
const char *smtp_reply_line(struct arena *, struct smtp_reply);

#endif
