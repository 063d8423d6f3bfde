/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/thread.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/map.h"

/* ---- order ---- */

/* A node without a message is dated by its first child. */
static const struct thread_message *
message_of(const struct thread_node *node)
{
    while (node && !node->message)
        node = node->child;
    return node ? node->message : NULL;
}

static int
compare_nodes(const void *a, const void *b)
{
    const struct thread_message *x = message_of(*(struct thread_node *const *)a),
                                *y = message_of(*(struct thread_node *const *)b);
    if (!x || !y)
        return (x != NULL) - (y != NULL);
    if (x->sent != y->sent)
        return x->sent < y->sent ? -1 : 1;
    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

static int
compare_latest(const void *a, const void *b)
{
    const struct thread_node *x = *(struct thread_node *const *)a, *y = *(struct thread_node *const *)b;
    if (x->latest != y->latest)
        return x->latest < y->latest ? -1 : 1;
    return compare_nodes(a, b);
}

static struct thread_node *
sort_chain(struct arena *arena, struct thread_node *first, int (*compare)(const void *, const void *))
{
    size_t count = 0, i = 0;
    for (struct thread_node *n = first; n; n = n->next)
        count++;
    if (count < 2)
        return first;
    struct thread_node **all = arena_array(arena, count, sizeof(*all));
    for (struct thread_node *n = first; n; n = n->next)
        all[i++] = n;
    qsort(all, count, sizeof(*all), compare);
    for (i = 0; i + 1 < count; i++)
        all[i]->next = all[i + 1];
    all[count - 1]->next = NULL;
    return all[0];
}

/* The node after this one, from leaves to roots: children before their parents, without recursion. */
static struct thread_node *
deepest(struct thread_node *node)
{
    while (node && node->child)
        node = node->child;
    return node;
}

static struct thread_node *
next_upwards(const struct thread_node *node)
{
    return node->next ? deepest(node->next) : node->parent;
}

/* Siblings by date. */
static struct thread_node *
sort_all(struct arena *arena, struct thread_node *roots)
{
    for (struct thread_node *n = deepest(roots); n; n = next_upwards(n)) {
        n->child = sort_chain(arena, n->child, compare_nodes);
        for (struct thread_node **at = &n->child; *at; at = &(*at)->next)
            (*at)->at = at;
    }
    return sort_chain(arena, roots, compare_nodes);
}

static struct thread_node *
node_new(struct arena *arena, struct thread_message *message)
{
    struct thread_node *node = ARENA_NEW(arena, struct thread_node);
    node->message = message;
    return node;
}

static void
adopt(struct thread_node *parent, struct thread_node *child)
{
    child->parent = parent;
    child->next = parent->child;
    child->at = &parent->child;
    if (child->next)
        child->next->at = &child->next;
    parent->child = child;
}

/* ---- ORDEREDSUBJECT ---- */

static int
compare_messages(const void *a, const void *b)
{
    const struct thread_message *x = a, *y = b;
    if (x->sent != y->sent)
        return x->sent < y->sent ? -1 : 1;
    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

/* The first by date is the root, all others are its children. */
struct thread_node *
thread_by_subject(struct arena *arena, struct thread_message *messages, size_t count)
{
    struct map *subjects = map_new();
    struct thread_node *roots = NULL;
    qsort(messages, count, sizeof(*messages), compare_messages);
    for (size_t i = 0; i < count; i++) {
        struct thread_node *node = node_new(arena, &messages[i]), *root = map_get(subjects, messages[i].subject);
        if (root) {
            adopt(root, node);
            continue;
        }
        map_put(subjects, messages[i].subject, node);
        node->next = roots;
        roots = node;
    }
    map_free(&subjects, NULL);
    return sort_all(arena, roots);
}

/* ---- REFERENCES ---- */

static struct thread_node *
node_of_id(struct arena *arena, struct map *ids, struct slice id)
{
    struct thread_node *node = map_get(ids, id);
    if (!node) {
        node = node_new(arena, NULL);
        map_put(ids, id, node);
    }
    return node;
}

/* How many steps upwards all messages together may take; mail that needs more was made to. */
enum { CLIMB_LIMIT = 20 << 20 };

struct linking {
    struct arena *arena;
    struct map *ids;
    size_t climbed;
};

/* A node without children is above none. Where the way up is too long, it is taken to be: then nothing is linked. */
static bool
is_above(struct linking *l, const struct thread_node *upper, const struct thread_node *node)
{
    if (!upper->child)
        return upper == node;
    for (; node; node = node->parent)
        if (node == upper || ++l->climbed > CLIMB_LIMIT)
            return true;
    return false;
}

static void
detach(struct thread_node *node)
{
    if (!node->parent)
        return;
    *node->at = node->next;
    if (node->next)
        node->next->at = node->at;
    node->parent = node->next = NULL;
}

static void
link_message(struct linking *l, struct thread_node *node)
{
    const struct thread_message *m = node->message;
    struct thread_node *parent = NULL;
    for (unsigned i = 0; i < m->reference_count; i++) {
        struct thread_node *each = node_of_id(l->arena, l->ids, m->references[i]);
        if (parent && !each->parent && each != parent && !is_above(l, each, parent))
            adopt(parent, each);
        parent = each;
    }
    if (parent == node || (parent && is_above(l, node, parent)))
        return;
    detach(node);
    if (parent)
        adopt(parent, node);
}

/* Nodes without a message go: their children take their place, but at the top only an only child does. */
static struct thread_node *
prune(struct thread_node *roots)
{
    struct thread_node *kept = NULL, *next;
    for (struct thread_node *n = deepest(roots); n; n = next) {
        next = next_upwards(n);
        if (n->message || !n->parent)
            continue;
        struct thread_node *parent = n->parent, *child = n->child;
        detach(n);
        while (child) {
            struct thread_node *after = child->next;
            adopt(parent, child);
            child = after;
        }
    }
    for (struct thread_node *root = roots; root; root = next) {
        next = root->next;
        if (!root->message && !root->child)
            continue;
        if (!root->message && !root->child->next) {
            root = root->child;
            root->parent = NULL;
        }
        root->next = kept;
        kept = root;
    }
    return kept;
}

static struct slice
subject_of(const struct thread_node *root)
{
    const struct thread_message *m = message_of(root);
    return m ? m->subject : slice_make("", 0);
}

static bool
is_reply(const struct thread_node *root)
{
    const struct thread_message *m = message_of(root);
    return m && m->is_reply;
}

/* RFC 5256 step 5: threads with one subject are gathered. */
static struct thread_node *
gather(struct arena *arena, struct thread_node *roots)
{
    struct map *subjects = map_new();
    struct thread_node *result = NULL, *next;
    for (struct thread_node *root = roots; root; root = root->next) {
        struct slice subject = subject_of(root);
        const struct thread_node *known = subject.len ? map_get(subjects, subject) : NULL;
        if (subject.len && (!known || (!root->message && known->message) || (is_reply(known) && !is_reply(root))))
            map_put(subjects, subject, root);
    }
    for (struct thread_node *root = roots; root; root = next) {
        next = root->next;
        struct slice subject = subject_of(root);
        struct thread_node *main = subject.len ? map_get(subjects, subject) : NULL;
        root->next = NULL;
        if (!main || main == root) {
            root->next = result;
            result = root;
        } else if (!main->message && !root->message) {
            while (root->child) {
                struct thread_node *child = root->child;
                detach(child);
                adopt(main, child);
            }
        } else if (!main->message || (is_reply(root) && !is_reply(main))) {
            adopt(main, root);
        } else { /* two of the same kind: a parent that is not here gets both; main's place is taken by it */
            struct thread_node *copy = node_new(arena, main->message);
            copy->child = main->child;
            for (struct thread_node *child = copy->child; child; child = child->next)
                child->parent = copy;
            if (copy->child)
                copy->child->at = &copy->child;
            main->message = NULL;
            main->child = NULL;
            adopt(main, copy);
            adopt(main, root);
        }
    }
    map_free(&subjects, NULL);
    return result;
}

static struct thread_node *
link_all(struct arena *arena, struct thread_message *messages, size_t count)
{
    struct map *ids = map_new();
    struct thread_node **nodes = arena_array(arena, count + 1, sizeof(*nodes)), *roots = NULL;
    for (size_t i = 0; i < count; i++) {
        struct thread_node *known = messages[i].id.len ? node_of_id(arena, ids, messages[i].id) : NULL;
        nodes[i] = known && !known->message ? known : node_new(arena, NULL);
        nodes[i]->message = &messages[i];
    }
    struct linking l = {.arena = arena, .ids = ids};
    for (size_t i = 0; i < count; i++)
        link_message(&l, nodes[i]);
    size_t position = 0;
    void *value;
    for (size_t i = 0; i < count; i++)
        if (!nodes[i]->parent && (!messages[i].id.len || map_get(ids, messages[i].id) != nodes[i])) {
            nodes[i]->next = roots;
            roots = nodes[i];
        }
    while (map_next(ids, &position, NULL, &value)) {
        struct thread_node *node = value;
        if (node->parent)
            continue;
        node->next = roots;
        roots = node;
    }
    map_free(&ids, NULL);
    return sort_all(arena, prune(roots));
}

struct thread_node *
thread_by_references(struct arena *arena, struct thread_message *messages, size_t count)
{
    return sort_all(arena, gather(arena, link_all(arena, messages, count)));
}

struct thread_node *
thread_by_refs(struct arena *arena, struct thread_message *messages, size_t count)
{
    struct thread_node *roots = link_all(arena, messages, count);
    for (struct thread_node *n = deepest(roots); n; n = next_upwards(n)) {
        if (n->message && n->message->sent > n->latest)
            n->latest = n->message->sent;
        if (n->parent && n->latest > n->parent->latest)
            n->parent->latest = n->latest;
    }
    return sort_chain(arena, roots, compare_latest);
}
