/* SPDX-License-Identifier: Apache-2.0 */
/* Replies of a server, line by line, as many as there are. What comes out is bounded and printable, the code is one, the
 * enhanced code fits it; and what a reply announces is read without harm. */
#include <stdint.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/check.h"
#include "lib/smtp/client_reply.h"
#include "smtp/features.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_reply(struct arena *arena, const struct client_reply *reply)
{
    const char *joined = client_reply_joined(reply, arena), *rest = reply->text;
    struct slice line;
    unsigned lines = 0;
    int64_t limit;

    check(reply->code >= 200 && reply->code <= 599);
    check(strlen(reply->dsn) >= 5 && reply->dsn[1] == '.');
    check(reply->lines > 1 || reply->dsn[0] - '0' == reply->code / 100);
    check(strlen(joined) <= CLIENT_REPLY_TEXT);
    for (const char *p = joined; *p; p++)
        check((unsigned char)*p >= 32 && *p != 127);
    while (client_reply_next_line(&rest, &line))
        check(++lines <= CLIENT_REPLY_LINES);
    features_parse(reply->text, &limit);
    check(limit >= 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct slice rest = slice_make(data, size), line;
    struct client_reply reply = {.code = 0};
    struct err err;
    int result = 0;

    while (result >= 0 && slice_cut(&rest, '\n', &line)) {
        if (line.len > 0 && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (line.len > CLIENT_REPLY_LINE)
            line.len = CLIENT_REPLY_LINE;
        result = client_reply_line(&reply, arena, line, &err);
        if (result == 1) {
            check_reply(arena, &reply);
            reply = (struct client_reply){.code = 0};
        }
    }
    arena_free(&arena);
    return 0;
}
