/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/base/check.h"

static usec_t
clock_read(clockid_t id)
{
    struct timespec now;
    check(clock_gettime(id, &now) == 0);
    return (usec_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Seconds that POSTERN_CLOCK_OFFSET adds to the wall clock: for tests of clocks that step (master passes it on only
 * where import_environment says so). */
static usec_t
wall_offset(void)
{
    static bool known;
    static usec_t offset;

    if (!known) {
        const char *text = getenv("POSTERN_CLOCK_OFFSET");
        offset = text ? (usec_t)strtoll(text, NULL, 10) * 1000000 : 0;
        known = true;
    }
    return offset;
}

usec_t
clock_wall(void)
{
    return clock_read(CLOCK_REALTIME) + wall_offset();
}

usec_t
clock_monotonic(void)
{
    return clock_read(CLOCK_MONOTONIC);
}

static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

struct tm
clock_local(int64_t seconds)
{
    struct tm tm;
    time_t when = (time_t)seconds, epoch = 0;
    if (!localtime_r(&when, &tm) && !localtime_r(&epoch, &tm))
        tm = (struct tm){.tm_year = 70, .tm_mday = 1, .tm_wday = 4};
    return tm;
}

static struct tm
local_time(usec_t wall)
{
    return clock_local(wall / 1000000);
}

void
clock_format_rfc5322(usec_t wall, char *text, size_t size)
{
    struct tm tm = local_time(wall);
    long offset = tm.tm_gmtoff / 60;
    snprintf(text, size, "%s, %d %s %d %02d:%02d:%02d %c%02ld%02ld (%s)", days[tm.tm_wday], tm.tm_mday,
             months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, offset < 0 ? '-' : '+',
             labs(offset) / 60, labs(offset) % 60, tm.tm_zone ? tm.tm_zone : "UTC");
}

void
clock_format_syslog(usec_t wall, char *text, size_t size)
{
    struct tm tm = local_time(wall);
    snprintf(text, size, "%s %2d %02d:%02d:%02d", months[tm.tm_mon], tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}
