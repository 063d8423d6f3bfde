/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/remote_table.h"

#define TIME_LIMIT SECONDS(100)

struct remote_table *
remote_table_new(const char *name, const char *where, const char *map, struct table_about *about, struct err *err)
{
    struct arena *arena = arena_new();
    struct remote_table *table = ARENA_NEW(arena, struct remote_table);

    about->trust = TABLE_OWNER_UNKNOWN;
    table->arena = arena;
    table->name = arena_strdup(arena, name);
    table->map = map ? arena_strdup(arena, map) : NULL;
    table->remote = remote_new(arena, where, err);
    if (table->remote)
        return table;
    err_context(err, "%s", name);
    arena_free(&arena);
    return NULL;
}

void
remote_table_close(void *state)
{
    struct remote_table *table = state;

    arena_free(&table->arena);
}

int may_wait
remote_table_ask(const struct remote_table *table, struct arena *arena, struct buf *request,
                 int (*converse)(void *ctx, struct stream *, struct err *), const char **value, struct err *err)
{
    struct remote_question question = {.arena = arena, .request = buf_slice(request)};
    const struct remote_talk talk = {converse, NULL, &question};
    int result = remote_ask(table->remote, &talk, TIME_LIMIT, err);

    buf_release(request);
    if (result < 0)
        return err_context(err, "%s", table->name);
    *value = question.value;
    return 0;
}
