/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/log_events.h: a function for each row of log_events.def, which logs that event as one line. */
#ifndef LIB_MAIL_LOG_EVENTS_H
#define LIB_MAIL_LOG_EVENTS_H

#include "lib/base/log.h"
#include "lib/base/slice.h"
#include "lib/run/stream.h"

#define LOG_VALUES(...) , ##__VA_ARGS__
#define EVENT(function, form, parameters, values) \
    static inline void function parameters        \
    {                                             \
        log_info(form LOG_VALUES values);         \
    }
/* clang-format off */
#include "lib/mail/log_events.def"
/* clang-format on */
#undef EVENT
#undef LOG_VALUES

#endif
