/* SPDX-License-Identifier: Apache-2.0 */
/* anvil: counts what clients do, for the limits of smtpd. */
#include "anvil/anvil.h"
#include "lib/base/log.h"
#include "lib/conf/settings_anvil.h"
#include "lib/mail/log_events.h"
#include "lib/mail/messages.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"

static struct {
    struct anvil_settings settings;
    struct anvil *counts;
    struct loop_timer expire_timer, report_timer;
} daemon_state;

static void
answer(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_anvil *asked = in->message;
    struct msg_anvil_count reply = {0};
    const char *client = arena_printf(link_request_arena(request), "%s:%s", asked->service, asked->client);
    enum anvil_event event = anvil_event(asked->event);

    link_close_fds(in);
    if (event == ANVIL_UNKNOWN) {
        log_warning("unknown event: %s", asked->event);
    } else {
        struct anvil_count counted =
            anvil_count(ctx, client, event, asked->amount > 0 ? asked->amount : 1, loop_now_wall());

        reply.count = counted.count;
        reply.rate = counted.rate;
    }
    if (!link_request_is_oneway(request))
        link_reply(request, &type_anvil_count, &reply, (struct slice){0}, NULL, 0);
}

static const struct link_handler handlers[] = {{&type_anvil, false, answer}};

static void
on_closed(void *ctx, struct link *link)
{
    struct anvil_reporter *reporter = ctx;

    (void)link;
    anvil_reporter_free(&reporter);
}

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    struct anvil_reporter *reporter = anvil_reporter_new(daemon_state.counts);

    (void)peer;
    (void)socket;
    if (!link_accept(fd, handlers, ARRAY_LEN(handlers), reporter, on_closed))
        anvil_reporter_free(&reporter);
}

static void
log_statistic(void *ctx, const char *text)
{
    (void)ctx;
    log_statistics(text);
}

static void
report(void *arg)
{
    (void)arg;
    anvil_report(daemon_state.counts, log_statistic, NULL);
    loop_timer_set(&daemon_state.report_timer, loop_now() + daemon_state.settings.anvil_status_update_time, report,
                   NULL);
}

static void
expire(void *arg)
{
    (void)arg;
    anvil_expire(daemon_state.counts, loop_now_wall());
    loop_timer_set(&daemon_state.expire_timer, loop_now() + daemon_state.settings.anvil_rate_time_unit, expire, NULL);
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    (void)sandbox;
    return anvil_settings_load(&daemon_state.settings, conf, service_arena(), err);
}

static int
start(struct err *err)
{
    const struct anvil_settings *s = &daemon_state.settings;

    (void)err;
    daemon_state.counts = anvil_new(s->anvil_rate_time_unit);
    loop_timer_set(&daemon_state.expire_timer, loop_now() + s->anvil_rate_time_unit, expire, NULL);
    if (s->anvil_status_update_time > 0)
        loop_timer_set(&daemon_state.report_timer, loop_now() + s->anvil_status_update_time, report, NULL);
    return 0;
}

static void
drain(void)
{
    anvil_report(daemon_state.counts, log_statistic, NULL);
}

static const struct service anvil_service = {
    .program = "anvil",
    .prepare = prepare,
    .start = start,
    .serve = serve,
    .drain = drain,
    .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS},
};

int
main(int argc, char **argv)
{
    return service_main(argc, argv, &anvil_service);
}
