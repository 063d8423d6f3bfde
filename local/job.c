/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/run/loop.h"
#include "local/local.h"

enum {
    PARALLEL = 512, /* items at once: two groups (lib/store/courier_group.h) */
    BOUNCE_TEXT = 6000,
    LEVEL_LIMIT = 100,
};

struct item {
    struct list link;
    struct job *job;
    const struct step *step;
    const char *text; /* a destination; NULL: step is a local recipient */
};

/* ---- items ---- */

static void
add(struct job *job, const struct step *step, const char *text)
{
    struct item *item = ARENA_NEW(job->arena, struct item);

    *item = (struct item){.job = job, .step = step, .text = text};
    list_append(&job->items, &item->link);
    task_wake_one(&job->changed);
}

void
job_add_recipient(struct job *job, const struct step *step)
{
    add(job, step, NULL);
}

void
job_add_destination(struct job *job, const struct step *step, const char *text)
{
    add(job, step, text);
}

static void
report_loop(struct job *job, const struct step *step)
{
    const char *at = strrchr(step->address, '@');
    const char *name =
        arena_strndup(job->arena, step->address, at ? (size_t)(at - step->address) : strlen(step->address));

    log_warning("alias database loop for %s", name);
    job_failed(job, step, "5.4.6", arena_printf(job->arena, "alias database loop for %s", name));
}

static void may_wait
run_item(struct item *item)
{
    if (item->step->level > LEVEL_LIMIT)
        report_loop(item->job, item->step);
    else if (item->text)
        destination_deliver(item->job, item->step, item->text);
    else
        recipient_deliver(item->job, item->step);
}

static void
item_task(void *arg)
{
    struct item *item = arg;
    struct job *job = item->job;

    run_item(item);
    job->running--;
    task_wake_one(&job->changed);
}

/* A single item is done here; more of them are tasks of their own. */
static void may_wait
run_items(struct job *job)
{
    struct err err;

    while (!list_is_empty(&job->items) || job->running > 0) {
        while (!list_is_empty(&job->items) && job->running < PARALLEL) {
            struct item *item = LIST_ENTRY(list_pop(&job->items), struct item, link);

            if (job->running == 0 && list_is_empty(&job->items)) {
                run_item(item);
                continue;
            }
            job->running++;
            task_spawn(&job->group, "delivery", item_task, item);
        }
        if (job->running > 0 && task_wait(&job->changed, NO_DEADLINE, &err) < 0) {
            task_group_cancel(&job->group);
            break;
        }
    }
    task_group_join(&job->group);
    while (!list_is_empty(&job->items)) {
        (void)list_pop(&job->items);
        job->deferred++;
    }
}

/* ---- steps ---- */

struct step *
step_below(struct job *job, const struct step *above)
{
    struct step *step = ARENA_NEW(job->arena, struct step);

    *step = *above;
    step->parent = above;
    step->level = above->level + 1;
    step->forward_file = NULL;
    return step;
}

static struct step *
first_step(struct job *job)
{
    const struct deliver_recipient *rcpt = &job->d->request->recipients[job->index];
    struct step *step = ARENA_NEW(job->arena, struct step);

    *step = (struct step){.address = rcpt->address,
                          .original = *rcpt->original ? rcpt->original : rcpt->address,
                          .dsn_original = rcpt->dsn_original,
                          .notify = rcpt->notify,
                          .sender = job->d->request->sender,
                          .delivered = rcpt->address,
                          .rights = {.user = "", .home = "", .shell = ""}};
    return step;
}

/* ---- duplicates ---- */

/* Is it there? *key is what to free. */
static bool look_up(const struct job *, const char *fmt, va_list args, struct slice *key) PRINTF_LIKE(2, 0);
static bool
look_up(const struct job *job, const char *fmt, va_list args, struct slice *key)
{
    char *text;
    int len = vasprintf(&text, fmt, args);

    if (len < 0)
        fatal("out of memory");
    *key = slice_make(text, (size_t)len);
    return map_get(job->seen, *key) != NULL;
}

bool
job_seen(struct job *job, const char *fmt, ...)
{
    int64_t limit = local.s.duplicate_filter_limit;
    struct slice key;
    va_list args;
    bool seen;

    va_start(args, fmt);
    seen = look_up(job, fmt, args, &key);
    va_end(args);
    if (!seen && (limit == 0 || (int64_t)map_count(job->seen) < limit))
        (void)map_put(job->seen, key, job);
    free((char *)key.ptr);
    return seen;
}

bool
job_saw(const struct job *job, const char *fmt, ...)
{
    struct slice key;
    va_list args;
    bool seen;

    va_start(args, fmt);
    seen = look_up(job, fmt, args, &key);
    va_end(args);
    free((char *)key.ptr);
    return seen;
}

bool
job_seen_address(struct job *job, const char *kind, const char *address)
{
    char *key = arena_strdup(job->arena, address);

    text_lower_all(key, strlen(key));
    return job_seen(job, "%s %s", kind, key);
}

