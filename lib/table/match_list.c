/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/match_list.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/text.h"
#include "lib/table/table.h"
#include "lib/table/table_text.h"

enum { FILE_LIMIT = 4 << 20, FILE_DEPTH = 10 };

enum item_kind { ITEM_DOMAIN, ITEM_BELOW, ITEM_NETWORK, ITEM_TABLE };

struct item {
    enum item_kind kind;
    bool negated;
    struct slice text;     /* a domain without its leading dot */
    struct table *table;
    unsigned family, bits; /* ITEM_NETWORK */
    unsigned char address[16];
    struct item *next;
};

struct match_list {
    const struct conf *conf;
    const char *parameter;
    unsigned flags;
    struct item *first, **end;
};

/* ---- making one ---- */

static bool
host_bits_are_zero(const unsigned char *address, unsigned size, unsigned bits)
{
    for (unsigned i = bits; i < size * 8; i++)
        if (address[i / 8] & (0x80 >> (i % 8)))
            return false;
    return true;
}

/* "address", "address/bits", "[address]", "[address]/bits". 1: it is one; 0: it is something else; -1: it is malformed. */
static int
parse_network(struct match_list *list, struct slice text, struct item *item, struct err *err)
{
    char host[INET6_ADDRSTRLEN + 1];
    struct net_addr addr;
    struct err ignored;
    unsigned long long bits;
    const char *slash = memchr(text.ptr, '/', text.len);
    struct slice inner = slice_make(text.ptr, slash ? (size_t)(slash - text.ptr) : text.len);
    bool bracketed = inner.len >= 2 && inner.ptr[0] == '[' && inner.ptr[inner.len - 1] == ']';

    if (bracketed)
        inner = slice_make(inner.ptr + 1, inner.len - 2);
    bool fits = inner.len < sizeof host;
    if (fits) {
        memcpy(host, inner.ptr, inner.len);
        host[inner.len] = '\0';
    }
    if (!fits || net_addr_parse(host, 0, &addr, &ignored) < 0) {
        if (!slash && text.ptr[0] != '[')
            return 0;
        return err_set(err, ERR_SYNTAX, "%s: bad net/mask pattern: \"%.*s\"", list->parameter, SLICE_ARG(text));
    }
    unsigned size = addr.any.sa_family == AF_INET ? 4 : 16;
    item->kind = ITEM_NETWORK;
    item->family = addr.any.sa_family;
    memcpy(item->address, size == 4 ? (void *)&addr.in4.sin_addr : (void *)&addr.in6.sin6_addr, size);
    item->bits = size * 8;
    if (slash) {
        if (slice_to_u64(slice_make(slash + 1, (size_t)(text.ptr + text.len - slash - 1)), size * 8, &bits) < 0)
            return err_set(err, ERR_SYNTAX, "%s: bad net/mask pattern: \"%.*s\"", list->parameter, SLICE_ARG(text));
        item->bits = (unsigned)bits;
    }
    if (!host_bits_are_zero(item->address, size, item->bits))
        return err_set(err, ERR_SYNTAX, "%s: non-null host address bits in \"%.*s\"", list->parameter, SLICE_ARG(text));
    return 1;
}

static int add_all(struct arena *, struct match_list *, struct slice text, bool negated, unsigned depth, struct err *);

static int
read_file(const char *path, struct buf *text, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = 0;

    if (fd < 0)
        return err_errno(err, "open %s", path);
    while (text->len <= FILE_LIMIT && (got = read(fd, buf_reserve(text, 65536), 65536)) > 0)
        buf_added(text, (size_t)got);
    int result = got < 0 ? err_errno(err, "read %s", path) : 0;
    if (result == 0 && text->len > FILE_LIMIT)
        result = err_set(err, ERR_PERM, "%s: file too large", path);
    close(fd);
    return result;
}

