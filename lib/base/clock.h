/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/clock.h: the time, in microseconds. Wall time for what people and files see; monotonic time for deadlines. */
#ifndef LIB_BASE_CLOCK_H
#define LIB_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

typedef int64_t usec_t; /* microseconds; the one typedef, because every deadline has this unit */

#define SECONDS(n) ((usec_t)(n)*1000000)

usec_t clock_wall(void);      /* since 1970-01-01 UTC */
usec_t clock_monotonic(void); /* since some fixed moment; never steps */

/* "Mon, 24 Nov 2026 05:20:11 +0000 (UTC)": RFC 5322 section 3.3, local time zone. text holds at least 64 bytes. */
void clock_format_rfc5322(usec_t wall, char *text, size_t size);

/* "Nov 24 05:20:11": as in the system log. */
void clock_format_syslog(usec_t wall, char *text, size_t size);

/* localtime_r() that can't fail: a year that has no room is 1970. */
struct tm clock_local(int64_t seconds);

#endif
