/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/sched.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/map.h"
#include "lib/base/slice.h"
#include "lib/base/text.h"

enum {
    CANDIDATES_LOOKED_AT = 1000, /* waiting jobs that may preempt */
    QUEUE_IDLE_SECONDS = 60,     /* then its window is forgotten */
};

struct sched_queue {
    struct sched_transport *transport;
    char *name, *nexthop;
    struct list peers; /* that have waiting entries, in the order of their jobs' ranks */
    unsigned busy;     /* entries given out */
    struct window window;
    usec_t dead_until;
    usec_t sleep_until; /* 0: awake */
    usec_t idle_since;
    struct list sleeper; /* on sched.sleeping_queues while it sleeps */
    char *dead_status, *dead_reason;
    uint64_t served;     /* transport.serving when it was served last */
    unsigned heap_index; /* + 1; 0: not in the heap */
};

struct sched_transport {
    struct sched *sched;
    char *name;
    struct sched_limits limits;
    struct list turn;          /* sched.turns */
    struct list jobs;          /* that have waiting entries, in the order of ranks */
    struct map *queues;        /* by name */
    struct sched_queue **heap; /* those that may send */
    unsigned heap_count, heap_size;
    unsigned busy;
    unsigned recipients; /* of entries that have not ended */
    int64_t back_rank, front_rank;
    uint64_t serving;
    usec_t sleep_until;
    usec_t dead_until; /* queues that are made until then are dead at once */
    char *dead_status, *dead_reason;
    bool nobody_preempts; /* no waiting job fits the slots earned: until one is added or slots are earned */
};

struct sched_job {
    struct list of_message;
    struct list of_transport; /* while entries wait */
    struct sched_transport *transport;
    struct list peers;
    int64_t rank;
    unsigned entries, selected, recipients;
    unsigned slots_used;
    usec_t queued;
};

struct sched_peer {
    struct list of_queue; /* while entries wait */
    struct list of_job;
    struct sched_job *job;
    struct sched_queue *queue;
    struct list entries; /* waiting */
};

struct sched {
    struct sched_hooks hooks;
    void *ctx;
    struct map *transports;
    struct list turns;
    struct list sleeping_queues;
    struct list put_off; /* entries of dead queues, to be given back by sched_run() */
    struct sched_transport *last_transport;
    bool running;
};

/* ---- The heap of a transport: the queues that may send. All in it have waiting entries. ---- */

static bool
comes_before(const struct sched_queue *a, const struct sched_queue *b)
{
    int64_t rank_a = LIST_ENTRY(a->peers.next, struct sched_peer, of_queue)->job->rank;
    int64_t rank_b = LIST_ENTRY(b->peers.next, struct sched_peer, of_queue)->job->rank;

    return rank_a != rank_b ? rank_a < rank_b : a->served < b->served;
}

static void
heap_place(struct sched_transport *transport, unsigned i, struct sched_queue *queue)
{
    transport->heap[i] = queue;
    queue->heap_index = i + 1;
}