/* ---- results ---- */

static void
note_bounce(struct job *job, const struct step *step, const struct delivery_status *status)
{
    if (job->bounced++ == 0)
        job->first_bounced = *status;
    if (job->bounces.len < BOUNCE_TEXT)
        buf_printf(&job->bounces, "%s<%s>: %s", job->bounces.len ? "; " : "", step->address, status->reason);
}

/* A list has an owner, who is told at once, since the message's sender is another. What could not be told is tried again with the
 * delivery. */
static bool may_wait
tell_owner(struct job *job, const struct step *step, const struct delivery_status *status)
{
    const struct deliver_recipient failed = {.address = step->address,
                                             .original = step->original,
                                             .dsn_original = step->dsn_original,
                                             .notify = step->notify};
    struct delivery_status late = *status;
    struct err err;

    if (status->result != DELIVERED_BOUNCED || !step->owner || step->sender == job->d->request->sender)
        return false;
    if (delivery_tell(job->d, local.s.bounce_service_name, step->sender, &failed, status, &err) < 0) {
        log_warning("%s: the owner <%s> is not told: %s", job->d->request->queue_id, step->sender, err.text);
        late.result = DELIVERED_DEFERRED;
        late.dsn = "4.3.0";
        late.action = NULL;
        job->deferred++;
        if (job->deferred == 1)
            job->first_deferred = late;
        return true;
    }
    late = (struct delivery_status){.result = DELIVERED_SENT,
                                    .dsn = "2.0.0",
                                    .reason = "the list's owner was told of a failure",
                                    .relay = "local",
                                    .action = "delivered"};
    if (job->sent++ == 0)
        job->first_sent = late;
    return true;
}

void
job_result(struct job *job, const struct step *step, const struct delivery_status *given)
{
    struct delivery_status status = delivery_filter(job->d, given);

    if (local.s.soft_bounce && status.result == DELIVERED_BOUNCED) {
        status.result = DELIVERED_DEFERRED;
        status.dsn = arena_printf(job->arena, "4%s", status.dsn + 1);
        status.action = NULL;
    }
    delivery_log(job->d, step->address, step->original, &status);
    job_count(job, step, &status);
}

void
job_count(struct job *job, const struct step *step, const struct delivery_status *status)
{
    if (tell_owner(job, step, status))
        return;
    if (status->result == DELIVERED_DEFERRED) {
        if (job->deferred++ == 0)
            job->first_deferred = *status;
    } else if (status->result == DELIVERED_BOUNCED) {
        note_bounce(job, step, status);
    } else if (job->sent++ == 0) {
        job->first_sent = *status;
    }
}

void
job_sent(struct job *job, const struct step *step, const char *reason)
{
    job_result(
        job, step,
        &(struct delivery_status){
            .result = DELIVERED_SENT, .dsn = "2.0.0", .reason = reason, .relay = "local", .action = "delivered"});
}

void
job_failed(struct job *job, const struct step *step, const char *dsn, const char *reason)
{
    job_result(job, step,
               &(struct delivery_status){.result = dsn[0] == '5' ? DELIVERED_BOUNCED : DELIVERED_DEFERRED,
                                         .dsn = dsn,
                                         .reason = reason,
                                         .relay = "local"});
}

void
job_deferred(struct job *job, const struct step *step, const char *dsn, const struct err *err)
{
    job_failed(job, step, dsn, arena_strdup(job->arena, err->text));
}

/* The worst of all. What came of a recipient that became several is told with the addresses. */
static struct delivery_status
sum_up(struct job *job)
{
    struct delivery_status status = {.result = DELIVERED_SENT,
                                     .dsn = "2.0.0",
                                     .reason = "nothing to deliver to",
                                     .relay = "local",
                                     .action = "delivered"};

    if (job->deferred > 0) {
        status = job->first_deferred;
        if (!status.reason)
            status = (struct delivery_status){.dsn = "4.3.0", .reason = "delivery was not finished", .relay = "local"};
        status.result = DELIVERED_DEFERRED;
    } else if (job->bounced > 0) {
        status = job->first_bounced;
        if (job->bounced + job->sent > 1)
            status.reason = buf_text(&job->bounces);
    } else if (job->sent > 0) {
        status = job->first_sent;
    }
    return status;
}

void
job_run(struct delivery *d, unsigned index, struct map *loop)
{
    struct job job = {.d = d, .index = index, .arena = d->arena, .loop = loop, .seen = map_new()};
    struct delivery_status status;

    list_init(&job.items);
    list_init(&job.batches);
    task_group_init(&job.group);
    job.first = first_step(&job);
    job_add_recipient(&job, job.first);
    run_items(&job);
    if (job.deferred == 0)
        forward_send(&job);
    status = sum_up(&job);
    delivery_result_silent(d, index, &status);
    buf_release(&job.bounces);
    map_free(&job.seen, NULL);
}
