/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/task_switch.h"

#include <stdint.h>
#include <string.h>

#include "lib/base/check.h"

#ifdef POSTERN_PORTABLE_SWITCH

#include <ucontext.h>

void *
task_switch_prepare(char *low, char *high, void (*entry)(void))
{
    ucontext_t *context = (ucontext_t *)(void *)(((uintptr_t)high - sizeof(*context)) & ~(uintptr_t)63);
    check(getcontext(context) == 0);
    context->uc_stack.ss_sp = low;
    context->uc_stack.ss_size = (size_t)((char *)context - low);
    context->uc_link = NULL;
    makecontext(context, entry, 0);
    return context;
}

void
task_switch(void **save, void *to)
{
    ucontext_t here;
    *save = &here;
    check(swapcontext(&here, to) == 0);
}

#elif defined(__x86_64__)

/* What task_switch() pops: r15 r14 r13 r12 rbx rbp, then the address; above it a null return address, where unwinders
 * stop. A function begins with its stack pointer 8 below a multiple of 16. */
void *
task_switch_prepare(char *low, char *high, void (*entry)(void))
{
    uintptr_t top = (uintptr_t)high & ~(uintptr_t)15;
    uintptr_t *sp = (uintptr_t *)top - 8;
    check((char *)sp > low);
    memset(sp, 0, 8 * sizeof(*sp));
    sp[6] = (uintptr_t)entry;
    return sp;
}

#elif defined(__aarch64__)

/* What task_switch() loads: x19 to x30 (x30 is where it returns to), d8 to d15. */
void *
task_switch_prepare(char *low, char *high, void (*entry)(void))
{
    uintptr_t top = (uintptr_t)high & ~(uintptr_t)15;
    uintptr_t *sp = (uintptr_t *)top - 20;
    check((char *)sp > low);
    memset(sp, 0, 20 * sizeof(*sp));
    sp[11] = (uintptr_t)entry;
    return sp;
}

#endif
