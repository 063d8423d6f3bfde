/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/local_client.h"

#include "lib/table/table.h"
#include "smtpd/restrict.h"

/* An item of the list: one of the ways to tell. */
struct item {
    enum access (*check)(struct access_check *, const char *argument); /* a restriction that permits */
    struct table *table;                                             /* or a table of addresses */
};

struct local_clients {
    struct item *items;
    unsigned count;
};

static const struct {
    const char *name;
    enum access (*check)(struct access_check *, const char *argument);
} restrictions[] = {
    {"permit_inet_interfaces", restrict_permit_inet_interfaces},
    {"permit_mynetworks", restrict_permit_mynetworks},
    {"permit_sasl_authenticated", restrict_permit_sasl_authenticated},
    {"permit_tls_clientcerts", restrict_permit_tls_clientcerts},
    {"permit_tls_all_clientcerts", restrict_permit_tls_all_clientcerts},
};

static int
read_item(struct arena *arena, const struct conf *conf, struct slice word, struct item *item, struct err *err)
{
    for (unsigned i = 0; i < ARRAY_LEN(restrictions); i++)
        if (slice_equal_text_fold(word, restrictions[i].name))
            item->check = restrictions[i].check;
    if (slice_has_byte(word, ':'))
        item->table = table_open_late(conf, arena_strndup(arena, word.ptr, word.len), TABLE_FOLD_FIXED);
    else if (!item->check)
        return err_set(err, ERR_SYNTAX, "local_header_rewrite_clients: \"%.*s\" is unknown", SLICE_ARG(word));
    return 0;
}

struct local_clients *
local_clients_new(struct arena *arena, const struct conf *conf, const char *text, struct err *err)
{
    struct local_clients *clients = ARENA_NEW(arena, struct local_clients);
    struct slice rest = slice_from(text), word;

    clients->items = arena_array(arena, rest.len / 2 + 1, sizeof *clients->items);
    while (slice_word(&rest, ", \t\r\n", &word)) {
        if (slice_equal_text_fold(word, "check_address_map"))
            continue; /* the table follows */
        if (read_item(arena, conf, word, &clients->items[clients->count++], err) < 0)
            return NULL;
    }
    return clients;
}

static int may_wait
is_item(const struct item *item, struct session *s, bool *found, struct err *err)
{
    struct access_check check = {.session = s};
    const char *value;

    *found = false;
    if (item->table) {
        if (table_find(item->table, s->transaction->arena, slice_from(s->peer.address), &value, err) < 0)
            return err_context(err, "local_header_rewrite_clients");
        *found = value != NULL;
        return 0;
    }
    enum access result = item->check(&check, NULL);
    *found = result == ACCESS_PERMIT;
    return result == ACCESS_REFUSE ? err_set(err, ERR_TEMP, "local_header_rewrite_clients: look-up failed") : 0;
}

int may_wait
local_clients_has(const struct local_clients *clients, struct session *s, bool *is_local, struct err *err)
{
    *is_local = false;
    for (unsigned i = 0; i < clients->count && !*is_local; i++)
        if (is_item(&clients->items[i], s, is_local, err) < 0)
            return -1;
    return 0;
}
