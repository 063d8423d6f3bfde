/* SPDX-License-Identifier: Apache-2.0 */
/* imap/settings.h: the settings of the session program, which do not change while it runs. */
#ifndef IMAP_SETTINGS_H
#define IMAP_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/clock.h"

struct imap_session_settings {
    usec_t idle_timeout;
    usec_t park_time;       /* an idle session is parked after it; 0: never */
    bool search_index;      /* texts are looked for by the full-text index */
    usec_t progress_time;   /* a search that takes longer tells how far it is; 0: never */
    int64_t command_limit;  /* bytes of a command without its streamed literals */
    unsigned session_limit; /* at once, of a user */
    uint64_t append_limit;  /* bytes of a message; 0: none */
};

extern struct imap_session_settings settings;

#endif
