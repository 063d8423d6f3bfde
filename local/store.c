/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/addr.h"
#include "lib/run/loop.h"
#include "local/local.h"

#define CALL_TIME SECONDS(3600)

const struct rights *
rights_of(const struct step *step)
{
    return step->rights.uid ? &step->rights : &local.default_rights;
}

/* ---- what a message gets in front ---- */

static void
put_header(struct buf *out, struct arena *arena, const char *name, const char *before, const char *address,
           const char *after)
{
    char *clean = arena_strdup(arena, addr_quote(arena, address));

    text_printable(clean, strlen(clean), '?', true);
    buf_printf(out, "%s: %s%s%s\n", name, before, clean, after);
}

static const char *
headers(struct job *job, const struct step *step, unsigned context)
{
    struct buf out = {0};
    const char *text;

    put_header(&out, job->arena, "Return-Path", "<", step->sender, ">");
    if (local.s.enable_original_recipient && *step->original)
        put_header(&out, job->arena, "X-Original-To", "", step->original, "");
    if (local.delivered_mask & context)
        put_header(&out, job->arena, "Delivered-To", "", step->delivered, "");
    text = arena_strdup(job->arena, buf_text(&out));
    buf_release(&out);
    return text;
}

struct msg_user_job
store_job(struct job *job, const struct step *step, int work, const char *path, unsigned context)
{
    const struct local_settings *s = &local.s;

    return (struct msg_user_job){.work = work,
                                 .path = path,
                                 .sender = addr_quote(job->arena, step->sender),
                                 .head = context ? headers(job, step, context) : "",
                                 .size = job->d->request->size,
                                 .limit = s->mailbox_size_limit,
                                 .locks = local.locks,
                                 .lock_attempts = s->deliver_lock_attempts,
                                 .lock_delay = s->deliver_lock_delay,
                                 .lock_stale = s->stale_lock_time,
                                 .directory = "",
                                 .shell = ""};
}

const struct msg_user_done *
store_call(struct job *job, const struct step *step, const struct rights *rights, const struct msg_user_job *work,
           bool content)
{
    const struct courier_ids ids = {rights->uid, rights->gid};
    const struct msg_user_done *done;
    struct err err;

    if (courier_call(job->arena, ids, work, content ? job->d->source : NULL, loop_now() + CALL_TIME + work->time_limit,
                     &done, &err) < 0) {
        log_warning("%s: %s", job->d->request->queue_id, err.text);
        job_deferred(job, step, "4.3.0", &err);
        return NULL;
    }
    return done;
}

/* ---- "/file" ---- */

void
file_deliver(struct job *job, const struct step *step, const char *path)
{
    struct msg_user_job work = store_job(job, step, USER_STORE, path, CONTEXT_FILE);
    const struct msg_user_done *done;
    size_t len = strlen(path);

    if (path[len - 1] != '/')
        work.flags = USER_JOB_DEVICES | USER_JOB_DOTLOCK_TRY;
    done = store_call(job, step, rights_of(step), &work, true);
    if (!done)
        return;
    if (done->result == USER_DONE)
        job_sent(job, step,
                 path[len - 1] == '/' ? "delivered to maildir"
                                      : arena_printf(job->arena, "delivered to file: %s", path));
    else if (path[len - 1] == '/')
        job_failed(job, step, done->status, arena_printf(job->arena, "maildir delivery failed: %s", done->reason));
    else
        job_failed(job, step, done->status,
                   arena_printf(job->arena, "cannot append message to file %s: %s", path, done->reason));
}

/* ---- "|command" ---- */

/* For a text that a command may hand to a shell: other characters than those of the filter become '_'. */
static char *
filtered(struct arena *arena, const char *text, const char *filter)
{
    char *copy = arena_strdup(arena, text);

    for (char *at = copy; *at; at++)
        if (!strchr(filter, *at))
            *at = '_';
    return copy;
}