static void
heap_up(struct sched_transport *transport, unsigned i)
{
    struct sched_queue *queue = transport->heap[i];

    while (i > 0 && comes_before(queue, transport->heap[(i - 1) / 2])) {
        heap_place(transport, i, transport->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_place(transport, i, queue);
}

static void
heap_down(struct sched_transport *transport, unsigned i)
{
    struct sched_queue *queue = transport->heap[i];

    for (;;) {
        unsigned child = 2 * i + 1;
        if (child >= transport->heap_count)
            break;
        if (child + 1 < transport->heap_count && comes_before(transport->heap[child + 1], transport->heap[child]))
            child++;
        if (!comes_before(transport->heap[child], queue))
            break;
        heap_place(transport, i, transport->heap[child]);
        i = child;
    }
    heap_place(transport, i, queue);
}

static void
heap_settle(struct sched_transport *transport, struct sched_queue *queue)
{
    heap_up(transport, queue->heap_index - 1);
    heap_down(transport, queue->heap_index - 1);
}

static void
heap_remove(struct sched_queue *queue)
{
    struct sched_transport *transport = queue->transport;
    unsigned i = queue->heap_index - 1;
    struct sched_queue *last = transport->heap[--transport->heap_count];

    queue->heap_index = 0;
    if (last == queue)
        return;
    heap_place(transport, i, last);
    heap_settle(transport, last);
}

static void
heap_insert(struct sched_queue *queue)
{
    struct sched_transport *transport = queue->transport;

    if (transport->heap_count == transport->heap_size) {
        transport->heap_size = transport->heap_size ? 2 * transport->heap_size : 16;
        transport->heap = realloc(transport->heap, transport->heap_size * sizeof(struct sched_queue *));
        if (!transport->heap)
            fatal("out of memory");
    }
    heap_place(transport, transport->heap_count++, queue);
    heap_up(transport, transport->heap_count - 1);
}

/* Puts the queue where it belongs, right after anything about it has changed. */
static void
queue_update(struct sched_queue *queue)
{
    bool can_send = !list_is_empty(&queue->peers) && queue->busy < queue->window.size && !queue->sleep_until;

    if (queue->heap_index && can_send)
        heap_settle(queue->transport, queue);
    else if (queue->heap_index)
        heap_remove(queue);
    else if (can_send)
        heap_insert(queue);
}

/* ---- Transports and queues ---- */

static void *
make(size_t size)
{
    void *memory = calloc(1, size);

    if (!memory)
        fatal("out of memory");
    return memory;
}

struct sched *
sched_new(const struct sched_hooks *hooks, void *ctx)
{
    struct sched *sched = make(sizeof(*sched));

    sched->hooks = *hooks;
    sched->ctx = ctx;
    sched->transports = map_new();
    list_init(&sched->turns);
    list_init(&sched->sleeping_queues);
    list_init(&sched->put_off);
    return sched;
}

static void
queue_free(struct sched_queue *queue)
{
    list_remove(&queue->sleeper);
    free(queue->name);
    free(queue->nexthop);
    free(queue->dead_status);
    free(queue->dead_reason);
    free(queue);
}

static void
release_queue(void *value)
{
    queue_free(value);
}

static void
release_transport(void *value)
{
    struct sched_transport *transport = value;

    map_free(&transport->queues, release_queue);
    free(transport->heap);
    free(transport->dead_status);
    free(transport->dead_reason);
    free(transport->name);
    free(transport);
}

void
sched_free(struct sched **sched)
{
    if (!*sched)
        return;
    map_free(&(*sched)->transports, release_transport);
    free(*sched);
    *sched = NULL;
}

static struct sched_transport *
find_transport(struct sched *sched, const char *name)
{
    struct sched_transport *transport = sched->last_transport;

    if (transport && strcmp(transport->name, name) == 0)
        return transport;
    transport = map_get_text(sched->transports, name);
    if (!transport) {
        transport = make(sizeof(*transport));
        transport->sched = sched;
        transport->name = text_copy(name);
        transport->queues = map_new();
        list_init(&transport->jobs);
        sched->hooks.limits(sched->ctx, name, &transport->limits);
        map_put_text(sched->transports, name, transport);
        list_append(&sched->turns, &transport->turn);
    }
    sched->last_transport = transport;
    return transport;
}

/* A dead destination gets another chance when its time is over. */
static void
queue_resurrect(struct sched_queue *queue, usec_t now)
{
    if (queue->window.size > 0 || now < queue->dead_until)
        return;
    window_init(&queue->window, &queue->transport->limits.window);
}

static void
set_text(char **text, const char *to)
{
    free(*text);
    *text = text_copy(to);
}

static void
set_dead(struct sched_queue *queue, const char *status, const char *reason, usec_t until)
{
    set_text(&queue->dead_status, status);
    set_text(&queue->dead_reason, reason);
    queue->dead_until = until;
    queue->window.size = 0;
}

static struct sched_queue *
find_queue(struct sched_transport *transport, const char *name, const char *nexthop, usec_t now)
{
    struct sched_queue *queue = map_get_text(transport->queues, name);

    if (!queue) {
        queue = make(sizeof(*queue));
        queue->transport = transport;
        queue->served = ++transport->serving;
        queue->name = text_copy(name);
        queue->nexthop = text_copy(nexthop);
        list_init(&queue->peers);
        window_init(&queue->window, &transport->limits.window);
        if (now < transport->dead_until)
            set_dead(queue, transport->dead_status, transport->dead_reason, transport->dead_until);
        map_put_text(transport->queues, name, queue);
    }
    queue_resurrect(queue, now);
    return queue;
}

static void
fall_asleep(struct sched_queue *queue, usec_t until)
{
    queue->sleep_until = until;
    if (!list_is_linked(&queue->sleeper))
        list_append(&queue->transport->sched->sleeping_queues, &queue->sleeper);
    queue_update(queue);
}

/* ---- Adding a message ---- */

static int
compare_targets(const void *a, const void *b)
{
    const struct sched_target *x = a, *y = b;
    int order = strcmp(x->transport, y->transport);

    if (!order)
        order = strcmp(x->nexthop, y->nexthop);
    if (!order && x->recipient != y->recipient)
        order = x->recipient < y->recipient ? -1 : 1;
    return order;
}

static struct sched_job *
job_new(struct sched *sched, struct sched_message *message, struct arena *arena, const char *transport, usec_t now)
{
    struct sched_job *job = ARENA_NEW(arena, struct sched_job);

    job->transport = find_transport(sched, transport);
    job->rank = ++job->transport->back_rank;
    job->queued = now;
    list_init(&job->peers);
    list_append(&message->jobs, &job->of_message);
    list_append(&job->transport->jobs, &job->of_transport);
    job->transport->nobody_preempts = false;
    return job;
}

/* The job that an earlier part of the message has there, or a new one. */
static struct sched_job *
job_for(struct sched *sched, struct sched_message *message, struct arena *arena, const char *transport, usec_t now)
{
    LIST_EACH(link, &message->jobs)
    {
        struct sched_job *job = LIST_ENTRY(link, struct sched_job, of_message);
        struct list *at = &job->transport->jobs;

        if (strcmp(job->transport->name, transport) != 0)
            continue;
        if (!list_is_linked(&job->of_transport)) {
            while (at->prev != &job->transport->jobs &&
                   LIST_ENTRY(at->prev, struct sched_job, of_transport)->rank > job->rank)
                at = at->prev;
            list_insert_before(at, &job->of_transport);
        }
        job->transport->nobody_preempts = false;
        return job;
    }
    return job_new(sched, message, message->arena ? message->arena : arena, transport, now);
}

/* Behind those whose job has a lower rank: at the end, but for further recipients of a message. */
static void
peer_enter_queue(struct sched_peer *peer)
{
    struct list *at = &peer->queue->peers;

    while (at->prev != &peer->queue->peers &&
           LIST_ENTRY(at->prev, struct sched_peer, of_queue)->job->rank > peer->job->rank)
        at = at->prev;
    list_insert_before(at, &peer->of_queue);
}

static struct sched_peer *
peer_new(struct sched_job *job, struct arena *arena, const struct sched_target *target, usec_t now)
{
    struct sched_peer *peer = ARENA_NEW(arena, struct sched_peer);
    const char *name = target->nexthop;

    /* One recipient in a request: the queue is the recipient's, so that the limits hold for each mailbox. */
    if (job->transport->limits.recipient_limit == 1) {
        const char *at = strrchr(target->address, '@');
        int local = at ? (int)(at - target->address) : (int)strlen(target->address);
        name = arena_printf(arena, "%.*s@%s", local, target->address, target->nexthop);
    }
    peer->job = job;
    peer->queue = find_queue(job->transport, name, target->nexthop, now);
    list_init(&peer->entries);
    list_append(&job->peers, &peer->of_job);
    peer_enter_queue(peer);
    return peer;
}

static void
entry_add(struct sched *sched, struct sched_message *message, struct arena *arena, struct sched_peer *peer,
          const struct sched_target *targets, unsigned count)
{
    struct sched_entry *entry = ARENA_NEW(arena, struct sched_entry);

    entry->message = message;
    entry->peer = peer;
    entry->count = count;
    entry->recipients = arena_array(arena, count, sizeof(uint32_t));
    for (unsigned i = 0; i < count; i++)
        entry->recipients[i] = targets[i].recipient;
    message->open++;
    peer->job->entries++;
    peer->job->recipients += count;
    peer->job->transport->recipients += count;
    list_append(peer->queue->window.size > 0 ? &peer->entries : &sched->put_off, &entry->link);
}

/* Takes a peer without waiting entries, and then its job, out of the order. */
static void
peer_update(struct sched_peer *peer)
{
    struct sched_job *job = peer->job;

    if (list_is_empty(&peer->entries)) {
        list_remove(&peer->of_queue);
        list_remove(&peer->of_job);
    }
    queue_update(peer->queue);
    if (list_is_empty(&job->peers))
        list_remove(&job->of_transport);
}

void
sched_add(struct sched *sched, struct sched_message *message, struct arena *arena, struct sched_target *targets,
          unsigned count, usec_t now)
{
    struct sched_job *job = NULL;

    if (!message->jobs.next)
        list_init(&message->jobs);
    if (count > 1)
        qsort(targets, count, sizeof(*targets), compare_targets);
    for (unsigned i = 0, n; i < count; i += n) {
        const struct sched_target *first = &targets[i];
        struct sched_peer *peer;
        unsigned limit, most;

        if (!job || strcmp(job->transport->name, first->transport) != 0)
            job = job_for(sched, message, arena, first->transport, now);
        limit = job->transport->limits.recipient_limit;
        most = message->one_each ? 1 : limit;
        peer = peer_new(job, arena, first, message->tries_dead ? INT64_MAX : now);
        n = 0;
        do {
            unsigned size = 0;
            while (i + n + size < count && (most == 0 || size < most) &&
                   strcmp(targets[i + n + size].nexthop, first->nexthop) == 0 &&
                   strcmp(targets[i + n + size].transport, first->transport) == 0)
                size++;
            if (size == 0)
                break;
            entry_add(sched, message, arena, peer, &targets[i + n], size);
            n += size;
        } while (limit != 1);
        peer_update(peer);
    }
}

/* ---- Choosing ---- */

static bool
can_start(const struct sched_job *job)
{
    LIST_EACH(link, &job->peers)
    {
        if (LIST_ENTRY(link, struct sched_peer, of_job)->queue->heap_index)
            return true;
    }
    return false;
}

/* The waiting job that has earned it most to pass `current`, of those that fit the slots that current has earned. */
static struct sched_job *
find_candidate(struct sched_transport *transport, const struct sched_job *current, usec_t now)
{
    const struct sched_limits *limits = &transport->limits;
    int64_t earned = (int64_t)(current->selected / limits->slot_cost) - current->slots_used;
    int64_t fits =
        limits->slot_discount < 100 ? (earned + limits->slot_loan) * 100 / (100 - limits->slot_discount) : INT64_MAX;
    struct sched_job *best = NULL;
    double best_score = 0;
    unsigned looked_at = 0;

    if (fits <= 0)
        return NULL;
    LIST_EACH(link, &transport->jobs)
    {
        struct sched_job *job = LIST_ENTRY(link, struct sched_job, of_transport);
        double score;

        if (++looked_at > CANDIDATES_LOOKED_AT)
            break;
        if (job == current || job->selected > 0 || job->rank < current->rank || job->entries > fits ||
            job->entries >= current->entries - current->selected)
            continue;
        score = (double)(now - job->queued + 1) * job->recipients / job->entries;
        if (score > best_score && can_start(job)) {
            best_score = score;
            best = job;
        }
    }
    return best;
}

static void
preempt(struct sched_transport *transport, struct sched_job *current, struct sched_job *job)
{
    current->slots_used += job->entries;
    /* The heap is put right for one changed queue at a time: so all that the rank concerns leave it first. */
    LIST_EACH(link, &job->peers)
    {
        struct sched_queue *queue = LIST_ENTRY(link, struct sched_peer, of_job)->queue;
        if (queue->heap_index)
            heap_remove(queue);
    }
    job->rank = --transport->front_rank;
    list_remove(&job->of_transport);
    list_prepend(&transport->jobs, &job->of_transport);
    LIST_EACH(link, &job->peers)
    {
        struct sched_peer *peer = LIST_ENTRY(link, struct sched_peer, of_job);
        list_remove(&peer->of_queue);
        list_prepend(&peer->queue->peers, &peer->of_queue);
        queue_update(peer->queue);
    }
}

/* Before `current` goes on: may a smaller job pass? */
static void
consider_preemption(struct sched_transport *transport, struct sched_job *current, usec_t now)
{
    const struct sched_limits *limits = &transport->limits;
    struct sched_job *job;

    if (limits->slot_cost == 0 || current->entries < limits->minimum_slots * limits->slot_cost ||
        transport->nobody_preempts)
        return;
    job = find_candidate(transport, current, now);
    if (job)
        preempt(transport, current, job);
    else
        transport->nobody_preempts = true;
}

static struct sched_entry *
choose(struct sched_transport *transport, usec_t now)
{
    struct sched_peer *peer = LIST_ENTRY(transport->heap[0]->peers.next, struct sched_peer, of_queue);
    struct sched_queue *queue;
    struct sched_entry *entry;

    consider_preemption(transport, peer->job, now);
    queue = transport->heap[0];
    peer = LIST_ENTRY(queue->peers.next, struct sched_peer, of_queue);
    entry = LIST_ENTRY(list_pop(&peer->entries), struct sched_entry, link);
    peer->job->selected++;
    if (transport->limits.slot_cost && peer->job->selected % transport->limits.slot_cost == 0)
        transport->nobody_preempts = false;
    queue->served = ++transport->serving;
    queue->busy++;
    transport->busy++;
    if (transport->limits.transport_rate_delay)
        transport->sleep_until = now + transport->limits.transport_rate_delay;
    peer_update(peer);
    return entry;
}

static bool
transport_can_send(struct sched_transport *transport, usec_t now)
{
    if (transport->sleep_until && now >= transport->sleep_until)
        transport->sleep_until = 0;
    return transport->heap_count > 0 && !transport->sleep_until &&
           (transport->limits.request_limit == 0 || transport->busy < transport->limits.request_limit);
}

static void
wake_sleepers(struct sched *sched, usec_t now)
{
    LIST_EACH(link, &sched->sleeping_queues)
    {
        struct sched_queue *queue = LIST_ENTRY(link, struct sched_queue, sleeper);
        if (now < queue->sleep_until)
            continue;
        queue->sleep_until = 0;
        list_remove(&queue->sleeper);
        queue_update(queue);
    }
}

static void
give_back_put_off(struct sched *sched)
{
    struct list *link;

    while ((link = list_pop(&sched->put_off))) {
        struct sched_entry *entry = LIST_ENTRY(link, struct sched_entry, link);
        const struct sched_queue *queue = entry->peer->queue;
        sched->hooks.put_off(sched->ctx, entry, queue->dead_status, queue->dead_reason);
    }
}

void
sched_run(struct sched *sched, usec_t now)
{
    bool sent;

    check(!sched->running);
    sched->running = true;
    wake_sleepers(sched, now);
    do {
        sent = false;
        give_back_put_off(sched);
        LIST_EACH(link, &sched->turns)
        {
            struct sched_transport *transport = LIST_ENTRY(link, struct sched_transport, turn);
            if (!transport_can_send(transport, now))
                continue;
            sched->hooks.deliver(sched->ctx, choose(transport, now));
            sent = true;
        }
    } while (sent || !list_is_empty(&sched->put_off));
    sched->running = false;
}

usec_t
sched_next_wakeup(const struct sched *sched)
{
    usec_t next = 0;

    LIST_EACH(link, &sched->sleeping_queues)
    {
        const struct sched_queue *queue = LIST_ENTRY(link, struct sched_queue, sleeper);
        if (!next || queue->sleep_until < next)
            next = queue->sleep_until;
    }
    LIST_EACH(link, &sched->turns)
    {
        const struct sched_transport *transport = LIST_ENTRY(link, struct sched_transport, turn);
        if (transport->sleep_until && transport->heap_count > 0 && (!next || transport->sleep_until < next))
            next = transport->sleep_until;
    }
    return next;
}

/* ---- Results ---- */

/* All that waits for a dead queue is given back by the next sched_run(). */
static void
queue_die(struct sched_queue *queue, const char *status, const char *reason, usec_t until)
{
    struct sched *sched = queue->transport->sched;

    set_dead(queue, status, reason, until);
    while (!list_is_empty(&queue->peers)) {
        struct sched_peer *peer = LIST_ENTRY(queue->peers.next, struct sched_peer, of_queue);
        struct list *link;
        while ((link = list_pop(&peer->entries)))
            list_append(&sched->put_off, link);
        peer_update(peer);
    }
}

static void
apply_feedback(struct sched_queue *queue, enum sched_outcome outcome, const char *status, const char *reason,
               usec_t now)
{
    const struct window_limits *limits = &queue->transport->limits.window;

    if (outcome == SCHED_OK)
        window_succeeded(&queue->window, limits, queue->busy);
    else if (outcome == SCHED_BUSY)
        window_shrink(&queue->window, limits);
    else if (outcome == SCHED_DEAD && window_failed(&queue->window, limits))
        queue_die(queue, status, reason, now + queue->transport->limits.dead_time);
}

static void
entry_end(struct sched_entry *entry)
{
    struct sched_transport *transport = entry->peer->job->transport;

    check(entry->message->open > 0 && transport->recipients >= entry->count);
    entry->message->open--;
    transport->recipients -= entry->count;
}

static void
give_place_back(struct sched_queue *queue, usec_t now)
{
    check(queue->busy > 0 && queue->transport->busy > 0);
    queue->busy--;
    queue->transport->busy--;
    if (queue->busy == 0)
        queue->idle_since = now;
}

void
sched_finish(struct sched *sched, struct sched_entry *entry, enum sched_outcome outcome, const char *status,
             const char *reason, usec_t now)
{
    struct sched_queue *queue = entry->peer->queue;

    (void)sched;
    apply_feedback(queue, outcome, status, reason, now);
    give_place_back(queue, now);
    if (queue->transport->limits.rate_delay && queue->window.size > 0)
        fall_asleep(queue, now + queue->transport->limits.rate_delay);
    queue_update(queue);
    entry_end(entry);
}

void
sched_finish_put_off(struct sched *sched, struct sched_entry *entry)
{
    (void)sched;
    entry_end(entry);
}

/* The peer, and its job, into the order again. */
static void
peer_reinsert(struct sched_peer *peer)
{
    struct list *at;

    if (!list_is_linked(&peer->of_job))
        list_append(&peer->job->peers, &peer->of_job);
    if (!list_is_linked(&peer->of_queue)) {
        for (at = peer->queue->peers.next; at != &peer->queue->peers; at = at->next)
            if (LIST_ENTRY(at, struct sched_peer, of_queue)->job->rank > peer->job->rank)
                break;
        list_insert_before(at, &peer->of_queue);
    }
    if (!list_is_linked(&peer->job->of_transport)) {
        for (at = peer->job->transport->jobs.next; at != &peer->job->transport->jobs; at = at->next)
            if (LIST_ENTRY(at, struct sched_job, of_transport)->rank > peer->job->rank)
                break;
        list_insert_before(at, &peer->job->of_transport);
    }
}

void
sched_retry(struct sched *sched, struct sched_entry *entry, usec_t pause, usec_t now)
{
    struct sched_queue *queue = entry->peer->queue;

    give_place_back(queue, now);
    entry->attempts++;
    entry->peer->job->selected--;
    if (queue->window.size > 0) {
        list_prepend(&entry->peer->entries, &entry->link);
        peer_reinsert(entry->peer);
    } else {
        list_append(&sched->put_off, &entry->link);
    }
    if (queue->transport->sleep_until < now + pause)
        queue->transport->sleep_until = now + pause;
    queue_update(queue);
}

void
sched_fail_transport(struct sched *sched, const char *name, const char *status, const char *reason, usec_t now,
                     usec_t dead_time)
{
    struct sched_transport *transport = find_transport(sched, name);
    size_t position = 0;
    void *queue;

    set_text(&transport->dead_status, status);
    set_text(&transport->dead_reason, reason);
    transport->dead_until = now + dead_time;
    transport->sleep_until = 0;
    while (map_next(transport->queues, &position, NULL, &queue))
        queue_die(queue, status, reason, transport->dead_until);
}

void
sched_withdraw(struct sched *sched, struct sched_message *message)
{
    if (!message->jobs.next)
        return;
    LIST_EACH(link, &sched->put_off)
    {
        struct sched_entry *entry = LIST_ENTRY(link, struct sched_entry, link);
        if (entry->message == message) {
            list_remove(link);
            entry_end(entry);
        }
    }
    LIST_EACH(job_link, &message->jobs)
    {
        struct sched_job *job = LIST_ENTRY(job_link, struct sched_job, of_message);
        LIST_EACH(peer_link, &job->peers)
        {
            struct sched_peer *peer = LIST_ENTRY(peer_link, struct sched_peer, of_job);
            struct list *link;
            while ((link = list_pop(&peer->entries)))
                entry_end(LIST_ENTRY(link, struct sched_entry, link));
            peer_update(peer);
        }
    }
}

/* ---- The rest ---- */

static void
revive_queue(struct sched_queue *queue)
{
    if (queue->window.size == 0)
        window_init(&queue->window, &queue->transport->limits.window);
    queue->dead_until = 0;
    queue_update(queue);
}

void
sched_revive(struct sched *sched)
{
    size_t position = 0, inner;
    void *value, *queue;

    while (map_next(sched->transports, &position, NULL, &value)) {
        struct sched_transport *transport = value;

        transport->sleep_until = transport->dead_until = 0;
        inner = 0;
        while (map_next(transport->queues, &inner, NULL, &queue))
            revive_queue(queue);
    }
}

static bool
queue_is_forgettable(const struct sched_queue *queue, usec_t now)
{
    return queue->busy == 0 && list_is_empty(&queue->peers) && !queue->sleep_until && now >= queue->dead_until &&
           now >= queue->idle_since + SECONDS(QUEUE_IDLE_SECONDS);
}

void
sched_sweep(struct sched *sched, usec_t now)
{
    size_t position = 0, inner;
    void *value;
    struct slice key;

    /* An entry that was given out or put off names its queue: those of dead queues have not ended. */
    if (!list_is_empty(&sched->put_off))
        return;
    while (map_next(sched->transports, &position, NULL, &value)) {
        struct sched_transport *transport = value;
        inner = 0;
        while (map_next(transport->queues, &inner, &key, &value))
            if (queue_is_forgettable(value, now)) {
                map_remove(transport->queues, key);
                queue_free(value);
            }
    }
}

const char *
sched_entry_transport(const struct sched_entry *entry)
{
    return entry->peer->job->transport->name;
}

const char *
sched_entry_nexthop(const struct sched_entry *entry)
{
    return entry->peer->queue->nexthop;
}

bool
sched_entry_has_followers(const struct sched_entry *entry)
{
    return !list_is_empty(&entry->peer->queue->peers);
}

unsigned
sched_room(const struct sched_message *message)
{
    unsigned room = INT_MAX;

    if (!message->jobs.next)
        return room;
    LIST_EACH(link, &message->jobs)
    {
        const struct sched_transport *transport = LIST_ENTRY(link, struct sched_job, of_message)->transport;
        unsigned limit = transport->limits.memory_limit;
        unsigned left = limit > transport->recipients ? limit - transport->recipients : 0;

        if (left < room)
            room = left;
    }
    return room;
}

int
sched_window(struct sched *sched, const char *transport, const char *name)
{
    struct sched_transport *found = map_get_text(sched->transports, transport);
    struct sched_queue *queue = found ? map_get_text(found->queues, name) : NULL;

    return queue ? (int)queue->window.size : -1;
}
