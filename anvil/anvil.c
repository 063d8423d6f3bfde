/* SPDX-License-Identifier: Apache-2.0 */
#include "anvil/anvil.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/map.h"

struct client {
    int64_t count;
    int64_t rates[ANVIL_RATES];
    usec_t unit_start;
};

/* The highest value since the last report, and whose it was. */
struct peak {
    int64_t value;
    usec_t when;
    char *client;
};

struct anvil {
    usec_t time_unit;
    struct map *clients;
    struct peak rates[ANVIL_RATES];
    struct peak count, clients_peak;
};

struct anvil_reporter {
    struct anvil *anvil;
    struct map *connections; /* client -> int64_t *, more than 0 */
};

static void *
must_calloc(size_t size)
{
    void *p = calloc(1, size);

    if (!p)
        fatal("out of memory");
    return p;
}

struct anvil *
anvil_new(usec_t time_unit)
{
    struct anvil *a = must_calloc(sizeof(*a));

    a->time_unit = time_unit;
    a->clients = map_new();
    return a;
}

static void
peak_clear(struct peak *peak)
{
    free(peak->client);
    *peak = (struct peak){0};
}

static void
peaks_clear(struct anvil *a)
{
    for (unsigned i = 0; i < ANVIL_RATES; i++)
        peak_clear(&a->rates[i]);
    peak_clear(&a->count);
    peak_clear(&a->clients_peak);
}

void
anvil_free(struct anvil **at)
{
    struct anvil *a = *at;

    peaks_clear(a);
    map_free(&a->clients, free);
    free(a);
    *at = NULL;
}

/* --- counting --- */

enum anvil_event
anvil_event(const char *name)
{
    static const char *const names[] = {"connect", "message", "recipient", "newtls", "auth", "disconnect"};

    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i]) == 0)
            return (enum anvil_event)i;
    return ANVIL_UNKNOWN;
}

static void
peak_note(struct peak *peak, int64_t value, const char *client, usec_t now)
{
    if (value <= peak->value)
        return;
    peak->value = value;
    peak->when = now;
    if (peak->client && strcmp(peak->client, client) == 0)
        return;
    free(peak->client);
    peak->client = strdup(client);
    if (!peak->client)
        fatal("out of memory");
}

static struct client *
find_client(struct anvil *a, const char *name, usec_t now)
{
    struct client *client = map_get_text(a->clients, name);

    if (!client) {
        client = must_calloc(sizeof(*client));
        client->unit_start = now;
        map_put_text(a->clients, name, client);
        peak_note(&a->clients_peak, (int64_t)map_count(a->clients), "", now);
    }
    /* A clock that was set back must not make the unit last for ever. */
    if (now - client->unit_start >= a->time_unit || now < client->unit_start) {
        memset(client->rates, 0, sizeof(client->rates));
        client->unit_start = now;
    }
    return client;
}

static void
connection_begins(struct anvil_reporter *r, struct client *client, const char *name, usec_t now)
{
    int64_t *mine = map_get_text(r->connections, name);

    if (!mine) {
        mine = must_calloc(sizeof(*mine));
        map_put_text(r->connections, name, mine);
    }
    ++*mine;
    peak_note(&r->anvil->count, ++client->count, name, now);
}

static void
connection_ends(struct anvil_reporter *r, struct client *client, const char *name)
{
    int64_t *mine = map_get_text(r->connections, name);

    if (!mine)
        return;
    client->count--;
    if (--*mine == 0)
        free(map_remove_text(r->connections, name));
}

struct anvil_count
anvil_count(struct anvil_reporter *r, const char *name, enum anvil_event event, int64_t amount, usec_t now)
{
    struct client *client = find_client(r->anvil, name, now);

    if (event == ANVIL_CONNECT)
        connection_begins(r, client, name, now);
    else if (event == ANVIL_DISCONNECT)
        connection_ends(r, client, name);
    if (event >= ANVIL_RATES)
        return (struct anvil_count){client->count, 0};
    client->rates[event] += amount;
    peak_note(&r->anvil->rates[event], client->rates[event], name, now);
    return (struct anvil_count){client->count, client->rates[event]};
}

struct anvil_reporter *
anvil_reporter_new(struct anvil *a)
{
    struct anvil_reporter *r = must_calloc(sizeof(*r));

    r->anvil = a;
    r->connections = map_new();
    return r;
}

void
anvil_reporter_free(struct anvil_reporter **at)
{
    struct anvil_reporter *r = *at;
    size_t position = 0;
    struct slice key;
    void *value;

    while (map_next(r->connections, &position, &key, &value)) {
        struct client *client = map_get(r->anvil->clients, key);

        check(client && client->count >= *(int64_t *)value);
        client->count -= *(int64_t *)value;
    }
    map_free(&r->connections, free);
    free(r);
    *at = NULL;
}

void
anvil_expire(struct anvil *a, usec_t now)
{
    size_t position = 0;
    struct slice key;
    void *value;

    while (map_next(a->clients, &position, &key, &value)) {
        const struct client *client = value;

        if (client->count == 0 && (now - client->unit_start >= a->time_unit || now < client->unit_start))
            free(map_remove(a->clients, key));
    }
}

size_t
anvil_client_count(const struct anvil *a)
{
    return map_count(a->clients);
}

/* --- statistics --- */

static void
report_peak(const struct anvil *a, struct arena *arena, const char *what, bool is_rate, const struct peak *peak,
            void (*line)(void *, const char *), void *ctx)
{
    char when[64];
    const char *unit = is_rate ? arena_printf(arena, "/%ds", (int)(a->time_unit / 1000000)) : "";
    const char *whose = peak->client && *peak->client ? arena_printf(arena, " for (%s)", peak->client) : "";

    if (peak->value == 0)
        return;
    clock_format_syslog(peak->when, when, sizeof(when));
    line(ctx, arena_printf(arena, "statistics: max %s %" PRId64 "%s%s at %s", what, peak->value, unit, whose, when));
}

void
anvil_report(struct anvil *a, void (*line)(void *ctx, const char *text), void *ctx)
{
    static const char *const rates[ANVIL_RATES] = {"connection rate", "message rate", "recipient rate", "newtls rate",
                                                   "auth rate"};
    struct arena *arena = arena_new();

    for (unsigned i = 0; i < ANVIL_RATES; i++) {
        report_peak(a, arena, rates[i], true, &a->rates[i], line, ctx);
        if (i == ANVIL_CONNECT)
            report_peak(a, arena, "connection count", false, &a->count, line, ctx);
    }
    report_peak(a, arena, "cache size", false, &a->clients_peak, line, ctx);
    arena_free(&arena);
    peaks_clear(a);
}
