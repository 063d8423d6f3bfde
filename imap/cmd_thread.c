/* SPDX-License-Identifier: Apache-2.0 */
/* THREAD (RFC 5256). */
#include <string.h>

#include "imap/cache.h"
#include "imap/search.h"
#include "imap/session.h"
#include "imap/sort.h"
#include "imap/thread.h"

static const struct algorithm {
    const char *name;
    struct thread_node *(*run)(struct arena *, struct thread_message *, size_t count);
} algorithms[] = {
    {"ORDEREDSUBJECT", thread_by_subject},
    {"REFERENCES", thread_by_references},
    {"REFS", thread_by_refs},
};

static void
fill(struct session *s, struct thread_message *m, const struct index_cached *cached)
{
    struct folder *folder = s->selected->folder;
    struct slice rest = arena_slice(s->cmd, cached->texts[INDEX_REFERENCES]), id;
    unsigned most = 0;
    m->subject = arena_slice(s->cmd, cached->texts[INDEX_SUBJECT]);
    m->is_reply = cached->is_reply;
    m->id = arena_slice(s->cmd, cached->texts[INDEX_ID]);
    m->sent = sort_sent_date(folder, folder_find(folder, m->uid), cached);
    for (size_t i = 0; i < rest.len; i++)
        most += rest.ptr[i] == '\0';
    m->references = arena_array(s->cmd, most + 1, sizeof(*m->references));
    while (slice_cut(&rest, '\0', &id))
        m->references[m->reference_count++] = id;
}

static int may_wait
load(struct session *s, struct thread_message *messages, const uint32_t *uids, size_t count, struct err *err)
{
    enum { TURN = 256 };
    struct arena *arena = arena_new();
    int result = 0;
    for (size_t i = 0; result == 0 && i < count; i++) {
        struct index_cached cached;
        messages[i] = (struct thread_message){.uid = uids[i]};
        if (cache_get(s->selected->folder, uids[i], arena, &cached, err) < 0)
            result = -1;
        fill(s, &messages[i], &cached);
        arena_reset(arena);
        if (i % TURN == TURN - 1 && task_yield(err) < 0)
            result = -1;
    }
    arena_free(&arena);
    folder_cache_flush(s->selected->folder);
    return result;
}

static void
put_number(struct session *s, const struct thread_node *node, struct buf *out)
{
    if (node->message)
        buf_printf(out, "%u", s->by_uid ? node->message->uid : (uint32_t)view_sequence(&s->view, node->message->uid));
}

/* "(1 2 (3)(4 5))", walked without recursion, for threads may be deep. */
static void
put_thread(struct session *s, const struct thread_node *root, struct buf *out)
{
    const struct thread_node *node = root;
    buf_append_byte(out, '(');
    for (;;) {
        put_number(s, node, out);
        if (node->child) {
            if (node->child->next)
                buf_append_text(out, node->message ? " (" : "(");
            else if (node->message)
                buf_append_byte(out, ' ');
            node = node->child;
            continue;
        }
        while (node != root && !node->next) { /* the last of its siblings */
            if (node->parent->child != node)
                buf_append_byte(out, ')');
            node = node->parent;
        }
        if (node == root)
            break;
        buf_append_text(out, ")(");
        node = node->next;
    }
    buf_append_byte(out, ')');
}

static int
parse_thread(struct session *s, const struct algorithm **algorithm, struct slice *charset)
{
    if (imap_space(&s->in) < 0)
        return -1;
    *algorithm = NULL;
    for (size_t i = 0; i < ARRAY_LEN(algorithms) && !*algorithm; i++)
        if (imap_keyword(&s->in, algorithms[i].name))
            *algorithm = &algorithms[i];
    if (!*algorithm)
        return imap_fail(&s->in, "unknown threading algorithm");
    if (imap_space(&s->in) < 0 || imap_astring(&s->in, charset) < 0)
        return -1;
    return imap_space(&s->in);
}

static void may_wait
tell_threads(struct session *s, const struct thread_node *root)
{
    struct buf out = {0};
    buf_append_text(&out, root ? "* THREAD " : "* THREAD");
    for (; root; root = root->next)
        put_thread(s, root, &out);
    buf_append_text(&out, "\r\n");
    session_write(s, buf_slice(&out));
    buf_release(&out);
}

struct imap_reply
cmd_thread(struct session *s)
{
    struct slice charset;
    struct err err;
    uint32_t *uids;
    size_t count;
    const struct algorithm *algorithm;

    struct search *search = parse_thread(s, &algorithm, &charset) < 0 ? NULL : search_parse(s, charset);
    if (!search)
        return imap_bad(s);
    if (search_run(s, search, &uids, &count, &err) < 0)
        return imap_error(s, &err);
    struct thread_message *messages = arena_array(s->cmd, count + 1, sizeof(*messages));
    if (load(s, messages, uids, count, &err) < 0)
        return imap_error(s, &err);
    tell_threads(s, algorithm->run(s->cmd, messages, count));
    return imap_ok("Thread completed.");
}
