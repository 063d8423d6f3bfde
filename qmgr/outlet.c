/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/outlet.h"

#include <stdlib.h>

#include "lib/base/check.h"
#include "lib/base/map.h"
#include "lib/mail/messages.h"
#include "lib/service/service.h"

enum {
    LINKS_MOST = 16,
    LINK_BUSY = 100, /* outstanding on each: then another process may help */
};

/* A segment that the other side knows. */
struct told {
    uint32_t number, generation;
};

struct outlet_link {
    struct link *link;
    struct told *told;
    unsigned told_count, told_size;
};

struct outlet {
    const char *path;
    struct outlet_link links[LINKS_MOST];
    unsigned link_count;
};

static struct map *outlets;

/* A new connection has been told nothing yet. */
static void
on_closed(void *ctx, struct link *link)
{
    (void)link;
    ((struct outlet_link *)ctx)->told_count = 0;
}

struct outlet *
outlet_find(const char *service)
{
    struct outlet *outlet;

    if (!outlets)
        outlets = map_new();
    outlet = map_get_text(outlets, service);
    if (!outlet) {
        outlet = calloc(1, sizeof(*outlet));
        if (!outlet)
            fatal("out of memory");
        outlet->path = service_socket_path(service);
        map_put_text(outlets, service, outlet);
    }
    return outlet;
}

static struct outlet_link *
choose_link(struct outlet *outlet)
{
    struct outlet_link *best = outlet->link_count ? &outlet->links[0] : NULL;

    for (unsigned i = 1; i < outlet->link_count; i++)
        if (link_outstanding(outlet->links[i].link) < link_outstanding(best->link))
            best = &outlet->links[i];
    if (best && (link_outstanding(best->link) < LINK_BUSY || outlet->link_count == LINKS_MOST))
        return best;
    best = &outlet->links[outlet->link_count++];
    best->link = link_connect(outlet->path, NULL, 0, best, on_closed);
    return best;
}

static bool
is_told(const struct outlet_link *link, const struct segment *segment)
{
    for (unsigned i = link->told_count; i > 0; i--)
        if (link->told[i - 1].number == segment->number && link->told[i - 1].generation == segment->generation)
            return true;
    return false;
}

static int
tell_segment(struct outlet_link *link, const struct segment *segment, struct err *err)
{
    struct msg_segment message = {.segment = segment->number, .generation = segment->generation};

    if (is_told(link, segment))
        return 0;
    if (link_send(link->link, &type_segment, &message, slice_make(NULL, 0), &segment->fd, 1, err) < 0)
        return -1;
    if (link->told_count == link->told_size) {
        link->told_size = link->told_size ? 2 * link->told_size : 16;
        link->told = realloc(link->told, link->told_size * sizeof(*link->told));
        if (!link->told)
            fatal("out of memory");
    }
    link->told[link->told_count++] = (struct told){segment->number, segment->generation};
    return 0;
}

int
outlet_call(struct outlet *outlet, const struct message *message, int file_fd, const struct msg_type *type,
            const void *body, const struct msg_type *want,
            void (*done)(void *ctx, struct link_message *, const struct err *), void *ctx, struct err *err)
{
    struct outlet_link *link = choose_link(outlet);

    if (file_fd < 0 && tell_segment(link, message->segment, err) < 0)
        return -1;
    return link_call_async(link->link, type, body, message->hint, &file_fd, file_fd < 0 ? 0 : 1, want, done, ctx, err);
}

static void
untell(struct outlet_link *link, const struct segment *segment)
{
    struct msg_segment message = {.segment = segment->number, .generation = segment->generation, .gone = 1};

    for (unsigned i = 0; i < link->told_count; i++) {
        if (link->told[i].number != segment->number || link->told[i].generation != segment->generation)
            continue;
        link->told[i] = link->told[--link->told_count];
        /* If the link breaks just now, the other side closes all its segments anyway. */
        if (link_is_connected(link->link) &&
            link_send(link->link, &type_segment, &message, slice_make(NULL, 0), NULL, 0, NULL) < 0)
            return;
        return;
    }
}

void
outlet_forget_segment(const struct segment *segment)
{
    size_t position = 0;
    void *value;

    while (outlets && map_next(outlets, &position, NULL, &value)) {
        struct outlet *outlet = value;
        for (unsigned i = 0; i < outlet->link_count; i++)
            untell(&outlet->links[i], segment);
    }
}
