/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of an IMAP client, token by token: the first byte says which tokens are asked for, the rest is what the client sends. All that is
 * given lies within its limits, and what follows a bad command is still read. */
#include <stdint.h>
#include <unistd.h>

#include "imap/metadata.h"
#include "imap/partial.h"
#include "imap/url.h"
#include "lib/base/check.h"
#include "lib/imap/input.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "tests/fuzz/fuzz_dialogue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { COMMANDS = 50, TOKENS = 200, LIMIT = 2000 };

static unsigned choice;

static int
take_token(struct imap_input *in, unsigned which)
{
    struct slice text = {"", 0};
    struct partial partial = {0};
    struct imap_set set;
    const char *atom;
    uint64_t number;
    int64_t when;
    bool nil;
    switch (which % 10) {
    case 0: return imap_atom(in, &atom);
    case 1: return imap_astring(in, &text);
    case 2: return imap_nstring(in, &text, &nil);
    case 3: return imap_flag(in, &text);
    case 4: return imap_date(in, &when);
    case 5: return imap_date_time(in, &when);
    case 6: return imap_number(in, 1000, &number) < 0 || number > 1000 ? -1 : 0;
    case 7: return imap_list_mailbox(in, &text);
    case 8: return partial_take(in, &partial);
    default:
        if (imap_set(in, &set) < 0)
            return -1;
        imap_set_resolve(&set, 77);
        for (size_t i = 0; i < set.count; i++)
            check(set.ranges[i].from <= set.ranges[i].to && (i == 0 || set.ranges[i - 1].to < set.ranges[i].from));
        return 0;
    }
}

static void
take_command(struct imap_input *in)
{
    const char *tag, *verb;
    if (imap_command_begin(in, &tag, &verb) == 0) {
        for (unsigned i = 0; i < TOKENS && imap_space(in) == 0; i++)
            if (take_token(in, choice + i) < 0)
                break;
        if (imap_end(in) == 0)
            return;
    }
    if (in->err.kind == ERR_SYNTAX)
        imap_skip_rest(in);
}

static void
serve(void *arg)
{
    struct arena *arena = arena_new();
    struct imap_input in = {.stream = stream_new((int)(intptr_t)arg), .arena = arena, .limit = LIMIT};
    stream_set_deadline(in.stream, loop_now() + SECONDS(20));
    for (unsigned i = 0; i < COMMANDS && in.err.kind != ERR_CLOSED && in.err.kind != ERR_TIMEOUT; i++) {
        take_command(&in);
        arena_reset(arena);
    }
    stream_free(&in.stream);
    arena_free(&arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    struct arena *arena = arena_new();
    struct metadata metadata;
    struct imap_url url;
    struct slice name;
    if (!ready)
        loop_init();
    ready = true;
    choice = size ? data[0] : 0;
    struct slice input = size ? slice_make((const char *)data + 1, size - 1) : slice_make("", 0);
    if (imap_url_parse(arena, input, &url))
        check(url.uid > 0 && url.length > 0);
    metadata_parse(arena, input, &metadata);
    check(metadata.count <= METADATA_ENTRIES);
    if (metadata_name(arena, input, &name))
        check(name.len <= METADATA_NAME);
    arena_free(&arena);
    fuzz_dialogue(serve, input, NULL);
    return 0;
}
