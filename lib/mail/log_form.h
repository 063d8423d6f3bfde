/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/log_form.h: how addresses and delays stand in the log of this process. */
#ifndef LIB_MAIL_LOG_FORM_H
#define LIB_MAIL_LOG_FORM_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/arena.h"
#include "lib/base/clock.h"

/* internal: addresses without quotes (info_log_address_format). digits: behind the point of delays, at most
 * (delay_logging_resolution_limit, 0 to 6). Until it is called: quoted, and 2. */
void log_form_init(bool internal, unsigned digits);

/* The address as it stands in the log. */
const char *log_form_address(struct arena *, const char *raw);

/* Seconds with two significant digits, from 10 on whole ones, and never more digits behind the point than log_form_init() says:
 * "0.05", "1.2", "340", "0". text holds at least 32 bytes. */
void log_form_delay(usec_t delay, char *text, size_t size);

#endif
