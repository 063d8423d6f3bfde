/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/log_form.h"

#include <stdio.h>
#include <string.h>

#include "lib/mail/addr.h"

static struct {
    bool internal;
    unsigned digits;
} form = {.digits = 2};

void
log_form_init(bool internal, unsigned digits)
{
    form.internal = internal;
    form.digits = digits;
}

const char *
log_form_address(struct arena *arena, const char *raw)
{
    return form.internal ? raw : addr_quote(arena, raw);
}

/* So many that two significant ones are shown of what is not rounded up to the next power of ten. */
static unsigned
digits_behind_point(double seconds)
{
    unsigned digits = seconds >= 9.95 ? 0 : 1;

    for (double limit = 0.995; digits > 0 && digits < form.digits && seconds < limit; limit /= 10)
        digits++;
    return digits < form.digits ? digits : form.digits;
}

void
log_form_delay(usec_t delay, char *text, size_t size)
{
    double seconds = delay > 0 ? (double)delay / 1e6 : 0;

    snprintf(text, size, "%.*f", (int)digits_behind_point(seconds), seconds);
    if (!strchr(text, '.'))
        return;
    for (char *end = text + strlen(text) - 1; *end == '0' || *end == '.'; *end-- = '\0')
        if (*end == '.') {
            *end = '\0';
            break;
        }
}
