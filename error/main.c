/* SPDX-License-Identifier: Apache-2.0 */
/* error(8): the delivery agent for mail that is not to be delivered. As error it returns mail, as retry it keeps it for
 * later, as discard it throws it away; the next hop says why. Which one it is, the name of the service tells, or that of
 * the program. */
#include <stdio.h>
#include <string.h>

#include "lib/base/slice.h"
#include "lib/base/text.h"
#include "lib/conf/settings_error.h"
#include "lib/mail/agent.h"
#include "lib/service/service.h"

enum { DSN_LENGTH = 12 };

/* What is done with mail. */
struct manner {
    int result;
    char dsn[DSN_LENGTH]; /* where the next hop names none */
};

static const struct manner bounce = {DELIVERED_BOUNCED, "5.0.0"}, defer = {DELIVERED_DEFERRED, "4.0.0"},
                           discard = {DELIVERED_DISCARDED, "2.0.0"};
static struct manner manner;
static struct error_settings settings;
static const char *program;

/* The next hop is "text" or "D.S.N text": a status of the class that fits is taken over. Returns the text. */
static const char *
split_status(const char *nexthop, char *dsn)
{
    nexthop += strspn(nexthop, " \t");
    size_t len = strcspn(nexthop, " \t");
    unsigned dots = 0;

    if (len < 5 || len >= DSN_LENGTH || !strchr("245", nexthop[0]) || nexthop[1] != '.')
        return nexthop;
    for (size_t i = 0; i < len; i++) {
        dots += nexthop[i] == '.';
        if (nexthop[i] != '.' && !text_is_digit(nexthop[i]))
            return nexthop;
    }
    if (dots != 2 || nexthop[len - 1] == '.')
        return nexthop;
    snprintf(dsn, DSN_LENGTH, "%c%.*s", dsn[0], (int)len - 1, nexthop + 1);
    return nexthop + len + strspn(nexthop + len, " \t");
}

static void
deliver(struct delivery *d)
{
    struct manner how = manner;
    const char *reason = split_status(d->request->nexthop, how.dsn);

    if (how.result == DELIVERED_BOUNCED && settings.soft_bounce) {
        how.result = DELIVERED_DEFERRED;
        how.dsn[0] = '4';
    }
    delivery_result_rest(
        d, &(struct delivery_status){.result = how.result, .dsn = how.dsn, .reason = reason, .relay = "none"});
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    (void)sandbox;
    /* Settings live as long as the process. */
    return error_settings_load(&settings, conf, arena_new(), err);
}

static int
start(struct err *err)
{
    static const struct agent agent = {.deliver = deliver, .verifies = true};
    const char *name = service_name();

    (void)err;
    if (strcmp(name, "retry") == 0)
        manner = defer;
    else
        manner = strcmp(program, "discard") == 0 || strcmp(name, "discard") == 0 ? discard : bounce;
    agent_init(&agent);
    return 0;
}

int
main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    const struct service service = {
        .program = strcmp(slash ? slash + 1 : argv[0], "discard") == 0 ? "discard" : "error",
        .prepare = prepare,
        .start = start,
        .serve = agent_serve,
        .many_workers = true,
        .delivers = true,
        .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_UNIX | SANDBOX_CONTENT},
    };

    program = service.program;
    return service_main(argc, argv, &service);
}
