/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/failure.h"

#include <stdarg.h>

int
failure_set(struct failure *failure, struct arena *arena, const char *dsn, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    *failure = (struct failure){
        .is_permanent = dsn[0] == '5', .dsn = arena_strdup(arena, dsn), .reason = arena_vprintf(arena, fmt, args)};
    va_end(args);
    return -1;
}

/* The class of a refusal: what is neither 4xx nor 5xx makes no sense as one, and may make sense later. */
static const char *
refusal_dsn(struct arena *arena, const struct client_reply *reply)
{
    if (reply->dsn[0] == '4' || reply->dsn[0] == '5')
        return arena_strdup(arena, reply->dsn);
    return "4.5.0";
}

int
failure_reply(struct failure *failure, struct arena *arena, const char *host, const struct client_reply *reply,
              const char *command)
{
    const char *said = client_reply_joined(reply, arena);

    failure_set(failure, arena, refusal_dsn(arena, reply), "host %s said: %s (in reply to %s)", host, said, command);
    failure->diag_text = said;
    return -1;
}
