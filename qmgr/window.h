/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/window.h: how many requests a destination gets at a time: it grows with successes and shrinks with failures. */
#ifndef QMGR_WINDOW_H
#define QMGR_WINDOW_H

#include <stdbool.h>

#include "lib/base/err.h"

/* How much a success or a failure counts: factor, divided by the window or by its square root. */
struct window_feedback {
    double factor;
    enum { FEEDBACK_FIXED, FEEDBACK_BY_CONCURRENCY, FEEDBACK_BY_SQRT_CONCURRENCY } scale;
};

/* "1", "0.5", "1/concurrency", "1 / sqrt_concurrency": as ..._destination_concurrency_..._feedback are written. */
int window_feedback_parse(const char *text, struct window_feedback *, struct err *) MUST_USE;

struct window_limits {
    unsigned initial; /* at least 1 */
    unsigned limit;   /* 0: none */
    struct window_feedback positive, negative;
    double failed_cohort_limit; /* 0: a destination is never called dead */
};

/* By value. size is 0 while the destination is dead. */
struct window {
    unsigned size;
    double success, failure, failed_cohorts;
};

void window_init(struct window *, const struct window_limits *);

/* busy: requests under way, the one that ended included. The window grows only if it is used. */
void window_succeeded(struct window *, const struct window_limits *, unsigned busy);

/* The destination takes less than it gets: the window shrinks, never below 1. */
void window_shrink(struct window *, const struct window_limits *);

/* A request that did not reach the destination. When failed_cohort_limit cohorts (windows full of requests) failed
 * without a success between them, it is dead: size is 0, and true is returned. */
bool window_failed(struct window *, const struct window_limits *);

#endif
