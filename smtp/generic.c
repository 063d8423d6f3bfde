/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/generic.h"

#include <string.h>

#include "lib/mail/addr_map.h"
#include "lib/mail/header_addr.h"

enum { HEADER_LIMIT = 1 << 20 }; /* of a header section that is rewritten; a larger one passes as it is */

struct generic {
    struct addr_map_rules rules;
    struct maps *maps;
    bool propagates;
};

int
generic_new(struct arena *arena, const struct conf *conf, const char *parameter, const char *maps,
            const char *propagate, struct generic **result, struct err *err)
{
    struct generic *generic = ARENA_NEW(arena, struct generic);

    *result = NULL;
    if (!slice_trim(slice_from(maps)).len)
        return 0;
    generic->maps = maps_new(arena, conf, parameter, maps, TABLE_FOLD_FIXED, err);
    if (!generic->maps || addr_map_rules_load(arena, conf, &generic->rules, err) < 0)
        return -1;
    generic->propagates = addr_map_propagates(propagate, "generic");
    *result = generic;
    return 0;
}

int may_wait
generic_address(struct arena *arena, const struct generic *generic, const char *address, const char **result,
                struct err *err)
{
    const char *const *results;
    unsigned count;

    *result = address;
    if (!generic || !*address)
        return 0;
    if (addr_map_find(arena, &generic->rules, generic->maps, address, generic->propagates, &results, &count, err) < 0)
        return -1;
    if (count > 0)
        *result = results[0];
    return 0;
}

/* ---- headers ---- */

static bool
has_addresses(struct slice name)
{
    static const char *const names[] = {
        "from",
        "to",
        "cc",
        "bcc",
        "sender",
        "reply-to",
        "errors-to",
        "resent-to",
        "resent-from",
        "resent-cc",
        "resent-sender",
        "resent-bcc",
        "resent-reply-to",
        "apparently-to",
        "return-receipt-to",
        "disposition-notification-to",
        "mail-followup-to",
    };

    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (slice_equal_text_fold(name, names[i]))
            return true;
    return false;
}

static int may_wait
rewrite_value(struct arena *arena, const struct generic *generic, struct slice value, struct buf *out, struct err *err)
{
    struct header_addr_scan scan = {.text = value};
    struct header_addr *found = NULL, addr;
    const char **news = NULL;
    unsigned count = 0, room = 0;

    while (header_addr_next(arena, &scan, &addr)) {
        if (count == room) {
            unsigned more = room ? room * 4 : 4;
            struct header_addr *found_more = arena_array(arena, more, sizeof *found);
            const char **news_more = arena_array(arena, more, sizeof *news);
            if (count) {
                memcpy(found_more, found, count * sizeof *found);
                memcpy(news_more, news, count * sizeof *news);
            }
            found = found_more;
            news = news_more;
            room = more;
        }
        if (generic_address(arena, generic, addr.raw, &news[count], err) < 0)
            return -1;
        if (news[count] == addr.raw)
            news[count] = NULL;
        addr.needs_comma = false; /* nothing but what the table says is changed */
        found[count++] = addr;
    }
    header_addr_replace(arena, value, found, news, count, out);
    return 0;
}

/* A header with its continuation lines and line end. */
static int may_wait
rewrite_header(struct arena *arena, const struct generic *generic, struct slice header, struct buf *out,
               struct err *err)
{
    const char *colon = memchr(header.ptr, ':', header.len);
    struct slice name = slice_make(header.ptr, colon ? (size_t)(colon - header.ptr) : 0);

    if (!colon || !has_addresses(slice_trim(name))) {
        buf_append_slice(out, header);
        return 0;
    }
    buf_append(out, header.ptr, name.len + 1);
    return rewrite_value(arena, generic, slice_make(colon + 1, header.len - name.len - 1), out, err);
}

/* Does the header section end in these bytes? *end: at its empty line. */
static bool
section_end(struct slice wire, size_t *end)
{
    for (size_t at = 0; at < wire.len;) {
        const char *lf = memchr(wire.ptr + at, '\n', wire.len - at);
        size_t next = lf ? (size_t)(lf - wire.ptr) + 1 : wire.len;
        *end = at;
        if (lf && next - at <= 2)
            return true;
        if (lf && next - at == 3 && wire.ptr[at] == '.') /* the end of a message that has no body */
            return true;
        at = next;
    }
    *end = 0;
    return false;
}

/* Behind the header that begins at `at`. */
static size_t
header_end(struct slice section, size_t at)
{
    do {
        const char *lf = memchr(section.ptr + at, '\n', section.len - at);
        at = lf ? (size_t)(lf - section.ptr) + 1 : section.len;
    } while (at < section.len && (section.ptr[at] == ' ' || section.ptr[at] == '\t'));
    return at;
}

static int may_wait
rewrite_section(struct arena *arena, const struct generic *generic, struct slice section, struct buf *out,
                struct err *err)
{
    for (size_t at = 0, next; at < section.len; at = next) {
        next = header_end(section, at);
        if (rewrite_header(arena, generic, slice_make(section.ptr + at, next - at), out, err) < 0)
            return -1;
    }
    return 0;
}

int may_wait
generic_header(struct arena *arena, const struct generic *generic, struct source *source, struct buf *out,
               bool *unreadable, struct err *err)
{
    struct buf came = {0};
    struct slice piece;
    size_t end = 0;
    int more = 1, result;

    while (came.len < HEADER_LIMIT && (more = source_next_wire(source, &piece, err)) > 0) {
        buf_append_slice(&came, piece);
        if (section_end(buf_slice(&came), &end))
            break;
    }
    result = more < 0 ? -1 : rewrite_section(arena, generic, slice_make(came.ptr, end), out, err);
    *unreadable = result < 0;
    if (result == 0 && came.len > end)
        buf_append(out, came.ptr + end, came.len - end);
    buf_release(&came);
    return result;
}
