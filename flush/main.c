/* SPDX-License-Identifier: Apache-2.0 */
/* flush(8): lists of deferred mail by destination, so that what waits for one site can be tried at once (ETRN, sendmail -qR). qmgr
 * says what it has deferred, smtpd asks by a call, postqueue by a trigger: "S" and the site, or "I" and a queue id, and a
 * newline. Work on files is done in a pool of one thread, so in one order. See site_log.h for the lists. */
#include <string.h>

#include "flush/site_log.h"
#include "lib/base/log.h"
#include "lib/conf/settings_flush.h"
#include "lib/mail/addr.h"
#include "lib/mail/messages.h"
#include "lib/mail/queue_id.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/service/service.h"
#include "lib/table/match_list.h"

#define QMGR_TIME SECONDS(10)

static struct flush_settings settings;
static struct queue_dir dir;
static struct match_list *eligible;
static struct link *qmgr;

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    (void)sandbox;
    if (flush_settings_load(&settings, conf, service_arena(), err) < 0 ||
        queue_dir_open(&dir, ".", conf, service_arena(), err) < 0)
        return -1;
    eligible = match_list_new(service_arena(), conf, "fast_flush_domains", settings.fast_flush_domains,
                              match_list_flags(settings.parent_domain_matches_subdomains, "fast_flush_domains"), err);
    return eligible ? 0 : -1;
}

static int
start(struct err *err)
{
    (void)err;
    pool_set_threads(1);
    qmgr = link_connect(service_socket_path(arena_printf(service_arena(), "public/%s", settings.queue_service_name)),
                        NULL, 0, NULL, NULL);
    return 0;
}

/* ---- work on files, in the thread ---- */

struct job {
    enum { JOB_NOTE, JOB_SITE, JOB_MESSAGE, JOB_REFRESH } kind;
    struct slice site;
    const char *queue_id;
    int64_t now;
    struct site_log_outcome outcome;
};

static void
run(void *arg)
{
    struct job *job = arg;

    switch (job->kind) {
    case JOB_NOTE: site_log_add(&dir, job->site, job->queue_id, &job->outcome); break;
    case JOB_SITE: site_log_send(&dir, job->site, &job->outcome); break;
    case JOB_MESSAGE: site_log_send_message(&dir, job->queue_id, &job->outcome); break;
    case JOB_REFRESH:
        site_log_refresh(&dir, job->now, settings.fast_flush_refresh_time / SECONDS(1),
                         settings.fast_flush_purge_time / SECONDS(1), &job->outcome);
        break;
    }
}

/* What was moved is in incoming/, and would be found there with the next queue run. */
static void may_wait
tell_qmgr(void)
{
    const struct msg_queue_control control = {.command = "incoming", .queue_id = ""};
    struct arena *arena = arena_new();
    struct link_message reply;
    struct err err;

    if (link_call(qmgr, arena, &type_queue_control, &control, slice_make(NULL, 0), NULL, 0, &type_queue_list, &reply,
                  loop_now() + QMGR_TIME, &err) < 0)
        log_warning("queue manager: %s", err.text);
    else
        link_close_fds(&reply);
    arena_free(&arena);
}

static void may_wait
do_job(struct job *job)
{
    task_run_blocking(run, job);
    if (job->outcome.failed > 0)
        log_warning("%s (%u files in all)", job->outcome.err.text, job->outcome.failed);
    if (job->outcome.moved > 0)
        tell_qmgr();
}

/* -1: that can't be told, also in the log. */
static int may_wait
is_eligible(struct slice site, bool *yes)
{
    struct err err;

    if (match_list_domain(eligible, site, yes, &err) == 0)
        return 0;
    log_warning("fast_flush_domains: %s", err.text);
    return -1;
}

static int may_wait
send_site(struct slice site)
{
    struct job job = {.kind = JOB_SITE, .site = site};
    bool yes = false;

    if (is_eligible(site, &yes) < 0)
        return FLUSHED_FAILED;
    if (!yes)
        return FLUSHED_NOT_ELIGIBLE;
    do_job(&job);
    return job.outcome.failed > 0 ? FLUSHED_FAILED : FLUSHED_DONE;
}

/* ---- requests ---- */

static void
on_note(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_flush_note *note = in->message;

    (void)request;
    (void)ctx;
    link_close_fds(in);
    if (!queue_id_is_valid(slice_from(note->queue_id)))
        return;
    for (size_t i = 0; i < note->domain_count; i++) {
        struct slice domain = slice_from(note->domains[i].domain);
        struct job job = {.kind = JOB_NOTE, .site = domain, .queue_id = note->queue_id};
        bool yes = false;

        if (addr_is_site(domain) && is_eligible(domain, &yes) == 0 && yes)
            do_job(&job);
    }
}

static void
on_site(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_flush_site *wanted = in->message;
    struct msg_flushed answer = {0};

    (void)ctx;
    link_close_fds(in);
    answer.result = send_site(slice_from(wanted->site));
    link_reply(request, &type_flushed, &answer, slice_make(NULL, 0), NULL, 0);
}

/* A trigger, as a task of its own. */
struct trigger {
    struct arena *arena;
    char kind;
    struct slice argument;
};

static void
follow_trigger(void *arg)
{
    struct trigger *trigger = arg;
    struct job job = {.kind = JOB_REFRESH, .now = loop_now_wall() / SECONDS(1)};

    if (trigger->kind == 'S') {
        (void)send_site(trigger->argument);
    } else if (trigger->kind == 'W') {
        do_job(&job);
    } else if (queue_id_is_valid(trigger->argument)) {
        job.kind = JOB_MESSAGE;
        job.queue_id = trigger->argument.ptr;
        do_job(&job);
    }
    arena_free(&trigger->arena);
}

/* Whoever may use the directory public/ may write this: postqueue(1), and master, whose "W" comes from time to time. */
static void
on_trigger(void *ctx, const char *bytes, size_t len)
{
    struct arena *arena = arena_new();
    struct trigger *trigger = ARENA_NEW(arena, struct trigger);

    (void)ctx;
    trigger->arena = arena;
    trigger->kind = len > 0 ? bytes[0] : '\0';
    if (trigger->kind == 'S' || trigger->kind == 'I') {
        const char *end = memchr(bytes, '\n', len);
        size_t size = end ? (size_t)(end - bytes) - 1 : 0;
        trigger->argument = slice_make(arena_strndup(arena, bytes + 1, size), size);
    }
    if (trigger->kind == 'W' || trigger->argument.len > 0)
        task_spawn(service_tasks(), "trigger", follow_trigger, trigger);
    else
        arena_free(&arena);
}

static const struct link_handler handlers[] = {
    {.type = &type_flush_note, .task = true, .fn = on_note},
    {.type = &type_flush_site, .task = true, .fn = on_site},
};

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    (void)peer;
    (void)socket;
    link_accept_public(fd, handlers, ARRAY_LEN(handlers), NULL, NULL, on_trigger);
}

static const struct service flush_service = {
    .program = "flush",
    .prepare = prepare,
    .start = start,
    .serve = serve,
    .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_UNIX | SANDBOX_READ | SANDBOX_MOVE |
                         SANDBOX_QUEUE | SANDBOX_THREADS,
                .may_write_files = true,
                .write_paths = (const char *const[]){".", NULL}},
};

int
main(int argc, char **argv)
{
    return service_main(argc, argv, &flush_service);
}
