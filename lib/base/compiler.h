/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/compiler.h: what the compiler is told about functions, in words a reader understands. */
#ifndef LIB_BASE_COMPILER_H
#define LIB_BASE_COMPILER_H

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define MUST_USE               __attribute__((warn_unused_result))
#define NORETURN               __attribute__((noreturn))

/* Marks a function in which the running task may wait, so that other tasks run meanwhile: shared state must be looked
 * up again afterwards. A word for the reader; task_wait() enforces the rule at run time (see lib/run/task.h: pins). */
#define may_wait

#define ARRAY_LEN(a) (sizeof(a) / sizeof(*(a)))

/* The struct of the given type whose member is at ptr. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
