/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/sandbox_internal.h: the kernel's two filters, for lib/run/sandbox.c only. */
#ifndef LIB_RUN_SANDBOX_INTERNAL_H
#define LIB_RUN_SANDBOX_INTERNAL_H

#include "lib/run/sandbox.h"

/* *level gets what the kernel offers (its version of Landlock), 0 if it has none: then nothing is restricted. */
int sandbox_landlock(const struct sandbox *, int *level, struct err *) MUST_USE;

/* Compiles a filter, so that sandbox_seccomp() only loads it; also in processes that are forked later. */
int sandbox_seccomp_compile(unsigned calls, struct err *) MUST_USE;

/* Loads the filter that allows the sets of sandbox->calls, for all threads. */
int sandbox_seccomp(unsigned calls, struct err *) MUST_USE;

#endif
