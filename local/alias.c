/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <strings.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/addr.h"
#include "lib/store/destinations.h"
#include "lib/table/table.h"
#include "lib/table/table_text.h"
#include "local/local.h"

enum { TABLES_LIMIT = 100 };

static struct table *tables[TABLES_LIMIT];
static unsigned table_count;

int
alias_prepare(const struct conf *conf, struct arena *arena, struct err *err)
{
    struct slice rest = slice_from(local.s.alias_maps), item;

    while (table_list_next(&rest, ", \t\r\n", &item)) {
        const char *name;

        if (item.ptr && *item.ptr == '{' && !table_unbrace(&item))
            item.ptr = NULL;
        if (!item.ptr)
            return err_set(err, ERR_SYNTAX, "alias_maps: unbalanced braces in \"%s\"", local.s.alias_maps);
        /* What commands run as whom is never asked of another process. */
        name = arena_strndup(arena, item.ptr, item.len);
        while (strncmp(name, "proxy:", 6) == 0)
            name += 6;
        if (table_count == TABLES_LIMIT)
            return err_set(err, ERR_SYNTAX, "alias_maps: more than %d tables", TABLES_LIMIT);
        tables[table_count++] = table_open_late(conf, name, TABLE_FOLD_FIXED | TABLE_NO_REGSUB | TABLE_NO_UNAUTH);
    }
    return 0;
}

/* The first table that knows the name. *table NULL: none does. */
static int may_wait
find(struct arena *arena, const char *name, struct table **table, const char **value, struct err *err)
{
    *table = NULL;
    for (unsigned i = 0; i < table_count; i++) {
        if (table_find(tables[i], arena, slice_from(name), value, err) < 0)
            return -1;
        if (*value) {
            *table = tables[i];
            return 0;
        }
    }
    return 0;
}

/* As whom the alias's commands run, and its files are written: who owns the table. -1: deferred already. */
static int may_wait
take_rights(struct job *job, struct step *step, struct table *table)
{
    struct err err;
    bool found;
    uid_t uid;

    switch (table_owner(table, &uid)) {
    case TABLE_TRUSTED: step->rights = (struct rights){.user = "", .home = "", .shell = ""}; return 0;
    case TABLE_OWNED:
        if (passwd_find_uid(job->arena, uid, &step->rights, &found, &err) == 0 && found)
            return 0;
        log_warning("cannot find the owner (uid %lu) of alias database %s", (unsigned long)uid, table_name(table));
        job_failed(job, step, "4.3.0", "cannot find alias database owner");
        return -1;
    default:
        log_warning("no owner UID for alias database %s", table_name(table));
        job_failed(job, step, "4.3.0", "mail system configuration error");
        return -1;
    }
}

/* ---- owner- ---- */

static void
take_text(void *ctx, struct slice text)
{
    struct buf *out = ctx;

    buf_append(out, out->len ? ", " : "", out->len ? 2 : 0);
    buf_append_slice(out, text);
}

/* An address without a domain gets ours. */
static const char *
complete(struct arena *arena, const char *address)
{
    return strchr(address, '@') ? address : arena_printf(arena, "%s@%s", address, local.s.myorigin);
}

/* Who hears of trouble with this list: the sender of what goes to its members. */
static int may_wait
take_owner(struct job *job, struct step *step, const char *name, struct err *err)
{
    const char *owner = arena_printf(job->arena, "owner-%s", name), *value;
    struct table *table;
    struct buf text = {0};

    if (find(job->arena, owner, &table, &value, err) < 0)
        return -1;
    if (!table) {
        if (local.s.reset_owner_alias)
            step->owner = NULL;
        return 0;
    }
    if (local.s.expand_owner_alias) {
        destinations_parse(slice_from(value), take_text, &text);
        owner = arena_strdup(job->arena, buf_text(&text));
        buf_release(&text);
    }
    step->owner = step->sender = complete(job->arena, owner);
    step->original = step->dsn_original = ""; /* the list's members are not told who was written to */
    return 0;
}

/* ---- expansion ---- */

struct gathered {
    struct job *job;
    const char **texts;
    size_t count, room;
};

static void
gather(void *ctx, struct slice text)
{
    struct gathered *g = ctx;

    if (g->count == g->room) {
        size_t room = g->room ? g->room * 2 : 16;
        const char **larger = arena_array(g->job->arena, room, sizeof *larger);

        if (g->count)
            memcpy(larger, g->texts, g->count * sizeof *larger);
        g->texts = larger;
        g->room = room;
    }
    g->texts[g->count++] = arena_strndup(g->job->arena, text.ptr, text.len);
}

/* A name that stands in its own expansion means the user (or nobody). */
static bool
is_own(const struct step *step, const char *name)
{
    return step->from && strcasecmp(step->from, name) == 0;
}

void
alias_expand(struct job *job, const struct step *above, const char *name, const char *unmatched, bool *found)
{
    struct gathered members = {.job = job};
    const char *value;
    struct table *table;
    struct step *step;
    struct err err;

    *found = true;
    if (is_own(above, name)) {
        *found = false;
        return;
    }
    if (find(job->arena, name, &table, &value, &err) < 0) {
        log_warning("alias look-up of %s: %s", name, err.text);
        job_failed(job, above, "4.3.0", "alias database unavailable");
        return;
    }
    *found = table != NULL;
    /* Once for each level: lists of lists would else double with each level that two of them share. */
    if (!table || job_seen(job, "alias %u %s %s", above->level, name, unmatched ? unmatched : ""))
        return;
    step = step_below(job, above);
    step->expansion = EXPAND_ALIAS;
    step->from = name;
    step->unmatched = unmatched;
    step->notify &= ~NOTIFY_SUCCESS;
    if (above->notify == NOTIFY_SUCCESS)
        step->notify = NOTIFY_NEVER;
    if (!local.s.frozen_delivered_to)
        step->delivered = step->address;
    if (take_rights(job, step, table) < 0)
        return;
    if (take_owner(job, step, name, &err) < 0) {
        job_deferred(job, above, "4.3.0", &err);
        return;
    }
    destinations_parse(slice_from(value), gather, &members);
    destinations_add(job, step, members.texts, members.count);
}
