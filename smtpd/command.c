/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/command.h"

const struct command commands[COMMAND_COUNT] = {
#define CMD(verb, counter, handler, states, flags, syntax, misplaced) \
    {#verb, counter, handler, states, flags, syntax, misplaced},
#include "smtpd/commands.def"
#undef CMD
};

const struct command *
command_find(struct slice verb)
{
    for (unsigned i = 0; i < COMMAND_COUNT; i++)
        if (slice_equal_text_fold(verb, commands[i].verb))
            return &commands[i];
    return NULL;
}
