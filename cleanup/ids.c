/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers for queue ids. A block is taken from the journal's file at a time, and given out in smaller ranges. */
#include "cleanup/server.h"
#include "lib/base/log.h"
#include "lib/mail/messages.h"

enum { BLOCK = 32 * 1024 };

static struct {
    uint64_t next, end;
    bool fetching;
    struct task_cond fetched;
} ids;

/* One task fetches, others wait for it. */
static int may_wait
fetch(struct err *err)
{
    uint64_t first;
    int result;

    if (ids.fetching)
        return task_wait(&ids.fetched, NO_DEADLINE, err);
    ids.fetching = true;
    result = journal_take_ids("journal", BLOCK, &first, err);
    ids.fetching = false;
    if (result == 0) {
        ids.next = first;
        ids.end = first + BLOCK;
    }
    task_wake_all(&ids.fetched);
    return result;
}

void
ids_give(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_want_ids *want = in->message;
    struct msg_ids answer = {0};
    struct err err;

    (void)ctx;
    link_close_fds(in);
    while (ids.next == ids.end)
        if (fetch(&err) < 0) {
            if (err.kind != ERR_CANCELLED)
                log_warning("no numbers for queue ids: %s", err.text);
            break;
        }
    answer.first = (int64_t)ids.next;
    answer.count = (int64_t)(ids.end - ids.next) < want->count ? (int64_t)(ids.end - ids.next) : want->count;
    ids.next += (uint64_t)answer.count;
    link_reply(request, &type_ids, &answer, slice_make(NULL, 0), NULL, 0);
}
