/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fuzz/fuzz_dialogue.h: a server of ours in this process, and a client that says what the fuzzer made up. */
#ifndef TESTS_FUZZ_FUZZ_DIALOGUE_H
#define TESTS_FUZZ_FUZZ_DIALOGUE_H

#include "lib/base/slice.h"

/* Runs the loop until serve((void *)(intptr_t)fd), as a task, has returned: it reads input from that descriptor, then the end, and
 * closes it. look: at each piece of what it writes; may be NULL. */
void fuzz_dialogue(void (*serve)(void *fd), struct slice input, void (*look)(struct slice));

#endif
