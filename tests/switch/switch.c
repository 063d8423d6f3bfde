/* SPDX-License-Identifier: Apache-2.0 */
/* The task switch alone, with neither loop nor libraries, so that it can be cross-compiled and run in an emulator:
 * tests/switch/run builds it for every processor there is assembly for, and once with the portable switch.
 * Several stacks hand control around; each keeps values in as many registers as the compiler will give it (integers and
 * floating point, more than the callee-saved ones), and each must find them again. */
#include "lib/run/task_switch.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/check.h"

enum { STACKS = 5, ROUNDS = 20000, STACK_SIZE = 64 * 1024 };

static void *main_context;
static void *contexts[STACKS];
static unsigned long turns[STACKS];
static unsigned current;
static _Alignas(64) char stacks[STACKS][STACK_SIZE];

void
panic(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static void
hand_over(unsigned from)
{
    current = (from + 1) % STACKS;
    task_switch(&contexts[from], current == 0 ? main_context : contexts[current]);
}

static void
body(void)
{
    unsigned self = current;
    uint64_t a = self, b = self * 3, c = self * 5, d = self * 7, e = self * 11, f = self * 13, g = self * 17;
    uint64_t h = self * 19, i = self * 23, j = self * 29, k = self * 31, l = self * 37;
    double p = self * 0.5, q = self * 0.25, r = self * 1.5, s = self * 2.5, t = self * 3.5, u = self * 4.5;
    double v = self * 5.5, w = self * 6.5, x = self * 7.5;

    check(((uintptr_t)__builtin_frame_address(0) & 15) == 0);
    for (unsigned long n = 0;; n++) {
        char local[64];

        snprintf(local, sizeof(local), "%u/%lu/%.1f", self, n, p + (double)n); /* wants an aligned stack */
        hand_over(self);
        a++, b++, c++, d++, e++, f++, g++, h++, i++, j++, k++, l++;
        p += 1, q += 1, r += 1, s += 1, t += 1, u += 1, v += 1, w += 1, x += 1;
        turns[self]++;
        check(current == self && local[0] == (char)('0' + self));
        check(a == self + n + 1 && b == self * 3 + n + 1 && c == self * 5 + n + 1 && d == self * 7 + n + 1);
        check(e == self * 11 + n + 1 && f == self * 13 + n + 1 && g == self * 17 + n + 1 && h == self * 19 + n + 1);
        check(i == self * 23 + n + 1 && j == self * 29 + n + 1 && k == self * 31 + n + 1 && l == self * 37 + n + 1);
        check(p == self * 0.5 + (double)n + 1 && q == self * 0.25 + (double)n + 1 && r == self * 1.5 + (double)n + 1);
        check(s == self * 2.5 + (double)n + 1 && t == self * 3.5 + (double)n + 1 && u == self * 4.5 + (double)n + 1);
        check(v == self * 5.5 + (double)n + 1 && w == self * 6.5 + (double)n + 1 && x == self * 7.5 + (double)n + 1);
    }
}

int
main(void)
{
    for (unsigned n = 1; n < STACKS; n++)
        contexts[n] = task_switch_prepare(stacks[n], stacks[n] + STACK_SIZE, body);
    for (unsigned round = 0; round < ROUNDS; round++) {
        current = 1;
        task_switch(&main_context, contexts[1]);
        check(current == 0);
    }
    for (unsigned n = 1; n < STACKS; n++)
        check(turns[n] == ROUNDS - 1);
    puts("ok");
    return 0;
}
