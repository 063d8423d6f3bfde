/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/announce.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup/server.h"
#include "cleanup/spool.h"
#include "lib/base/check.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/mail/messages.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"

#define RETRY_TIME       (200 * 1000) /* until the next attempt to reach qmgr */
#define UNREACHABLE_TIME SECONDS(10)  /* then messages become files */
#define FILING_PAUSE     SECONDS(5)   /* after files could not be written */
#define WARN_PAUSE       SECONDS(10)
#define ANSWER_TIME      SECONDS(2) /* in a drain: a qmgr that says nothing for so long is not there */

/* Known by its place; the envelope is read from the segment when it is to be announced again. */
struct announcement {
    struct list link; /* in `sent` or `unsent` */
    struct journal_place place;
};

/* Segments that this connection has been told of. */
struct told {
    uint32_t segment, generation;
};

static struct {
    const char *path;
    struct link *link;
    struct list sent, unsent;
    struct told *told;
    unsigned told_count, told_room;
    struct loop_timer timer;
    usec_t since;        /* since when qmgr can't be reached; 0: it can */
    bool filing;         /* the task that writes files is running */
    usec_t filing_again; /* not before then: files could not be written */
    usec_t warned;       /* not before then: of what can't be announced */
    bool ended;
    struct task_cond released;
} state;

static void try_again(void *arg);
static void answer_came(void *ctx, struct link_message *reply, const struct err *err);

/* ---- what qmgr says ---- */

static void
seal(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_seal *message = in->message;

    (void)request;
    (void)ctx;
    link_close_fds(in);
    journal_seal(server.journal);
    if (message->stopping)
        server.stopping = true;
}

static const struct link_handler handlers[] = {{&type_seal, false, seal}};
enum { HANDLERS = ARRAY_LEN(handlers) };

/* ---- segments ---- */

static unsigned
find_told(uint32_t segment, uint32_t generation)
{
    unsigned i = state.told_count;

    while (i > 0 && (state.told[i - 1].segment != segment || state.told[i - 1].generation != generation))
        i--;
    return i; /* its place + 1; the newest is looked at first */
}

static void
note_told(uint32_t segment, uint32_t generation)
{
    if (state.told_count == state.told_room) {
        state.told_room = state.told_room ? state.told_room * 2 : 16;
        state.told = reallocarray(state.told, state.told_room, sizeof(*state.told));
        if (!state.told)
            fatal("out of memory");
    }
    state.told[state.told_count++] = (struct told){segment, generation};
}

static int
tell_segment(const struct journal_place *place, struct err *err)
{
    struct msg_segment message = {.segment = place->segment, .generation = place->generation};
    int fd = journal_segment_fd(server.journal, place->segment, place->generation);

    if (find_told(place->segment, place->generation))
        return 0;
    check(fd >= 0);
    if (link_send(state.link, &type_segment, &message, slice_make(NULL, 0), &fd, 1, err) < 0)
        return -1;
    note_told(place->segment, place->generation);
    return 0;
}

void
announce_segment_gone(uint32_t segment, uint32_t generation)
{
    struct msg_segment message = {.segment = segment, .generation = generation, .gone = 1};
    unsigned at = find_told(segment, generation);
    struct err err;

    if (!at)
        return;
    state.told[at - 1] = state.told[--state.told_count];
    if (state.link && link_send(state.link, &type_segment, &message, slice_make(NULL, 0), NULL, 0, &err) < 0)
        log_debug("the queue manager is not told that a segment has gone: %s", err.text);
}

/* ---- announcing ---- */

/* A connection may stand (master holds the socket) without a qmgr that has said a word. */
static bool
is_qmgr_there(void)
{
    return link_peer_pid(state.link) != 0;
}

static void
set_timer(void)
{
    if (!state.timer.due && !state.ended)
        loop_timer_set(&state.timer, loop_now() + RETRY_TIME, try_again, NULL);
}

static void
retry_later(void)
{
    if (!state.since)
        state.since = loop_now();
    set_timer();
}

static int
send_announcement(struct announcement *a, struct slice envelope, struct err *err)
{
    struct msg_announce message = {.segment = a->place.segment,
                                   .generation = a->place.generation,
                                   .offset = (int64_t)a->place.offset,
                                   .length = (int64_t)a->place.length};

    if (tell_segment(&a->place, err) < 0)
        return -1;
    return link_call_async(state.link, &type_announce, &message, envelope, NULL, 0, &type_released, answer_came, a,
                           err);
}

void
announce(const struct journal_place *place, struct slice envelope)
{
    struct announcement *a = calloc(1, sizeof(*a));
    struct err err;

    if (!a)
        fatal("out of memory");
    a->place = *place;
    if (!list_is_empty(&state.unsent)) { /* in their turn */
        list_append(&state.unsent, &a->link);
        return;
    }
    list_append(&state.sent, &a->link);
    if (send_announcement(a, envelope, &err) == 0) {
        if (!is_qmgr_there())
            retry_later();
        return;
    }
    log_debug("not announced: %s", err.text);
    list_remove(&a->link);
    list_append(&state.unsent, &a->link);
    retry_later();
}

static void
release(struct announcement *a)
{
    list_remove(&a->link);
    journal_release(server.journal, &a->place);
    free(a);
    task_wake_all(&state.released);
}

static void
answer_came(void *ctx, struct link_message *reply, const struct err *err)
{
    struct announcement *a = ctx;

    if (reply) {
        link_close_fds(reply);
        state.since = 0;
        release(a);
        return;
    }
    log_debug("an announcement was not answered: %s", err->text);
    list_remove(&a->link);
    list_append(&state.unsent, &a->link);
    retry_later();
}

