/* SPDX-License-Identifier: Apache-2.0 */
/* showq(8): lists the queue to whoever connects; see lib/mail/queue_list.h for the form. */
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/conf/conf.h"
#include "lib/mail/addr.h"
#include "lib/mail/messages.h"
#include "lib/mail/queue_dir.h"
#include "lib/mail/queue_list.h"
#include "lib/run/loop.h"
#include "lib/run/stream.h"
#include "lib/service/service.h"

enum { FILES_AT_ONCE = 50 };
#define QMGR_TIME   SECONDS(10)
#define CLIENT_TIME SECONDS(3600)

static struct queue_dir dir;
static const char *qmgr_service;

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    (void)sandbox;
    qmgr_service = conf_string(conf, service_arena(), "queue_service_name", err);
    return qmgr_service ? queue_dir_open(&dir, ".", conf, service_arena(), err) : -1;
}

/* ---- what is in the journal: only qmgr knows ---- */

static void
put_group(const struct queue_entry *entries, size_t count, struct arena *arena, struct buf *out)
{
    struct queue_list_message message = {.queue = "active",
                                         .id = entries->queue_id,
                                         .sender =
                                             *entries->sender ? addr_quote(arena, entries->sender) : "MAILER-DAEMON",
                                         .time = entries->arrival_sec,
                                         .size = entries->size};

    message.recipients = arena_array(arena, count, sizeof(*message.recipients));
    for (size_t i = 0; i < count; i++)
        message.recipients[message.recipient_count++] =
            (struct queue_list_recipient){addr_quote(arena, entries[i].recipient), entries[i].reason};
    queue_list_encode(&message, out);
}

/* seen gets the ids. A qmgr that does not answer has nothing in the journal that could be shown. */
static void may_wait
put_journal(struct arena *arena, struct map *seen, struct buf *out)
{
    static char something;
    struct msg_queue_control control = {.command = "list", .queue_id = ""};
    struct link *link =
        link_connect(service_socket_path(arena_printf(arena, "public/%s", qmgr_service)), NULL, 0, NULL, NULL);
    struct link_message reply;
    struct err err;

    if (link_call(link, arena, &type_queue_control, &control, slice_make(NULL, 0), NULL, 0, &type_queue_list, &reply,
                  loop_now() + QMGR_TIME, &err) < 0) {
        log_warning("queue manager: %s", err.text);
    } else {
        const struct msg_queue_list *list = reply.message;
        link_close_fds(&reply);
        for (size_t i = 0, n; i < list->entry_count; i += n) {
            for (n = 1;
                 i + n < list->entry_count && strcmp(list->entries[i].queue_id, list->entries[i + n].queue_id) == 0;)
                n++;
            map_put_text(seen, list->entries[i].queue_id, &something);
            put_group(&list->entries[i], n, arena, out);
        }
    }
    link_free(&link);
}

/* ---- files ---- */

struct batch {
    struct queue_walk *walk;
    const char *queue;
    const struct map *seen;
    struct buf out;
    bool at_end;
    unsigned failed;
    struct err err; /* of the last that failed */
};

/* In a thread of the pool. */
static void
read_batch(void *arg)
{
    struct batch *batch = arg;
    struct arena *arena = arena_new();
    struct queue_list_message message;
    const char *id;
    bool found;

    for (unsigned i = 0; i < FILES_AT_ONCE; i++) {
        int result = queue_walk_next(batch->walk, &id, NULL, &batch->err);
        if (result == 0) {
            batch->at_end = true;
            break;
        }
        if (result < 0) {
            batch->failed++;
            continue;
        }
        if (map_get_text(batch->seen, id))
            continue;
        if (queue_list_read(&dir, arena, batch->queue, id, &message, &found, &batch->err) < 0)
            batch->failed++;
        else if (found)
            queue_list_encode(&message, &batch->out);
        arena_reset(arena);
    }
    arena_free(&arena);
}

static int may_wait
send_queue(struct stream *stream, const char *queue, const struct map *seen, struct err *err)
{
    struct batch batch = {.queue = queue, .seen = seen, .walk = queue_walk_new(&dir, queue)};
    int result = 0;

    while (result == 0 && !batch.at_end) {
        buf_clear(&batch.out);
        task_run_blocking(read_batch, &batch);
        stream_write(stream, batch.out.ptr, batch.out.len);
        result = stream_flush(stream, err);
    }
    if (batch.failed > 0)
        log_warning("queue %s: %u files not shown; %s", queue, batch.failed, batch.err.text);
    queue_walk_free(&batch.walk);
    buf_release(&batch.out);
    return result;
}

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    struct stream *stream = stream_new(fd);
    struct arena *arena = arena_new();
    struct map *seen = map_new();
    struct buf out = {0};
    struct err err;
    int result;

    (void)peer;
    (void)socket;
    stream_set_deadline(stream, loop_now() + CLIENT_TIME);
    /* In the order in which a message passes, so that none that moves on meanwhile is left out: maildrop, journal, files. */
    result = send_queue(stream, queue_dir_all[0], seen, &err);
    if (result == 0)
        put_journal(arena, seen, &out);
    stream_write(stream, out.ptr, out.len);
    for (unsigned i = 1; queue_dir_all[i] && result == 0; i++)
        result = send_queue(stream, queue_dir_all[i], seen, &err);
    buf_clear(&out);
    queue_list_encode_end(&out);
    stream_write(stream, out.ptr, out.len);
    if (result == 0 && stream_flush(stream, &err) < 0)
        log_debug("client: %s", err.text);
    buf_release(&out);
    map_free(&seen, NULL);
    arena_free(&arena);
    stream_free(&stream);
}

static const struct service showq_service = {
    .program = "showq",
    .prepare = prepare,
    .serve = serve,
    .overlaps = true,
    .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_UNIX | SANDBOX_READ | SANDBOX_THREADS,
                .read_paths = (const char *const[]){".", NULL}},
};

int
main(int argc, char **argv)
{
    return service_main(argc, argv, &showq_service);
}
