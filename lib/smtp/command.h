/* SPDX-License-Identifier: Apache-2.0 */
/* lib/smtp/command.h: parses what a client says: the verb, and the arguments of MAIL, RCPT and BDAT (RFC 5321 section
 * 4.1.2, RFC 1870, 3030, 3461, 6152). Nothing here waits or keeps state; lines may hold any bytes. */
#ifndef LIB_SMTP_COMMAND_H
#define LIB_SMTP_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/slice.h"
#include "lib/smtp/reply.h"

/* The verb and what follows it, without the blanks around both. verb is empty for an empty line. */
struct smtp_command {
    struct slice verb, args;
};
struct smtp_command smtp_command_split(struct slice line);

/* What the session allows. */
enum {
    SMTP_STRICT = 1, /* RFC 5321 addresses only: strict_rfc821_envelopes */
    SMTP_DSN = 2,    /* the extension was announced */
    SMTP_UTF8 = 4,   /* addresses in UTF-8 */
    SMTP_AUTH = 8,
    SMTP_XVERP = 32,
    SMTP_DASH = 16,     /* addresses that begin with "-": allow_min_user */
    SMTP_SMTPUTF8 = 64, /* the extension was announced (RFC 6531) */
};

struct smtp_mail {
    const char *sender; /* raw form; "" for <> */
    int64_t size;       /* SIZE=; 0: not given */
    const char *body;   /* "7bit", "8bit" as BODY= says, or "" */
    const char *envid;  /* decoded; "" */
    const char *auth;   /* AUTH=, decoded; "<>" stands for nobody; NULL: not given */
    int ret;            /* RET_... of messages.h; 0 */
    bool smtputf8;
    const char *xverp; /* XVERP=, as it was given; "" without a value; NULL: not given */
};

struct smtp_rcpt {
    const char *address; /* raw form */
    const char *orcpt;   /* "type;address", decoded; "" */
    int notify;          /* NOTIFY_...; 0: not given */
};

/* "FROM:<a@b> SIZE=1". -1: *refusal is the reply (501, 555, ...). Results live in the arena. */
int smtp_parse_mail(struct arena *, struct slice args, unsigned allow, struct smtp_mail *,
                    struct smtp_reply *refusal) MUST_USE;
int smtp_parse_rcpt(struct arena *, struct slice args, unsigned allow, struct smtp_rcpt *,
                    struct smtp_reply *refusal) MUST_USE;

/* "123 LAST". -1: malformed; the stream can't be read on, because nobody knows where the next command begins. */
int smtp_parse_bdat(struct slice args, uint64_t *count, bool *last) MUST_USE;

#endif
