/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/starttls.h: turns TLS on: after STARTTLS, or at once with smtpd_tls_wrappermode. */
#ifndef SMTPD_STARTTLS_H
#define SMTPD_STARTTLS_H

#include "smtpd/session.h"

/* Logs the result. -1: the stream is dead, and the session's end_reason is set. */
int may_wait starttls_now(struct session *, struct err *) MUST_USE;

#endif