static int
add_file(struct arena *arena, struct match_list *list, struct slice path, bool negated, unsigned depth, struct err *err)
{
    struct buf text = {0};
    int result = 0;

    if (depth == 0)
        return err_set(err, ERR_SYNTAX, "%s: files nested too deeply: %.*s", list->parameter, SLICE_ARG(path));
    if (read_file(arena_strndup(arena, path.ptr, path.len), &text, err) < 0)
        result = err_context(err, "%s", list->parameter);
    struct slice rest = buf_slice(&text), line;
    while (result == 0 && slice_cut(&rest, '\n', &line)) {
        const char *comment = line.len ? memchr(line.ptr, '#', line.len) : NULL;
        if (comment)
            line.len = (size_t)(comment - line.ptr);
        result = add_all(arena, list, line, negated, depth - 1, err);
    }
    buf_release(&text);
    return result;
}

static int
add_item(struct arena *arena, struct match_list *list, struct slice text, bool negated, unsigned depth, struct err *err)
{
    while (text.len > 0 && text.ptr[0] == '!') {
        negated = !negated;
        text = slice_make(text.ptr + 1, text.len - 1);
    }
    if (text.len == 0)
        return err_set(err, ERR_SYNTAX, "%s: no pattern after '!'", list->parameter);
    if (text.ptr[0] == '/')
        return add_file(arena, list, text, negated, depth, err);

    struct item *item = ARENA_NEW(arena, struct item);
    item->negated = negated;
    if (text.ptr[0] != '[' && slice_has_byte(text, ':')) {
        item->kind = ITEM_TABLE;
        item->table = table_open_late(list->conf, arena_strndup(arena, text.ptr, text.len), TABLE_FOLD);
    } else {
        int is_network = parse_network(list, text, item, err);
        if (is_network < 0)
            return -1;
        if (!is_network) {
            bool below = text.ptr[0] == '.';
            item->kind = below ? ITEM_BELOW : ITEM_DOMAIN;
            item->text = arena_slice(arena, below ? slice_make(text.ptr + 1, text.len - 1) : text);
        }
    }
    *list->end = item;
    list->end = &item->next;
    return 0;
}

static int
add_all(struct arena *arena, struct match_list *list, struct slice text, bool negated, unsigned depth, struct err *err)
{
    struct slice word;

    while (table_list_next(&text, ", \t\r\n", &word)) {
        if (!word.ptr)
            return err_set(err, ERR_SYNTAX, "%s: unbalanced braces", list->parameter);
        if (add_item(arena, list, word, negated, depth, err) < 0)
            return -1;
    }
    return 0;
}

struct match_list *
match_list_new(struct arena *arena, const struct conf *conf, const char *parameter, const char *text, unsigned flags,
               struct err *err)
{
    struct match_list *list = ARENA_NEW(arena, struct match_list);

    list->conf = conf;
    list->parameter = parameter;
    list->flags = flags;
    list->end = &list->first;
    return add_all(arena, list, slice_from(text), false, FILE_DEPTH, err) < 0 ? NULL : list;
}

/* ---- looking up ---- */

static bool
is_below(struct slice name, struct slice domain)
{
    if (name.len <= domain.len || name.ptr[name.len - domain.len - 1] != '.')
        return false;
    return slice_equal_fold(slice_make(name.ptr + name.len - domain.len, domain.len), domain);
}

static bool
matches_name(const struct match_list *list, const struct item *item, struct slice name)
{
    if (item->kind == ITEM_BELOW)
        return is_below(name, item->text);
    if (item->kind != ITEM_DOMAIN)
        return false;
    return slice_equal_fold(name, item->text) || ((list->flags & MATCH_SUBDOMAINS) && is_below(name, item->text));
}

