/* SPDX-License-Identifier: Apache-2.0 */
/* bounce/report.h: a delivery status notification: a multipart/report (RFC 6522) of a text for people, a
 * message/delivery-status (RFC 3464), and the message it is about, whole or only its header. Pure: makes bytes in wire form. */
#ifndef BOUNCE_REPORT_H
#define BOUNCE_REPORT_H

#include <stdbool.h>

#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/mail/bounce_template.h"
#include "lib/mail/messages.h"

enum report_kind {
    REPORT_FAILED,
    REPORT_DELAYED,
    REPORT_SUCCESS,
    REPORT_VERIFY,
    REPORT_POSTMASTER_COPY,
    REPORT_POSTMASTER_DELAY,
    REPORT_DOUBLE
};

struct report {
    enum report_kind kind;
    const struct bounce_template *template; /* From, subjects, character set */
    const char *text;                       /* for people, lines ended by '\n'; not in the postmaster's copies */
    const char *myhostname, *mail_name;
    const char *id; /* of the notice */
    usec_t now;     /* wall clock */
    const char *to; /* raw; "" is not possible */

    /* The message it is about. */
    const char *original_id;
    const char *sender; /* raw; the message's, whoever is told */
    const char *envelope_id;
    const char *message_id; /* of its header, with < >; "": the notice is not to point to it */
    usec_t arrival;
    int64_t expires; /* of REPORT_DELAYED: seconds since 1970 */
    const struct bounce_recipient *recipients;
    size_t recipient_count;
    bool utf8;    /* addresses or header hold UTF-8 (SMTPUTF8): message/global forms */
    bool is_8bit; /* what is quoted */
    bool headers_only;
};

/* Has the notice bytes over 127, the original or the text for people? */
bool report_is_8bit(const struct report *);

/* Everything before the original; the header section of the original (or all of it) is to follow in wire form, its
 * last line complete. */
void report_begin(const struct report *, struct buf *out);

/* Everything behind it. */
void report_end(const struct report *, struct buf *out);

/* Folds text at blanks into lines of about 78 characters, the second and later ones with that indentation. */
void report_fold(const char *text, const char *indentation, struct buf *out);

#endif
