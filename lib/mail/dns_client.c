/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/dns_client.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/run/link.h"

struct dns_client {
    struct link *link;
};

struct dns_client *
dns_client_new(const char *path)
{
    struct dns_client *client = calloc(1, sizeof *client);

    if (!client)
        fatal("out of memory");
    client->link = link_connect(path, NULL, 0, NULL, NULL);
    return client;
}

void
dns_client_free(struct dns_client **client)
{
    if (!*client)
        return;
    link_free(&(*client)->link);
    free(*client);
    *client = NULL;
}

int may_wait
dns_lookup(struct dns_client *client, struct arena *arena, const char *name, const char *type, usec_t deadline,
           struct msg_dns_answer *answer, struct err *err)
{
    struct msg_dns_query query = {.name = name, .type = type};
    struct link_message reply;

    if (strlen(name) > 255) {
        *answer = (struct msg_dns_answer){.status = DNS_INVALID, .reason = "name too long"};
        return 0;
    }
    if (link_call(client->link, arena, &type_dns_query, &query, slice_make(NULL, 0), NULL, 0, &type_dns_answer, &reply,
                  deadline, err) < 0)
        return err_context(err, "resolver");
    *answer = *(const struct msg_dns_answer *)reply.message;
    return 0;
}