static bool
matches_address(const struct item *item, const struct net_addr *addr)
{
    if (item->kind != ITEM_NETWORK || item->family != addr->any.sa_family)
        return false;
    const unsigned char *bytes = item->family == AF_INET ? (const unsigned char *)&addr->in4.sin_addr
                                                         : (const unsigned char *)&addr->in6.sin6_addr;
    unsigned whole = item->bits / 8, left = item->bits % 8;
    if (memcmp(bytes, item->address, whole) != 0)
        return false;
    return left == 0 || ((bytes[whole] ^ item->address[whole]) >> (8 - left)) == 0;
}

/* ---- tables ---- */

static int may_wait
is_key(struct table *table, struct slice key, bool *found, struct err *err)
{
    struct arena *arena = arena_new();
    const char *value = NULL;
    int result = table_find(table, arena, key, &value, err);

    *found = value != NULL;
    arena_free(&arena);
    return result;
}

/* The domain, then its parents: as they are with MATCH_SUBDOMAINS, else with a dot before them. A table of patterns is asked for
 * the whole name alone. */
static int may_wait
table_has_domain(const struct match_list *list, struct table *table, struct slice name, bool *found, struct err *err)
{
    struct slice key = name;

    for (;;) {
        if (is_key(table, key, found, err) < 0)
            return -1;
        const char *dot = *found || table_is_pattern(table) || key.len < 2
                              ? NULL
                              : memchr(key.ptr + 1, '.', key.len - 1);
        if (!dot)
            return 0;
        if (list->flags & MATCH_SUBDOMAINS)
            dot++;
        key = slice_make(dot, (size_t)(key.ptr + key.len - dot));
    }
}

static int may_wait
table_has_host(const struct match_list *list, struct table *table, struct slice name, const struct net_addr *addr,
               bool *found, struct err *err)
{
    char text[INET6_ADDRSTRLEN];

    *found = false;
    if (name.len > 0 && table_has_domain(list, table, name, found, err) < 0)
        return -1;
    if (*found || !addr)
        return 0;
    net_addr_format(addr, text, sizeof text);
    return is_key(table, slice_from(text), found, err);
}

/* ---- lists ---- */

static int may_wait
find(const struct match_list *list, struct slice name, const struct net_addr *addr, bool *found, struct err *err)
{
    *found = false;
    for (const struct item *item = list->first; item; item = item->next) {
        bool matches = (name.len > 0 && matches_name(list, item, name)) || (addr && matches_address(item, addr));
        if (item->kind == ITEM_TABLE && table_has_host(list, item->table, name, addr, &matches, err) < 0)
            return err_context(err, "%s", list->parameter);
        if (matches) {
            *found = !item->negated;
            return 0;
        }
    }
    return 0;
}

int may_wait
match_list_domain(const struct match_list *list, struct slice domain, bool *found, struct err *err)
{
    return find(list, domain, NULL, found, err);
}

int may_wait
match_list_host(const struct match_list *list, struct slice name, const struct net_addr *addr, bool *found,
                struct err *err)
{
    struct net_addr plain = *addr;

    net_addr_unmap(&plain);
    if (slice_equal_text(name, "unknown"))
        name = slice_make(NULL, 0);
    return find(list, name, &plain, found, err);
}

int may_wait
match_list_text(const struct match_list *list, struct slice text, bool *found, struct err *err)
{
    *found = false;
    for (const struct item *item = list->first; item; item = item->next) {
        bool matches = item->kind == ITEM_DOMAIN && slice_equal_fold(item->text, text);
        if (item->kind == ITEM_TABLE && is_key(item->table, text, &matches, err) < 0)
            return err_context(err, "%s", list->parameter);
        if (matches) {
            *found = !item->negated;
            return 0;
        }
    }
    return 0;
}

bool
match_list_is_empty(const struct match_list *list)
{
    return !list->first;
}

unsigned
match_list_flags(const char *parameters, const char *parameter)
{
    struct slice rest = slice_from(parameters), word;

    while (slice_word(&rest, ", \t\r\n", &word))
        if (slice_equal_text(word, parameter))
            return MATCH_SUBDOMAINS;
    return 0;
}
