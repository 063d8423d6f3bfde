/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/segment_feed.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/mail/messages.h"

struct segment_feed {
    struct list segments;
};

struct fed_segment {
    struct list link;
    int64_t number, generation;
    struct journal_segment_info info;
    int fd;
    unsigned users; /* those who read, and one for the feed */
};

struct segment_feed *
segment_feed_new(void)
{
    struct segment_feed *feed = calloc(1, sizeof(*feed));

    if (!feed)
        fatal("out of memory");
    list_init(&feed->segments);
    return feed;
}

void
segment_feed_drop(struct fed_segment *segment)
{
    if (!segment || --segment->users > 0)
        return;
    close(segment->fd);
    free(segment);
}

static void
forget(struct fed_segment *segment)
{
    list_remove(&segment->link);
    segment_feed_drop(segment);
}

void
segment_feed_free(struct segment_feed **feed)
{
    if (!*feed)
        return;
    LIST_EACH(link, &(*feed)->segments)
    forget(LIST_ENTRY(link, struct fed_segment, link));
    free(*feed);
    *feed = NULL;
}

static struct fed_segment *
find(const struct segment_feed *feed, int64_t number, int64_t generation)
{
    LIST_EACH(link, &feed->segments)
    {
        struct fed_segment *segment = LIST_ENTRY(link, struct fed_segment, link);
        if (segment->number == number && segment->generation == generation)
            return segment;
    }
    return NULL;
}

static bool
is_as_told(int fd, const struct msg_segment *told, struct journal_segment_info *info)
{
    struct err err;

    if (journal_segment_read(fd, info, &err) < 0)
        log_warning("journal segment %08" PRIX64 ": %s", told->segment, err.text);
    else if (info->segment == told->segment && info->generation == told->generation)
        return true;
    return false;
}

void
segment_feed_take(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_segment *message = in->message;
    struct segment_feed *feed = ctx;
    struct fed_segment *segment = find(feed, message->segment, message->generation);
    struct journal_segment_info info;

    (void)request;
    if (segment)
        forget(segment);
    if (message->gone || in->fd_count != 1) {
        link_close_fds(in);
        return;
    }
    if (!is_as_told(in->fds[0], message, &info)) {
        link_close_fds(in);
        return;
    }
    segment = calloc(1, sizeof(*segment));
    if (!segment)
        fatal("out of memory");
    *segment = (struct fed_segment){
        .number = message->segment, .generation = message->generation, .info = info, .fd = in->fds[0], .users = 1};
    in->fd_count = 0;
    list_append(&feed->segments, &segment->link);
}

struct fed_segment *
segment_feed_hold(struct segment_feed *feed, int64_t number, int64_t generation)
{
    struct fed_segment *segment = find(feed, number, generation);

    if (segment)
        segment->users++;
    return segment;
}

int
fed_segment_fd(const struct fed_segment *segment)
{
    return segment->fd;
}

const struct journal_segment_info *
fed_segment_info(const struct fed_segment *segment)
{
    return &segment->info;
}
