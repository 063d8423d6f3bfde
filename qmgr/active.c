/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/active.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/log_events.h"
#include "lib/mail/log_form.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "lib/service/service.h"
#include "qmgr/delivery.h"
#include "qmgr/filing.h"
#include "qmgr/flush_note.h"
#include "qmgr/notice.h"
#include "qmgr/replay.h"
#include "qmgr/routing.h"
#include "qmgr/scan.h"
#include "qmgr/segment.h"
#include "qmgr/successor.h"

enum {
    FILES_AT_A_TIME = 64,           /* made of messages that have been in the journal for long */
    IMAGE_READ_AT_ONCE = 64 * 1024, /* an agent reads a smaller image whole, when it gets the request */
};

#define TICK       SECONDS(1)
#define TRY_AGAIN  SECONDS(10)
#define KEEP_AGAIN (20 * 1000)

static const struct qmgr_settings *settings;
static struct sched *sched;
static struct task_cond turn, progress;
static bool turn_wanted;
static bool stopping;     /* nothing new is taken up, nothing is begun */
static bool handing_over; /* but what was begun is finished, unless the system stops */
static bool is_quiet;     /* the system is about to stop: so there will be no successor soon */
static usec_t keep_again; /* a file could not be written: not before then */
static struct loop_timer wakeup, tick;

/* Messages with an image: those without a file, oldest first, and those that have one already. */
static struct list imaged = {&imaged, &imaged}, filed = {&filed, &filed};

const struct qmgr_settings *
active_settings(void)
{
    return settings;
}

struct sched *
active_scheduler(void)
{
    return sched;
}

bool
active_is_stopping(void)
{
    return stopping;
}

static bool
is_finishing(void)
{
    return handing_over && !service_is_terminating();
}

static bool
is_shut(void)
{
    return stopping && !is_finishing();
}

unsigned
active_room(void)
{
    unsigned limit = (unsigned)settings->qmgr_message_active_limit, count = message_count();

    return !stopping && count < limit ? limit - count : 0;
}

size_t
active_recipient_room(size_t *minimum)
{
    size_t limit = (size_t)settings->qmgr_message_recipient_limit;

    *minimum = settings->qmgr_message_recipient_minimum > 0 ? (size_t)settings->qmgr_message_recipient_minimum : 1;
    return limit > message_recipients() ? limit - message_recipients() : 0;
}

/* ---- the end of a turn ---- */

void
active_want_turn(void)
{
    turn_wanted = true;
    task_wake_all(&turn);
}

static void
on_wakeup(void *arg)
{
    (void)arg;
    active_want_turn();
}

static void
work(void *arg)
{
    struct err err;
    usec_t next;

    (void)arg;
    while (turn_wanted || task_wait(&turn, NO_DEADLINE, &err) == 0) {
        turn_wanted = false;
        if (!stopping)
            sched_run(sched, loop_now());
        segment_flush();
        task_wake_all(&progress);
        next = sched_next_wakeup(sched);
        if (next)
            loop_timer_set(&wakeup, next, on_wakeup, NULL);
    }
    loop_timer_clear(&wakeup);
    loop_timer_clear(&tick);
}

/* ---- images and files ---- */

static void
drop_image(struct message *message)
{
    if (!message->segment)
        return;
    segment_strike(message);
    active_want_turn();
}

static void
end(struct message *message)
{
    drop_image(message);
    message_free(&message);
    active_want_turn();
}

/* The image of a message that has a file goes back as soon as nobody reads it. A small one has been read by then. */
static void
drop_image_if_unread(struct message *message)
{
    bool is_read = message->length <= IMAGE_READ_AT_ONCE &&
                   loop_now() - message->image_given >= settings->journal_file_delay + SECONDS(1);

    if (message->segment && message->in_file && (message->image_readers == 0 || is_read))
        drop_image(message);
}

static void
on_filed(struct message *message, enum filing_result result, const struct err *err)
{
    struct err mark_err;

    if (result != FILING_DONE) {
        log_warning("%s: write queue file: %s", message->id, err->text);
        keep_again = loop_now() + TRY_AGAIN;
        active_progress(message);
        return;
    }
    message->in_file = true;
    for (size_t i = 0; i < message->envelope->recipient_count; i++) {
        struct recipient *recipient = &message->recipients[i];
        if (recipient->state != RECIPIENT_DONE || recipient->noted)
            continue;
        recipient->noted = true;
        if (filing_mark_done(message, i, &mark_err) < 0)
            log_warning("%s: %s", message->id, mark_err.text);
    }
    if (list_is_linked(&message->by_age)) {
        list_remove(&message->by_age);
        list_append(&filed, &message->by_age);
    }
    drop_image_if_unread(message);
    active_progress(message);
}

