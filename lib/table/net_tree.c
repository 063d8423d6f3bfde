/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/net_tree.h"

#include <arpa/inet.h>
#include <string.h>

#include "lib/base/text.h"

/* ---- prefixes ---- */

bool
net_address_parse(struct slice text, struct net_prefix *out)
{
    char host[INET6_ADDRSTRLEN];

    if (text.len == 0 || text.len >= sizeof host)
        return false;
    memcpy(host, text.ptr, text.len);
    host[text.len] = '\0';
    memset(out, 0, sizeof *out);
    out->is_ipv6 = memchr(host, ':', text.len) != NULL;
    out->bits = out->is_ipv6 ? 128 : 32;
    return inet_pton(out->is_ipv6 ? AF_INET6 : AF_INET, host, out->address) == 1;
}

static bool
bit_at(const unsigned char *address, unsigned bit)
{
    return address[bit / 8] >> (7 - bit % 8) & 1;
}

/* Sets the bits behind the network to zero; true: they were not. */
static bool
clear_host_bits(struct net_prefix *prefix, unsigned size)
{
    bool had = false;

    for (unsigned bit = prefix->bits; bit < size; bit++) {
        had = had || bit_at(prefix->address, bit);
        prefix->address[bit / 8] &= (unsigned char)~(0x80 >> (bit % 8));
    }
    return had;
}

static int
parse_bits(struct slice text, struct slice digits, struct net_prefix *out, struct err *err)
{
    unsigned long long bits;
    unsigned size = out->bits;
    char right[INET6_ADDRSTRLEN];

    if (slice_to_u64(digits, size, &bits) < 0)
        return err_set(err, ERR_SYNTAX, "bad net/mask pattern: \"%.*s\"", SLICE_ARG(text));
    out->bits = (unsigned)bits;
    if (!clear_host_bits(out, size))
        return 0;
    inet_ntop(out->is_ipv6 ? AF_INET6 : AF_INET, out->address, right, sizeof right);
    return err_set(err, ERR_SYNTAX, "non-null host address bits in \"%.*s\", perhaps you should use \"%s/%u\" instead",
                   SLICE_ARG(text), right, out->bits);
}

/* Takes the brackets off what is in them, and shows what stands behind. */
static int
parse_brackets(struct slice text, struct slice *inner, struct slice *behind, struct err *err)
{
    const char *end = memchr(text.ptr, ']', text.len);

    if (!end)
        return err_set(err, ERR_SYNTAX, "missing ']' character after \"[\"");
    *inner = slice_make(text.ptr + 1, (size_t)(end - text.ptr - 1));
    *behind = slice_make(end + 1, (size_t)(text.ptr + text.len - end - 1));
    if (behind->len > 0 && behind->ptr[0] != '/')
        return err_set(err, ERR_SYNTAX, "garbage after \"]\"");
    return 0;
}

int
net_prefix_parse(struct slice text, struct net_prefix *out, struct err *err)
{
    struct slice inner = text, behind = slice_make(text.ptr + text.len, 0);

    if (text.len == 0)
        return err_set(err, ERR_SYNTAX, "empty address pattern");
    if (text.ptr[0] == '[') {
        if (parse_brackets(text, &inner, &behind, err) < 0)
            return -1;
    } else {
        const char *slash = memchr(text.ptr, '/', text.len);
        if (slash) {
            inner = slice_make(text.ptr, (size_t)(slash - text.ptr));
            behind = slice_make(slash, (size_t)(text.ptr + text.len - slash));
        }
    }
    if (!net_address_parse(inner, out))
        return behind.len > 0 ? err_set(err, ERR_SYNTAX, "bad net/mask pattern: \"%.*s\"", SLICE_ARG(text))
                              : err_set(err, ERR_SYNTAX, "bad address pattern: \"%.*s\"", SLICE_ARG(text));
    return behind.len > 0 ? parse_bits(text, slice_make(behind.ptr + 1, behind.len - 1), out, err) : 0;
}

/* How many leading bits of both are the same, at most limit. */
static unsigned
common_bits(const unsigned char *a, const unsigned char *b, unsigned limit)
{
    unsigned bits = 0;

    while (bits + 8 <= limit && a[bits / 8] == b[bits / 8])
        bits += 8;
    while (bits < limit && bit_at(a, bits) == bit_at(b, bits))
        bits++;
    return bits;
}

bool
net_prefix_contains(const struct net_prefix *prefix, const struct net_prefix *address)
{
    return prefix->is_ipv6 == address->is_ipv6 &&
           common_bits(prefix->address, address->address, prefix->bits) == prefix->bits;
}

/* ---- the tree ---- */

struct number {
    unsigned value;
    struct number *next;
};

struct node {
    unsigned char address[16];
    unsigned bits;
    struct number *first, *last; /* of the networks that are this one; none: a mere branch */
    struct node *child[2];
};

struct net_tree {
    struct arena *arena;
    struct node *root[2]; /* IPv4, IPv6 */
};

struct net_tree *
net_tree_new(struct arena *arena)
{
    struct net_tree *tree = ARENA_NEW(arena, struct net_tree);

    tree->arena = arena;
    return tree;
}

static struct node *
new_node(struct net_tree *tree, const unsigned char *address, unsigned bits)
{
    struct node *node = ARENA_NEW(tree->arena, struct node);

    memcpy(node->address, address, sizeof node->address);
    node->bits = bits;
    return node;
}

static void
add_number(struct net_tree *tree, struct node *node, unsigned value)
{
    struct number *number = ARENA_NEW(tree->arena, struct number);

    number->value = value;
    if (node->last)
        node->last->next = number;
    else
        node->first = number;
    node->last = number;
}

void
net_tree_add(struct net_tree *tree, const struct net_prefix *prefix, unsigned number)
{
    struct node **at = &tree->root[prefix->is_ipv6];

    while (*at) {
        struct node *node = *at;
        unsigned limit = node->bits < prefix->bits ? node->bits : prefix->bits;
        unsigned common = common_bits(node->address, prefix->address, limit);
        if (common == node->bits && common == prefix->bits) {
            add_number(tree, node, number);
            return;
        }
        if (common == node->bits) {
            at = &node->child[bit_at(prefix->address, common)];
            continue;
        }
        /* A new node above this one. */
        struct node *above = new_node(tree, prefix->address, common);
        above->child[bit_at(node->address, common)] = node;
        *at = above;
        if (common == prefix->bits) {
            add_number(tree, above, number);
            return;
        }
        at = &above->child[bit_at(prefix->address, common)];
    }
    *at = new_node(tree, prefix->address, prefix->bits);
    add_number(tree, *at, number);
}

void
net_tree_find(const struct net_tree *tree, const struct net_prefix *address, bool (*seen)(void *ctx, unsigned number),
              void *ctx)
{
    const struct node *node = tree->root[address->is_ipv6];

    while (node && common_bits(node->address, address->address, node->bits) == node->bits) {
        for (const struct number *number = node->first; number && seen(ctx, number->value); number = number->next)
            ;
        node = node->bits < address->bits ? node->child[bit_at(address->address, node->bits)] : NULL;
    }
}
