/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/task_switch.h: from one stack to another, without a system call.
 *
 * x86-64 and aarch64: what the calling convention lets a callee keep goes onto the stack, and only the stack pointer is
 * stored. The floating point control words are not switched: nothing here changes them. Elsewhere, or configured with
 * --enable-portable-switch: swapcontext(), which also switches the signal mask, by a system call. */
#ifndef LIB_RUN_TASK_SWITCH_H
#define LIB_RUN_TASK_SWITCH_H

/* A stack between low and high on which the first switch calls entry(), which must never return. */
void *task_switch_prepare(char *low, char *high, void (*entry)(void));

/* Leaves the current stack, storing how to come back in *save, and goes on where `to` was stored. */
void task_switch(void **save, void *to);

#endif