/* Makes files of what has been in the journal for too long; gives images back. */
static void
on_tick(void *arg)
{
    usec_t limit = loop_now() - settings->journal_file_delay;
    const struct list *last = imaged.prev;
    bool more = !list_is_empty(&imaged);

    (void)arg;
    while (more) {
        struct list *link = imaged.next;
        struct message *message = LIST_ENTRY(link, struct message, by_age);
        if (message->taken_up > limit || filing_active() >= FILES_AT_A_TIME)
            break;
        /* To the end: one whose file can't be written must not keep the others waiting. */
        more = link != last;
        list_remove(link);
        list_append(&imaged, link);
        message->taken_up = loop_now();
        if (!message->filing && !message->removed && !message->going_out)
            filing_write_active(message, on_filed);
    }
    LIST_EACH(link, &filed)
    drop_image_if_unread(LIST_ENTRY(link, struct message, by_age));
    sched_sweep(sched, loop_now());
    loop_timer_set(&tick, loop_now() + TICK, on_tick, NULL);
}

/* ---- taking up ---- */

static bool
all_are_done(const struct message *message)
{
    return message_count_recipients(message, RECIPIENT_DONE) == message->envelope->recipient_count &&
           !message->rest.more && !message->left_deferred;
}

/* One in the journal comes with all its recipients. Those that memory has no room for get a file, and are read from there
 * as room permits. */
static bool
has_too_many(const struct message *message)
{
    size_t minimum, room = active_recipient_room(&minimum), own = message->envelope->recipient_count;
    size_t limit = (size_t)settings->qmgr_message_recipient_limit;

    return !message->in_file && own > minimum && room == 0 && message_recipients() > limit;
}

/* With the message that came just now. */
static bool
is_over_limit(void)
{
    return message_count() > (unsigned)settings->qmgr_message_active_limit;
}

/* Held mail is in the journal while cleanup makes its file. After a crash nobody does that any more. */
static bool
is_to_be_held(const struct message *message)
{
    return message->segment && !message->in_file && (message->envelope->submit_flags & SUBMIT_HOLD);
}

static const char *
queue_to_wait_in(const struct message *message)
{
    return is_to_be_held(message) ? "hold" : "incoming";
}

void
active_take_up(struct message *message)
{
    message->taken_up = loop_now();
    message->taken_up_wall = loop_now_wall();
    if (message->segment)
        list_append(&imaged, &message->by_age);
    if (all_are_done(message)) {
        active_progress(message);
        return;
    }
    message->no_room = stopping || is_over_limit() || has_too_many(message);
    if (message->no_room || is_to_be_held(message)) {
        message->going_out = true;
        active_progress(message);
        return;
    }
    log_queue_active(message->id, log_form_address(message->arena, message->envelope->sender),
                     message->envelope->text_length,
                     (unsigned)(message->in_file ? message->rest.total : message->envelope->recipient_count));
    routing_start(message);
}

/* ---- what comes when nothing is outstanding ---- */

static void
on_try_again(void *arg)
{
    active_progress(arg);
}

static void
try_again_later(struct message *message)
{
    if (!is_shut())
        loop_timer_set(&message->again, loop_now() + TRY_AGAIN, on_try_again, message);
    task_wake_all(&progress);
}

static void
on_left(struct message *message, enum filing_result result, const struct err *err)
{
    if (result == FILING_FAILED) {
        log_warning("%s: could not be put on disk: %s", message->id, err->text);
        try_again_later(message);
        return;
    }
    if (message->no_room && !stopping)
        scan_incoming_again();
    if (is_finishing() && !is_quiet)
        successor_poke();
    end(message);
}

static void
on_deferred(struct message *message, enum filing_result result, const struct err *err)
{
    if (result == FILING_DONE)
        flush_note(message);
    on_left(message, result, err);
}

static void
on_removed(struct message *message, enum filing_result result, const struct err *err)
{
    if (result == FILING_FAILED) {
        log_warning("%s: %s", message->id, err->text);
        try_again_later(message);
        return;
    }
    log_removed(message->id);
    replay_removed(message);
    end(message);
}

static void
finish(struct message *message)
{
    if (message->in_file) {
        drop_image(message);
        filing_remove(message, on_removed);
        return;
    }
    log_removed(message->id);
    end(message);
}

static int64_t
created(const struct message *message)
{
    return message->envelope->create_time > 0 ? message->envelope->create_time : message->envelope->arrival_sec;
}

static bool
is_too_old(const struct message *message)
{
    usec_t lifetime = *message->envelope->sender ? settings->maximal_queue_lifetime : settings->bounce_queue_lifetime;

    if (!*message->envelope->sender && lifetime > settings->maximal_queue_lifetime)
        lifetime = settings->maximal_queue_lifetime;
    return message->force_expire || loop_now_wall() - SECONDS(created(message)) > lifetime;
}

