/* SPDX-License-Identifier: Apache-2.0 */
/* trivial-rewrite(8): rewrites addresses to their canonical form, and says where each goes. */
#include "lib/base/arena.h"
#include "lib/conf/interfaces.h"
#include "lib/mail/addr_form.h"
#include "lib/mail/messages.h"
#include "lib/mail/resolve.h"
#include "lib/service/service.h"

static struct rewrite_settings settings;
static struct routes *routes;

static void
on_resolve(struct link_request *request, struct link_message *in, void *ctx)
{
    (void)ctx;
    const struct msg_resolve *asked = in->message;
    struct arena *arena = link_request_arena(request);
    struct msg_resolved answer = {.answers = arena_array(arena, asked->query_count, sizeof *answer.answers),
                                  .answer_count = asked->query_count};

    for (size_t i = 0; i < asked->query_count; i++)
        resolve_address(arena, routes, asked->sender, asked->queries[i].address, &answer.answers[i]);
    link_reply(request, &type_resolved, &answer, slice_make(NULL, 0), NULL, 0);
}

static void
on_rewrite(struct link_request *request, struct link_message *in, void *ctx)
{
    (void)ctx;
    const struct msg_rewrite *asked = in->message;
    struct arena *arena = link_request_arena(request);
    bool complete = slice_equal_text(slice_from(asked->context), "local");
    struct msg_rewritten answer = {.answers = arena_array(arena, asked->query_count, sizeof *answer.answers),
                                   .answer_count = asked->query_count};

    for (size_t i = 0; i < asked->query_count; i++)
        answer.answers[i].address = address_canonical(arena, &settings, asked->queries[i].address, complete);
    link_reply(request, &type_rewritten, &answer, slice_make(NULL, 0), NULL, 0);
}

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    static const struct link_handler handlers[] = {
        {&type_resolve, true, on_resolve}, /* tables may make it wait */
        {&type_rewrite, false, on_rewrite},
    };
    (void)peer;
    (void)socket;
    link_accept(fd, handlers, ARRAY_LEN(handlers), NULL, NULL);
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    (void)sandbox;
    struct arena *arena = service_arena();
    static struct interfaces own, proxy;

    if (rewrite_settings_load(&settings, conf, arena, err) < 0 || interfaces_load(conf, arena, &own, err) < 0 ||
        interfaces_parse(conf, arena, settings.proxy_interfaces, &proxy, err) < 0 ||
        address_tell_old_default(conf, err) < 0)
        return -1;
    routes = routes_new(arena, conf, &settings, &own, &proxy, err);
    return routes ? 0 : -1;
}

int
main(int argc, char **argv)
{
    static const struct service service = {
        .program = "trivial-rewrite",
        .prepare = prepare,
        .serve = serve,
        .overlaps = true,
        .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_UNIX},
    };
    return service_main(argc, argv, &service);
}