static void
link_closed(void *ctx, struct link *link)
{
    (void)ctx;
    (void)link;
    state.told_count = 0;
}

/* ---- once more ---- */

/* The encoded envelope of an image, from its segment. */
static char *
read_envelope(const struct journal_place *place, size_t *len, struct err *err)
{
    int fd = journal_segment_fd(server.journal, place->segment, place->generation);
    unsigned char bytes[IMAGE_HEADER_SIZE];
    struct image_header h;
    char *envelope;

    if (pread(fd, bytes, sizeof(bytes), (off_t)place->offset) != sizeof(bytes)) {
        err_errno(err, "read of an image");
        return NULL;
    }
    if (image_header_decode(bytes, NULL, 0, place->offset, place->length, &h, err) < 0)
        return NULL;
    envelope = malloc(h.envelope_length);
    if (!envelope)
        fatal("out of memory");
    if (pread(fd, envelope, h.envelope_length, (off_t)(place->offset + IMAGE_HEADER_SIZE)) !=
        (ssize_t)h.envelope_length) {
        err_errno(err, "read of an image");
        free(envelope);
        return NULL;
    }
    *len = h.envelope_length;
    return envelope;
}

static int
announce_again(struct announcement *a, struct err *err)
{
    size_t len;
    char *envelope = read_envelope(&a->place, &len, err);
    int result;

    if (!envelope)
        return -1;
    result = send_announcement(a, slice_make(envelope, len), err);
    free(envelope);
    return result;
}

/* Goes through the list once. */
static void
file_unsent(void *arg)
{
    struct list failed;
    struct list *link;

    (void)arg;
    list_init(&failed);
    while ((link = list_pop(&state.unsent)) != NULL) { /* nobody else takes it up meanwhile */
        struct announcement *a = LIST_ENTRY(link, struct announcement, link);
        struct err err;

        if (spool_image(&a->place, "incoming", &err) < 0) {
            log_warning("%s", err.text);
            list_append(&failed, &a->link);
        } else {
            release(a);
        }
    }
    if (!list_is_empty(&failed))
        state.filing_again = loop_now() + FILING_PAUSE;
    while ((link = list_pop(&failed)) != NULL)
        list_append(&state.unsent, link);
    if (!list_is_empty(&state.unsent))
        set_timer();
    state.filing = false;
    task_wake_all(&state.released);
}

/* Gives up the connection: what was sent on it and not answered comes back to `unsent`. */
static void
reset_link(void)
{
    link_free(&state.link);
    state.told_count = 0;
    state.link = link_connect(state.path, handlers, HANDLERS, NULL, link_closed);
}

static void
start_filing(void)
{
    if (state.filing || loop_now() < state.filing_again)
        return;
    if (!is_qmgr_there() && !list_is_empty(&state.sent))
        reset_link();
    if (list_is_empty(&state.unsent))
        return;
    log_warning("the queue manager can't be reached: messages become files in incoming");
    state.filing = true;
    task_spawn(service_tasks(), "file messages", file_unsent, NULL);
}

/* What the link takes. One that can't be read is not in the way of the others. */
static void
announce_unsent(void)
{
    struct list failed;
    struct list *link;
    struct err err;

    list_init(&failed);
    while (!list_is_empty(&state.unsent) && !state.filing && !link_is_full(state.link)) {
        struct announcement *a = LIST_ENTRY(state.unsent.next, struct announcement, link);

        list_remove(&a->link);
        list_append(&state.sent, &a->link);
        if (announce_again(a, &err) == 0)
            continue;
        list_remove(&a->link);
        list_append(&failed, &a->link);
        log_debug("not announced: %s", err.text);
        if (!link_is_connected(state.link))
            break;
        if (loop_now() >= state.warned) {
            log_warning("a message can't be announced to the queue manager: %s", err.text);
            state.warned = loop_now() + WARN_PAUSE;
        }
    }
    while ((link = list_pop(&failed)) != NULL)
        list_append(&state.unsent, link);
}

static void
try_again(void *arg)
{
    (void)arg;
    announce_unsent();
    if (is_qmgr_there() && list_is_empty(&state.unsent))
        state.since = 0;
    else if (state.since && loop_now() - state.since > UNREACHABLE_TIME)
        start_filing();
    /* A qmgr that is there has not been told of all yet if the link got full: nobody else goes on with that. */
    if (state.since || !list_is_empty(&state.unsent))
        set_timer();
}

/* ---- the end ---- */

void
announce_start(const char *path)
{
    state.path = path;
    list_init(&state.sent);
    list_init(&state.unsent);
    state.link = link_connect(path, handlers, HANDLERS, NULL, link_closed);
}

void may_wait
announce_drain(const usec_t *deadline)
{
    usec_t since = loop_now();
    struct err err;

    while (journal_outstanding(server.journal) > 0 && loop_now() < *deadline) {
        usec_t again = loop_now() + RETRY_TIME;

        if (task_wait(&state.released, again < *deadline ? again : *deadline, &err) < 0 && err.kind == ERR_CANCELLED)
            break;
        if (!service_is_terminating())
            since = loop_now(); /* qmgr's successor is on its way */
        else if (loop_now() - since > ANSWER_TIME && (!is_qmgr_there() || !list_is_empty(&state.unsent)))
            start_filing();
    }
    while (state.filing)
        task_wait_always(&state.released);
}

void
announce_end(void)
{
    struct list *link;

    state.ended = true;
    loop_timer_clear(&state.timer);
    link_free(&state.link);
    while ((link = list_pop(&state.unsent)) != NULL || (link = list_pop(&state.sent)) != NULL)
        free(LIST_ENTRY(link, struct announcement, link));
    free(state.told);
    state.told = NULL;
    state.told_count = state.told_room = 0;
}
