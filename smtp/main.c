/* SPDX-License-Identifier: Apache-2.0 */
/* smtp(8): delivers mail by SMTP, and by LMTP when it is started as lmtp. */
#include <stdint.h>
#include <string.h>

#include "lib/mail/agent.h"
#include "lib/service/service.h"
#include "smtp/cache.h"
#include "smtp/client.h"
#include "smtp/deliver.h"

static struct client client;
static bool is_lmtp;

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    (void)sandbox;
    /* It is ours alone, and nobody has asked it for smtp_ parameters yet. */
    return client_prepare(&client, (struct conf *)(uintptr_t)conf, is_lmtp, err);
}

static void may_wait
deliver_one(struct delivery *d)
{
    service_report_load(agent_active());
    deliver(&client, d);
    service_report_load(agent_active() - 1);
}

static int
start(struct err *err)
{
    const struct agent agent = {.deliver = deliver_one, .filter = client.filter, .verifies = true};

    (void)err;
    client_start(&client);
    agent_init(&agent);
    return 0;
}

static void may_wait
drain(void)
{
    cache_drain(client.cache);
}

int
main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    struct service service = {
        .program = "smtp",
        .prepare = prepare,
        .start = start,
        .serve = agent_serve,
        .drain = drain,
        .many_workers = true,
        .delivers = true,
        .sandbox = {.calls = SANDBOX_BASE | SANDBOX_CONNECT | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_CONTENT},
    };

    is_lmtp = strcmp(slash ? slash + 1 : argv[0], "lmtp") == 0;
    if (is_lmtp)
        service.program = "lmtp";
    return service_main(argc, argv, &service);
}
