/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/transaction.h: one message on its way in: sender, recipients, content, queue id. Begun by MAIL; ended by
 * session_reset() alone, whatever the reason. */
#ifndef SMTPD_TRANSACTION_H
#define SMTPD_TRANSACTION_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/mail/messages.h"
#include "lib/mail/queue_id.h"
#include "lib/mail/submit.h"
#include "lib/mail/wire.h"
#include "lib/smtp/command.h"
#include "lib/smtp/data_scan.h"
#include "smtpd/effects.h"

struct session;

/* Why a content is read to its end and then refused. */
enum content_problem { CONTENT_FINE, CONTENT_TOO_BIG, CONTENT_NOT_QUEUED, CONTENT_BARE_LF, CONTENT_REFUSED };

struct transaction {
    struct arena *arena;
    const char *sender;
    const char *body; /* "7bit", "8bit", "" */
    const char *envid;
    int ret;
    int sendopts;            /* SENDOPT_... */
    const char *verp;        /* two delimiters, or "" */
    int64_t declared_size;   /* SIZE= */
    const char *sasl_sender; /* AUTH=; "" */
    bool is_local;           /* the client is in local_header_rewrite_clients */
    struct effects effects;
    char queue_id[QUEUE_ID_SIZE]; /* "" until the first recipient is accepted */
    int64_t number;               /* in the queue id */

    struct envelope_recipient *recipients;
    unsigned recipient_count, recipient_space;
    unsigned refused;   /* recipients that were */
    unsigned overshoot; /* recipients above the limit */
    size_t envelope_size; /* about what they take in the envelope, as cleanup completes it */

    /* The content (content.h). */
    bool in_bdat;
    struct data_scan scan;         /* DATA */
    struct wire_state wire;        /* BDAT */
    struct buf content;            /* wire form, not handed on yet */
    struct submission *submission; /* a content that became too large for memory goes this way */
    int64_t size;                  /* bytes of content so far */
    enum content_problem problem;
};

struct transaction *transaction_new(const struct session *, const struct smtp_mail *);

/* Throws away what was not submitted. */
void may_wait transaction_free(struct transaction **);

/* Does the envelope take no more recipients, however many the administrator allows (IMAGE_ENVELOPE_LIMIT)? */
bool transaction_is_full(const struct transaction *);

/* Copies the recipient. */
void transaction_add_rcpt(struct transaction *, const struct smtp_rcpt *);

/* Makes the queue id, if there is none yet, and logs "ID: client=...". -1: no number can be had. */
int may_wait transaction_open(struct session *, struct transaction *, struct err *) MUST_USE;

/* What goes to cleanup with the content. Texts are borrowed from the session and the transaction. */
struct envelope transaction_envelope(const struct session *, const struct transaction *);

#endif
