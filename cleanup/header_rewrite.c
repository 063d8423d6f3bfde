/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses in headers: completed and mapped where they stand; all else of a header stays as it is. */
#include <string.h>

#include "cleanup/message.h"
#include "cleanup/server.h"
#include "lib/base/buf.h"
#include "lib/mail/addr.h"
#include "lib/mail/header_addr.h"

enum { FOLD_AT = 78, LINE_LIMIT = 900 };

/* What is in one header, and what it becomes. */
struct change {
    struct message *m;
    enum addr_role role;
    bool maps;
    struct header_addr *found;
    const char **news;
    unsigned count, room;
    bool any;
};

static void
make_room(struct change *c)
{
    if (c->count < c->room)
        return;
    c->room = c->room ? c->room * 4 : 4;
    struct header_addr *found = arena_array(c->m->arena, c->room, sizeof *found);
    const char **news = arena_array(c->m->arena, c->room, sizeof *news);
    if (c->count) {
        memcpy(found, c->found, c->count * sizeof *found);
        memcpy(news, c->news, c->count * sizeof *news);
    }
    c->found = found;
    c->news = news;
}

static int may_wait
map_one(struct change *c, struct header_addr addr)
{
    const char *result;

    if (!*addr.raw)
        return 0;
    make_room(c);
    result = addr_map_complete(c->m->arena, c->m->header_form, &addr);
    if (c->maps && message_map_address(c->m, result, c->role, &result) < 0)
        return -1;
    c->found[c->count] = addr;
    c->news[c->count] = result == addr.raw || strcmp(result, addr.raw) == 0 ? NULL : result;
    c->any |= c->news[c->count++] != NULL;
    return 0;
}

/* A line that grew beyond what servers take is broken behind its commas. */
static void
fold(struct buf *text)
{
    struct buf out = {0};
    size_t column = 0;
    bool quoted = false;

    for (size_t i = 0; i < text->len; i++) {
        char c = text->ptr[i];
        if (c == '"' && (i == 0 || text->ptr[i - 1] != '\\'))
            quoted = !quoted;
        buf_append_byte(&out, c);
        column = c == '\n' ? 0 : column + 1;
        if (c == ',' && !quoted && column > FOLD_AT && i + 1 < text->len && text->ptr[i + 1] == ' ') {
            buf_append(&out, "\r\n", 2);
            column = 0;
        }
    }
    buf_release(text);
    *text = out;
}

static bool
has_long_line(struct slice text)
{
    struct slice line;

    while (slice_cut(&text, '\n', &line))
        if (line.len > LINE_LIMIT)
            return true;
    return false;
}

static struct slice
rewritten(struct change *c, struct slice head, struct slice value)
{
    struct buf out = {0};

    buf_append_slice(&out, head);
    header_addr_replace(c->m->arena, value, c->found, c->news, c->count, &out);
    if (has_long_line(buf_slice(&out)))
        fold(&out);
    buf_append(&out, "\r\n", 2);
    struct slice result = slice_make(arena_strndup(c->m->arena, out.ptr, out.len), out.len);
    buf_release(&out);
    return result;
}

int may_wait
header_rewrite(struct message *m, enum addr_role role, struct slice *all, struct slice value)
{
    struct change c = {.m = m, .role = role, .maps = addr_rewriter_has_maps(server.rewriter, role)};
    struct header_addr_scan scan = {.text = value, .token_limit = (unsigned)server.settings.header_address_token_limit};
    struct header_addr addr;

    while (header_addr_next(m->arena, &scan, &addr))
        if (map_one(&c, addr) < 0)
            return -1;
    if (!c.any)
        return 0;
    if (scan.is_cut) /* what comes behind the limit is dropped */
        value.len = c.found[c.count - 1].end + (value.len > c.found[c.count - 1].end &&
                                                value.ptr[c.found[c.count - 1].end] == '>');
    *all = rewritten(&c, slice_make(all->ptr, (size_t)(value.ptr - all->ptr)), value);
    return 0;
}
