/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/list.h: doubly linked lists through a member of their elements. No memory is allocated; an element may take
 * itself off its list without knowing which one it is. */
#ifndef LIB_BASE_LIST_H
#define LIB_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/compiler.h"

/* Both a list's head and the link in an element. A zero-filled link is on no list; a head needs list_init(). */
struct list {
    struct list *next, *prev;
};

static inline void
list_init(struct list *head)
{
    head->next = head->prev = head;
}

static inline bool
list_is_empty(const struct list *head)
{
    return head->next == head;
}

/* Is the element on a list? */
static inline bool
list_is_linked(const struct list *link)
{
    return link->next != NULL;
}

static inline void
list_insert_before(struct list *at, struct list *link)
{
    link->prev = at->prev;
    link->next = at;
    at->prev->next = link;
    at->prev = link;
}

static inline void
list_append(struct list *head, struct list *link)
{
    list_insert_before(head, link);
}

static inline void
list_prepend(struct list *head, struct list *link)
{
    list_insert_before(head->next, link);
}

/* Takes the element off its list; nothing happens if it is on none. */
static inline void
list_remove(struct list *link)
{
    if (!link->next)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = NULL;
}

/* The first link, taken off, or NULL. */
static inline struct list *
list_pop(struct list *head)
{
    struct list *first = head->next;
    if (first == head)
        return NULL;
    list_remove(first);
    return first;
}

#define LIST_ENTRY(link, type, member) CONTAINER_OF(link, type, member)

/* Visits each link; the body may remove the visited one. */
#define LIST_EACH(link, head)                                                         \
    for (struct list *link = (head)->next, *link##_next = link->next; link != (head); \
         link = link##_next, link##_next = link->next)

#endif
