/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/search_fill.h"

#include <stdlib.h>
#include <string.h>

#include "imap/search_text.h"
#include "lib/base/check.h"
#include "lib/base/text.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"
#include "lib/store/fulltext.h"

enum { STEP = 8, FLUSH_AFTER = 1000 }; /* messages */
#define PAUSE 2000                     /* usec, behind each step, for who else wants something from the process */

struct fill {
    struct mailboxes *mailboxes;
    char *name;
    struct index_key key;
    uint32_t next; /* UID */
    unsigned added;
};

static struct fill *current;
static unsigned searches; /* that run now */

void
search_fill_hold(bool on)
{
    searches += on ? 1 : -1U;
}

bool
search_fill_is_running(void)
{
    return current != NULL;
}

static bool
add_piece(void *ctx, bool is_top, struct slice piece)
{
    (void)is_top;
    fulltext_add_piece(ctx, piece);
    return false;
}

/* A message that can't be read stays out. */
static void
add_message(struct fulltext *ft, struct folder *folder, uint32_t uid)
{
    struct folder_message *message = folder_find(folder, uid);
    struct folder_content content;
    struct err err;
    if (!message || fulltext_has(ft, folder, uid) || folder_read(folder, message, &content, &err) < 0)
        return;
    struct arena *arena = arena_new();
    fulltext_add_begin(ft);
    search_text_walk(arena, content.bytes, true, add_piece, ft);
    fulltext_add_end(ft, folder, uid);
    folder_content_release(&content);
    arena_free(&arena);
}

/* The mailbox is not held between two steps: it may be removed meanwhile. False: that was the last step. */
static bool
step(struct fill *fill)
{
    struct err err;
    struct fulltext *ft = mailboxes_fulltext(fill->mailboxes);
    struct open_mailbox *box = ft ? mailbox_open(fill->mailboxes, fill->name, &err) : NULL;
    if (!box)
        return false;
    struct index_key key = folder_key(box->folder);
    bool is_first = fill->next == 0, more = is_first || memcmp(&key, &fill->key, sizeof(key)) == 0;
    fill->key = key;
    for (unsigned i = 0; more && i < STEP; i++) {
        size_t at = folder_lower_bound(box->folder, fill->next);
        if (at == folder_count(box->folder)) {
            more = false;
        } else {
            uint32_t uid = folder_at(box->folder, at)->uid;
            add_message(ft, box->folder, uid);
            fill->next = uid + 1;
            more = fill->next > 0;
        }
    }
    mailbox_close(fill->mailboxes, box);
    fill->added += STEP;
    if (!more || fill->added % FLUSH_AFTER == 0)
        fulltext_flush(ft);
    return more && fulltext_is_usable(ft);
}

static void
run(void *arg)
{
    struct fill *fill = arg;
    struct err err;
    while ((searches > 0 || step(fill)) && task_sleep(PAUSE, &err) == 0)
        ;
    current = NULL;
    free(fill->name);
    free(fill);
}

void
search_fill_later(struct mailboxes *mailboxes, const char *name)
{
    if (current)
        return;
    current = calloc(1, sizeof(*current));
    if (!current)
        fatal("out of memory");
    current->mailboxes = mailboxes;
    current->name = text_copy(name);
    task_spawn(service_tasks(), "index", run, current);
}