struct variables {
    struct arena *arena;
    struct user_text *items;
    size_t count, room;
};

static void
put_variable(struct variables *v, const char *name, const char *value)
{
    if (v->count < v->room)
        v->items[v->count++].text =
            arena_printf(v->arena, "%s=%s", name, filtered(v->arena, value, local.s.command_expansion_filter));
}

static void
put_plain(struct variables *v, const char *name, const char *value)
{
    if (v->count < v->room)
        v->items[v->count++].text = arena_printf(v->arena, "%s=%s", name, value);
}

static void
put_client(struct variables *v, const struct envelope *e)
{
    const struct {
        const char *name, *value;
    } rows[] = {
        {"CLIENT_ADDRESS", e->client_address}, {"CLIENT_HELO", e->helo_name},   {"CLIENT_HOSTNAME", e->client_name},
        {"CLIENT_PROTOCOL", e->protocol_name}, {"SASL_METHOD", e->sasl_method}, {"SASL_SENDER", e->sasl_sender},
        {"SASL_USERNAME", e->sasl_username},
    };

    for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
        if (*rows[i].value)
            put_variable(v, rows[i].name, rows[i].value);
}

static void
put_message(struct variables *v, const struct job *job, const struct step *step)
{
    struct arena *arena = v->arena;
    struct slice name, domain;

    addr_split(step->address, &name, &domain);
    put_variable(v, "LOCAL", arena_strndup(arena, name.ptr, name.len));
    put_variable(v, "DOMAIN", arena_strndup(arena, domain.ptr, domain.len));
    if (step->extension)
        put_variable(v, "EXTENSION", step->extension);
    put_variable(v, "RECIPIENT", step->address);
    if (*step->original)
        put_variable(v, "ORIGINAL_RECIPIENT", step->original);
    put_variable(v, "SENDER", step->sender);
    put_client(v, source_envelope(job->d->source));
}

static void
make_environment(struct msg_user_job *work, const struct job *job, const struct step *step, const struct rights *rights)
{
    struct variables v = {.arena = job->arena, .room = 300};

    v.items = arena_array(job->arena, v.room, sizeof *v.items);
    for (unsigned i = 0; local.environment[i] && v.count < v.room; i++)
        v.items[v.count++].text = local.environment[i];
    if (rights != &local.default_rights) {
        put_plain(&v, "HOME", rights->home);
        put_plain(&v, "SHELL", rights->shell);
    }
    put_variable(&v, "LOGNAME", step->user);
    put_variable(&v, "USER", step->user);
    put_message(&v, job, step);
    work->texts = v.items;
    work->text_count = v.count;
}

void
command_deliver(struct job *job, const struct step *step, const struct rights *rights, const char *command)
{
    struct msg_user_job work = store_job(job, step, USER_COMMAND, command, CONTEXT_COMMAND);
    const struct msg_user_done *done;
    struct err err;

    if (rights->uid == 0)
        rights = &local.default_rights;
    if (names_expand(job->arena, step, rights == &local.default_rights ? &step->rights : rights,
                     local.s.command_execution_directory, local.s.execution_directory_expansion_filter, &work.directory,
                     NULL, &err) < 0) {
        job_deferred(job, step, "4.3.5", &err);
        return;
    }
    work.shell = local.s.local_command_shell;
    work.time_limit = local.s.command_time_limit;
    make_environment(&work, job, step, rights);
    done = store_call(job, step, rights, &work, true);
    if (!done)
        return;
    if (done->result == USER_DONE)
        job_sent(job, step, arena_printf(job->arena, "delivered to command: %s", command));
    else
        job_result(job, step,
                   &(struct delivery_status){.result = *done->status == '5' ? DELIVERED_BOUNCED : DELIVERED_DEFERRED,
                                             .dsn = done->status,
                                             .reason = done->reason,
                                             .relay = "local",
                                             .diag_type = "x-unix",
                                             .diag_text = done->text_count ? done->texts[0].text : done->reason});
}
