/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/features.h: what servers announce in their answer to EHLO (RFC 5321 section 4.1.1.1). Pure. */
#ifndef SMTP_FEATURES_H
#define SMTP_FEATURES_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/slice.h"

enum {
    FEATURE_PIPELINING = 1 << 0, /* RFC 2920 */
    FEATURE_SIZE = 1 << 1,       /* RFC 1870 */
    FEATURE_8BITMIME = 1 << 2,   /* RFC 6152 */
    FEATURE_DSN = 1 << 3,        /* RFC 3461 */
    FEATURE_STARTTLS = 1 << 4,   /* RFC 3207 */
    FEATURE_SMTPUTF8 = 1 << 5,   /* RFC 6531 */
    FEATURE_ENHANCED = 1 << 6,   /* RFC 2034 */
    FEATURE_XFORWARD = 1 << 7,   /* Postfix's; its attributes in the order of features_xforward: */
    FEATURE_XFORWARD_FIRST = 1 << 16,
};

/* Names of XFORWARD's attributes; attribute i is known to the server if it has the bit FEATURE_XFORWARD_FIRST << i. */
enum {
    XFORWARD_NAME,
    XFORWARD_ADDR,
    XFORWARD_PORT,
    XFORWARD_PROTO,
    XFORWARD_HELO,
    XFORWARD_IDENT,
    XFORWARD_SOURCE,
    XFORWARD_COUNT
};
extern const char *const features_xforward[XFORWARD_COUNT];

/* Takes the reply's text; *size gets the limit, 0: none given. */
unsigned features_parse(const char *reply_text, int64_t *size);

/* Is the keyword in such a list? */
bool features_list_has(struct slice list, const char *keyword);

/* The bits of a list of keywords, as in smtp_discard_ehlo_keywords; what we don't use anyway is left out. */
unsigned features_from_list(struct slice list);

#endif
