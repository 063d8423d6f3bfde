/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/window.h"

#include <stdlib.h>

#include "lib/base/slice.h"

int
window_feedback_parse(const char *text, struct window_feedback *feedback, struct err *err)
{
    char *end;
    struct slice rest;

    feedback->factor = strtod(text, &end);
    feedback->scale = FEEDBACK_FIXED;
    rest = slice_trim(slice_from(end));
    if (end == text || !(feedback->factor >= 0) || feedback->factor > 1)
        return err_set(err, ERR_SYNTAX, "bad feedback: \"%s\"", text);
    if (rest.len == 0)
        return 0;
    if (*rest.ptr == '/') {
        rest = slice_trim(slice_make(rest.ptr + 1, rest.len - 1));
        if (slice_equal_text(rest, "concurrency")) {
            feedback->scale = FEEDBACK_BY_CONCURRENCY;
            return 0;
        }
        if (slice_equal_text(rest, "sqrt_concurrency")) {
            feedback->scale = FEEDBACK_BY_SQRT_CONCURRENCY;
            return 0;
        }
    }
    return err_set(err, ERR_SYNTAX, "bad feedback: \"%s\"", text);
}

/* Newton's way; the mathematical library is 300 KiB in memory. */
static double
square_root(double n)
{
    double root = n > 1 ? n : 1;

    while (root * root - n > 1e-9 * n)
        root = (root + n / root) / 2;
    return root;
}

static double
amount(const struct window_feedback *feedback, unsigned size)
{
    if (feedback->scale == FEEDBACK_BY_CONCURRENCY)
        return feedback->factor / size;
    if (feedback->scale == FEEDBACK_BY_SQRT_CONCURRENCY)
        return feedback->factor / square_root(size);
    return feedback->factor;
}

void
window_init(struct window *window, const struct window_limits *limits)
{
    *window = (struct window){.size = limits->initial > 0 ? limits->initial : 1};
    if (limits->limit && window->size > limits->limit)
        window->size = limits->limit;
}

void
window_succeeded(struct window *window, const struct window_limits *limits, unsigned busy)
{
    double step;

    if (window->size == 0) {
        window_init(window, limits);
        return;
    }
    window->failed_cohorts = 0;
    if ((limits->limit && window->size >= limits->limit) || window->size >= busy + limits->initial)
        return;
    step = amount(&limits->positive, window->size);
    window->success += step;
    /* Half a step of tolerance, since fractions don't add up to 1 exactly. */
    if (window->success + step / 2 >= 1) {
        window->size++;
        window->success = window->success > 1 ? window->success - 1 : 0;
        window->failure = 0;
    }
}

void
window_shrink(struct window *window, const struct window_limits *limits)
{
    double step;

    if (window->size <= 1)
        return;
    step = amount(&limits->negative, window->size);
    window->failure += step;
    if (window->failure + step / 2 >= 1) {
        window->size--;
        window->failure = window->failure > 1 ? window->failure - 1 : 0;
        window->success = 0;
    }
}

bool
window_failed(struct window *window, const struct window_limits *limits)
{
    if (window->size == 0)
        return false;
    if (limits->failed_cohort_limit > 0) {
        window->failed_cohorts += 1.0 / window->size;
        if (window->failed_cohorts > limits->failed_cohort_limit - 0.001) {
            window->size = 0;
            return true;
        }
    }
    window_shrink(window, limits);
    return false;
}