/* What is deferred fails: its sender is told. */
static void
expire(struct message *message)
{
    if (!message->expired)
        log_expired(message->id, log_form_address(message->arena, message->envelope->sender),
                    message->force_expire ? "force-expired" : "expired");
    message->expired = true;
    for (size_t i = 0; i < message->envelope->recipient_count; i++)
        if (message->recipients[i].state == RECIPIENT_DEFERRED)
            message->recipients[i].state = RECIPIENT_FAILED;
    active_progress(message);
}

/* That the sender was told of the delay. Of a message in passes that is known at its end: each pass has its notice. */
static void
note_warning(struct message *message)
{
    struct err err;

    if (!message->told_of_delay)
        return;
    message->envelope->warn_time = -1;
    if (message->in_file && filing_mark_warned(message, &err) < 0 && err.code != ENOENT)
        log_warning("%s: %s", message->id, err.text);
}

static void
defer(struct message *message)
{
    usec_t now = loop_now_wall(), delay = now - SECONDS(created(message));

    if (delay < settings->minimal_backoff_time)
        delay = settings->minimal_backoff_time;
    if (delay > settings->maximal_backoff_time)
        delay = settings->maximal_backoff_time;
    note_warning(message);
    if (message->in_file)
        drop_image(message);
    filing_leave(message, "deferred", (now + delay) / SECONDS(1), on_deferred);
}

/* An image becomes a file in incoming/. At a stop a file stays in active/, for the next start to find. */
static void
leave(struct message *message)
{
    if (message->in_file && (is_shut() || is_quiet))
        end(message);
    else
        filing_leave(message, queue_to_wait_in(message), 0, on_left);
}

static void
on_next_pass(struct message *message, enum filing_result result, const struct err *err)
{
    if (result == FILING_FAILED) {
        log_warning("%s: could not read more recipients: %s", message->id, err->text);
        try_again_later(message);
        return;
    }
    if (result == FILING_GONE)
        message->removed = true;
    if (result == FILING_GONE || message->going_out || message_count_recipients(message, RECIPIENT_TODO) == 0)
        active_progress(message);
    else
        routing_start(message);
}

/* The limit of the transports that it goes to takes the place of that for all, which holds before that is known. */
static void
next_pass(struct message *message)
{
    size_t minimum, most = active_recipient_room(&minimum), room = sched_room(&message->sched);

    if (room < INT_MAX)
        most = room;
    flush_note(message);
    filing_next_pass(message, most > minimum ? most : minimum, on_next_pass);
}

static unsigned
count_success_to_tell(const struct message *message)
{
    unsigned count = 0;

    for (size_t i = 0; i < message->envelope->recipient_count; i++)
        count += message->recipients[i].tell_success;
    return count;
}

/* Is it time for a notice of so many recipients? Those of passes are gathered. */
static bool
is_worth_telling(const struct message *message, unsigned count)
{
    return count > 0 && !is_shut() && (count >= RECIPIENTS_IN_A_NOTICE || !message->rest.more);
}

static bool
is_delay_notice_due(const struct message *message)
{
    return message->envelope->warn_time > 0 && *message->envelope->sender && !message->pass_told_of_delay &&
           loop_now_wall() >= SECONDS(message->envelope->warn_time);
}

void
active_progress(struct message *message)
{
    bool any_deferred;

    drop_image_if_unread(message);
    if (!message_is_idle(message))
        return;
    any_deferred = message_count_recipients(message, RECIPIENT_DEFERRED) > 0;
    if (message->removed)
        end(message);
    else if (!message->notice_failed && is_worth_telling(message, message_count_recipients(message, RECIPIENT_FAILED)))
        notice_send(message, BOUNCE_FAILED);
    else if (is_worth_telling(message, count_success_to_tell(message)))
        notice_send(message, message->envelope->trace_flags ? BOUNCE_VERIFY : BOUNCE_SUCCESS);
    else if (all_are_done(message))
        finish(message);
    else if (message_count_recipients(message, RECIPIENT_TODO) > 0 || (message->going_out && !is_finishing()))
        leave(message);
    else if (any_deferred && !message->notice_failed && is_too_old(message))
        expire(message);
    else if (any_deferred && !message->notice_failed && is_delay_notice_due(message))
        notice_send(message, BOUNCE_DELAYED);
    else if (message->rest.more)
        next_pass(message);
    else
        defer(message);
}

/* ---- start and stop ---- */

static void
on_given_up(struct message *message, enum filing_result result, const struct err *err)
{
    if (result == FILING_FAILED) {
        log_warning("%s: could not be put on disk: %s", message->id, err->text);
        task_wake_all(&progress);
        return;
    }
    message->removed = true; /* what comes now is too late */
    drop_image(message);
    active_progress(message);
}

