/* SPDX-License-Identifier: Apache-2.0 */
/* pipe(8): delivery to outside commands. See pipe/pipe.h. */
#include <inttypes.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/conf/environment.h"
#include "lib/mail/addr.h"
#include "lib/mail/run_command.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"
#include "pipe/pipe.h"

static struct {
    struct pipe_settings settings;
    const struct maps *filter; /* pipe_delivery_status_filter */
    struct pipe_attributes attributes;
    char **env;
    usec_t time_limit;
    unsigned running; /* commands; no more than master.cf's maxproc */
    struct task_cond ended;
} state;

/* ---- results ---- */

static struct delivery_status
status_of(const struct delivery *d, const char *dsn, const char *reason, const char *diagnostic)
{
    char *code = arena_strdup(d->arena, dsn);
    int result = dsn[0] == '2' ? DELIVERED_SENT : dsn[0] == '5' ? DELIVERED_BOUNCED : DELIVERED_DEFERRED;

    if (result == DELIVERED_BOUNCED && state.settings.soft_bounce) {
        result = DELIVERED_DEFERRED;
        code[0] = '4';
    }
    return (struct delivery_status){
        .result = result,
        .dsn = code,
        .reason = reason,
        .relay = d->request->transport,
        .diag_type = *diagnostic ? "x-unix" : NULL,
        .diag_text = *diagnostic ? diagnostic : NULL,
        .action = result == DELIVERED_SENT && (state.attributes.flags & PIPE_FINAL) ? "delivered" : NULL};
}

static void
finish(struct delivery *d, const char *dsn, const char *reason, const char *diagnostic)
{
    struct delivery_status status = status_of(d, dsn, reason, diagnostic);

    delivery_result_rest(d, &status);
}

static void
finish_command(struct delivery *d, const char *command, const struct exec_end *end)
{
    struct run_command_end what = {command, end->status, end->timed_out, end->output};
    struct run_command_verdict *verdict = ARENA_NEW(d->arena, struct run_command_verdict);
    const char *reason = verdict->text;

    run_command_judge(&what, verdict);
    if (verdict->dsn[0] == '2')
        reason = arena_printf(d->arena, "delivered via %s service%s%s%s", d->request->transport,
                              *verdict->text ? " (" : "", verdict->text, *verdict->text ? ")" : "");
    finish(d, verdict->dsn, reason, verdict->diag);
}

/* ---- before the command ---- */

/* What is known without running it. True: the recipients have their result. */
static bool
decide(struct delivery *d)
{
    const struct pipe_attributes *a = &state.attributes;
    const struct msg_deliver *request = d->request;
    struct err err;

    if (a->size_limit && request->size > a->size_limit) {
        finish(d, "5.2.3",
               arena_printf(d->arena, "message size %" PRId64 " exceeds size limit %" PRId64 " for %s", request->size,
                            a->size_limit, request->nexthop),
               "");
        return true;
    }
    if ((a->flags & (PIPE_DELIVERED_TO | PIPE_ORIGINAL_TO)) && request->recipient_count > 1) {
        log_warning("pipe flag `%c' requires %s_destination_recipient_limit = 1",
                    a->flags & PIPE_DELIVERED_TO ? 'D' : 'O', request->transport);
        finish(d, "4.3.5", "mail system configuration error", "");
        return true;
    }
    if (a->flags & PIPE_DELIVERED_TO) {
        const char *address = addr_quote(d->arena, request->recipients[0].address);
        bool found;

        if (pipe_content_is_loop(d, address, &found, &err) < 0)
            finish(d, "4.3.0", err.text, "");
        else if (found)
            finish(d, "5.4.6", arena_printf(d->arena, "mail forwarding loop for %s", address), "");
        else
            return false;
        return true;
    }
    return false;
}

/* Recipients whose arguments would be options get their result; the others don't suffer. True: some are left. */
static bool
sort_out(struct delivery *d)
{
    bool left = false;

    for (unsigned i = 0; i < d->request->recipient_count; i++) {
        const char *dsn = "5.3.0";
        struct delivery_status status;
        struct err err;

        if (pipe_check_recipient(&state.attributes, &state.settings, d, i, &dsn, &err) == 0) {
            left = true;
            continue;
        }
        status = status_of(d, dsn, err.text, "");
        delivery_result(d, i, &status);
    }
    return left;
}

/* ---- a delivery ---- */

static void may_wait
run(struct delivery *d)
{
    struct pipe_content content = {.attributes = &state.attributes, .delivery = d};
    struct exec_job job = {
        .env = state.env, .time_limit = state.time_limit, .feed = pipe_content_feed, .ctx = &content};
    struct exec_end *end = arena_alloc(d->arena, sizeof *end);
    const char *dsn = "5.3.0";
    char **argv;
    struct err err;

    if (pipe_arguments(&state.attributes, &state.settings, d, &argv, &dsn, &err) < 0) {
        finish(d, dsn, err.text, "");
        return;
    }
    job.argv = argv;
    d->connected = loop_now_wall();
    if (exec_run(&job, end, &err) < 0) {
        log_warning("%s: %s: %s", d->request->queue_id, argv[0], err.text);
        finish(d, "4.3.0", err.text, "");
        return;
    }
    finish_command(d, argv[0], end);
}

static void may_wait
deliver(struct delivery *d)
{
    struct err err;

    while (state.running >= service_process_limit())
        if (task_wait(&state.ended, NO_DEADLINE, &err) < 0)
            return;
    state.running++;
    service_report_load(state.running);
    if (!decide(d) && sort_out(d))
        run(d);
    state.running--;
    service_report_load(state.running);
    task_wake_one(&state.ended);
}

/* ---- the service ---- */

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    struct arena *arena = service_arena();
    const struct pipe_attributes *a = &state.attributes;

    if (pipe_settings_load(&state.settings, conf, arena, err) < 0 ||
        pipe_attributes_parse(service_args(), &state.settings, arena, &state.attributes, err) < 0 ||
        exec_time_limit(conf, service_name(), &state.time_limit, err) < 0)
        return -1;
    state.env = environment_export(conf, arena, err);
    state.filter = delivery_filter_new(arena, conf, "pipe_delivery_status_filter",
                                       state.settings.pipe_delivery_status_filter, err);
    if (!state.env || !state.filter)
        return -1;
    if (exec_prepare(&a->who, a->chroot_dir, a->directory, "pipe", err) < 0)
        return -1;
    sandbox->user = state.settings.mail_owner;
    return 0;
}

static int
start(struct err *err)
{
    const struct agent agent = {.deliver = deliver, .filter = state.filter};

    (void)err;
    exec_start();
    agent_init(&agent);
    return 0;
}

int
main(int argc, char **argv)
{
    static const struct service service = {
        .program = "pipe",
        .prepare = prepare,
        .start = start,
        .serve = agent_serve,
        .overlaps = true,
        .delivers = true,
        .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_UNIX | SANDBOX_FDPASS |
                             SANDBOX_HELPERS | SANDBOX_CONTENT},
    };

    return service_main(argc, argv, &service);
}