static const struct sched_hooks hooks = {
    .limits = delivery_limits, .deliver = delivery_start, .put_off = delivery_put_off};

void
active_init(const struct qmgr_settings *qmgr_settings)
{
    settings = qmgr_settings;
    sched = sched_new(&hooks, NULL);
    list_init(&turn.waiters);
    list_init(&progress.waiters);
}

void
active_start(void)
{
    task_spawn(service_tasks(), "work", work, NULL);
    loop_timer_set(&tick, loop_now() + TICK, on_tick, NULL);
}

/* Puts all that waits out of the scheduler. */
static void
ask_all_to_leave(void)
{
    struct message *message;
    size_t position = 0;

    while (message_next(&position, &message)) {
        message->going_out = true;
        sched_withdraw(sched, &message->sched);
        loop_timer_clear(&message->again);
        if (message->routing && !routing_is_asking(message))
            message->routing = false;
        active_progress(message);
    }
}

/* Deliveries that don't end in time: what they are for is handed back to disk as not done. Memory of such messages
 * stays, for the answer that may still come. */
static void
give_up_waiting(void)
{
    struct message *message;
    size_t position = 0;

    while (message_next(&position, &message)) {
        if (message->segment && !message->in_file && !message->filing)
            filing_leave(message, queue_to_wait_in(message), 0, on_given_up);
        else if (message->segment && message->in_file)
            drop_image(message);
    }
}

static unsigned
count_without_file(void)
{
    struct message *message;
    size_t position = 0;
    unsigned count = 0;

    while (message_next(&position, &message))
        if (message->filing || (message->segment && !message->in_file))
            count++;
    return count;
}

/* Is it safe from a successor? If not, that is begun. */
static bool
keep(struct message *message)
{
    struct err err;

    if (message->removed)
        return true;
    if (message->filing || loop_now() < keep_again)
        return false;
    if (!message->in_file) {
        if (message->segment)
            filing_write_active(message, on_filed);
        return false;
    }
    if (message->lock_fd < 0)
        message->lock_fd = filing_lock(message, &err);
    if (message->lock_fd < 0 && err.code == ENOENT)
        message->removed = true; /* somebody took it away */
    return message->lock_fd >= 0;
}

static bool
keep_all(void)
{
    struct message *message;
    size_t position = 0;
    bool all = !scan_is_busy();

    while (message_next(&position, &message))
        all = keep(message) && all;
    return all;
}

bool may_wait
active_hand_over(usec_t deadline)
{
    struct err err;

    stopping = handing_over = true;
    ask_all_to_leave();
    while (is_finishing() && !keep_all())
        if ((task_wait(&progress, loop_now() + KEEP_AGAIN, &err) < 0 && err.kind != ERR_TIMEOUT) ||
            loop_now() >= deadline)
            return false;
    segment_flush();
    return is_finishing();
}

bool may_wait
active_finish(void)
{
    struct err err;

    while (message_count() > 0 && is_finishing())
        if (task_wait(&progress, loop_now() + TICK, &err) < 0 && err.kind != ERR_TIMEOUT)
            return false;
    return is_finishing();
}

void may_wait
active_quiet(usec_t deadline)
{
    struct err err;

    stopping = handing_over = is_quiet = true;
    ask_all_to_leave();
    while (message_count() > 0 && is_finishing())
        if (task_wait(&progress, deadline, &err) < 0)
            break;
}

void
active_hurry(void)
{
    task_wake_all(&progress);
}

bool may_wait
active_leave_all(usec_t patience, usec_t deadline)
{
    struct err err;
    usec_t until = loop_now() + patience;

    stopping = true;
    handing_over = false;
    ask_all_to_leave();
    while (message_count() > 0 && task_wait(&progress, until, &err) == 0)
        continue;
    give_up_waiting();
    while (count_without_file() > 0)
        if (task_wait(&progress, deadline, &err) < 0)
            break;
    segment_flush();
    return count_without_file() == 0;
}

static bool
is_to_be_filed(const struct message *message)
{
    return message->segment && !message->in_file && !message->removed;
}

void may_wait
active_file(const char *id, usec_t deadline)
{
    struct message *message;
    struct err err;
    bool waiting;

    do {
        size_t position = 0;
        waiting = false;
        while (message_next(&position, &message)) {
            if (!is_to_be_filed(message) || (id && strcmp(message->id, id) != 0))
                continue;
            waiting = true;
            if (!message->filing && !message->going_out && filing_active() < FILES_AT_A_TIME)
                filing_write_active(message, on_filed);
        }
    } while (waiting && task_sleep(10 * 1000, &err) == 0 && loop_now() < deadline);
}
