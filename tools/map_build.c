/* SPDX-License-Identifier: Apache-2.0 */
/* Making tables from their sources: postmap FILE, postalias FILE, newaliases. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/conf/settings_tools.h"
#include "tools/map_command.h"

struct map_builder {
    const struct map_command *command;
    const struct table_maker *maker;
    void *state;
    const char *type, *name;
    struct arena *arena;
};

const struct map_command *
map_builder_command(const struct map_builder *builder)
{
    return builder->command;
}

struct arena *
map_builder_arena(const struct map_builder *builder)
{
    return builder->arena;
}

void
map_entry(struct map_builder *builder, struct slice key, struct slice value)
{
    struct err err;

    if (!builder->command->no_fold)
        key = table_fold(builder->arena, key, builder->command->utf8);
    if (builder->maker->put(builder->state, key, value, &err) == 0)
        return;
    builder->maker->abandon(builder->state);
    fatal("table %s:%s: write error: %s", builder->type, builder->name, err.text);
}

void
map_entry_replace(struct map_builder *builder, const char *key, const char *value)
{
    struct err err;
    bool found;

    if (builder->command->incremental && builder->maker->remove(builder->state, slice_from(key), &found, &err) < 0)
        fatal("table %s:%s: write error: %s", builder->type, builder->name, err.text);
    if (builder->maker->put(builder->state, slice_from(key), slice_from(value), &err) < 0)
        fatal("table %s:%s: write error: %s", builder->type, builder->name, err.text);
}

/* ---- whose rights ---- */

static void
become(uid_t uid, gid_t gid)
{
    if (geteuid() != 0 && seteuid(0) < 0)
        fatal("seteuid(0): %s", strerror(errno));
    if (setgroups(1, &gid) < 0 || setegid(gid) < 0 || seteuid(uid) < 0)
        fatal("set uid %ld gid %ld: %s", (long)uid, (long)gid, strerror(errno));
}

/* Whoever owns the directory can put links in our way: there root works as he. */
static void
become_owner_of_directory(const char *path)
{
    char *copy = strdup(path);
    struct stat st;

    if (!copy)
        fatal("out of memory");
    const char *directory = dirname(copy);
    if (stat(directory, &st) < 0)
        fatal("open %s: %s", path, strerror(errno));
    if (st.st_uid != 0)
        become(st.st_uid, st.st_gid);
    free(copy);
}

static mode_t
mode_of(const struct map_command *command, const struct stat *source)
{
    return command->own_mode || !S_ISREG(source->st_mode) ? 0644 : source->st_mode & 0644;
}

/* The mode and owner of a table that is there stay. */
static void
note_old_file(const struct table_maker *maker, const char *name, struct stat *old)
{
    char *path;

    if (asprintf(&path, "%s%s", name, maker->suffix) < 0)
        fatal("out of memory");
    if (lstat(path, old) < 0 || !S_ISREG(old->st_mode))
        memset(old, 0, sizeof *old);
    free(path);
}

/* ---- making ---- */

static void
read_source(struct map_builder *builder, const char *name, struct slice text)
{
    struct table_lines lines;
    struct slice line;

    table_lines_begin(&lines, name, text);
    while (table_lines_next(&lines, &line)) {
        arena_reset(builder->arena);
        builder->command->kind->line(builder, &lines, line);
    }
    table_lines_end(&lines);
    arena_reset(builder->arena);
    if (builder->command->kind->complete)
        builder->command->kind->complete(builder);
}

static int
read_input(const struct map_command *command, const char *name, struct buf *text, struct stat *st, struct err *err)
{
    int fd = -1;

    if (!command->incremental) {
        if (table_text_read(name, text, &fd, err) < 0)
            return -1;
        (void)fstat(fd, st);
        close(fd);
        return 0;
    }
    ssize_t got;
    while ((got = read(STDIN_FILENO, buf_reserve(text, 65536), 65536)) != 0) {
        if (got < 0 && errno != EINTR)
            return err_errno(err, "read standard input");
        if (got > 0)
            buf_added(text, (size_t)got);
    }
    *st = (struct stat){.st_mode = 0644};
    (void)stat(name, st);
    return 0;
}

/* A new table with one change in it would hide all that stands in the old one. */
static void
refuse_to_hide(const char *type, const char *name)
{
    char *ours = NULL, *other = NULL;

    if (strcmp(type, "hash") != 0 && strcmp(type, "btree") != 0)
        return;
    if (asprintf(&ours, "%s.lmdb", name) < 0 || asprintf(&other, "%s.db", name) < 0)
        fatal("out of memory");
    if (access(ours, F_OK) < 0 && access(other, F_OK) == 0)
        fatal("%s is of a kind that can only be read: make a table to change with \"postmap %s:%s\", or if it has no text source "
              "with \"postmap -s %s:%s | postmap -i lmdb:%s\"",
              other, type, name, type, name, name);
    free(ours);
    free(other);
}

static void
start(struct map_builder *builder, const struct stat *source)
{
    const struct map_command *command = builder->command;
    enum table_duplicates duplicates = command->duplicates;
    struct stat old;
    struct err err;

    note_old_file(builder->maker, builder->name, &old);
    mode_t mode = old.st_mode ? old.st_mode & 0777 : mode_of(command, source);
    if (command->incremental)
        refuse_to_hide(builder->type, builder->name);
    if (command->incremental && builder->maker->update)
        builder->state = builder->maker->update(command->conf, builder->name, true, mode, duplicates, &err);
    else if (command->incremental)
        err_set(&err, ERR_PERM, "%s tables can't be changed, only made anew", builder->type);
    else
        builder->state = builder->maker->create(command->conf, builder->name, mode, duplicates, &err);
    if (!builder->state)
        fatal("%s", err.text);
}

static const struct table_maker *
find_maker(const char *type)
{
    const struct table_ops *ops = table_type_find(slice_from(type));

    if (!ops)
        fatal("unsupported dictionary type: %s. Is the postern-%s package installed?", type, type);
    if (!ops->maker)
        fatal("unsupported dictionary type: %s does not support bulk-mode creation.", type);
    return ops->maker;
}

/* A signal in the middle would leave a half-written file under its temporary name. */
static void
block_signals(sigset_t *before)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, before);
}

void
map_build(const struct map_command *command, const char *type_and_name)
{
    struct map_builder builder = {.command = command, .arena = arena_new()};
    struct arena *arena = arena_new();
    bool is_root = getuid() == 0 && geteuid() == 0;
    struct buf text = {0};
    struct stat source;
    struct err err;
    sigset_t signals;

    map_name_split(command, arena, type_and_name, &builder.type, &builder.name);
    if (is_root && !command->keep_root)
        become_owner_of_directory(builder.name);
    if (read_input(command, builder.name, &text, &source, &err) < 0)
        fatal("%s", err.text);
    if (is_root && !command->keep_root && geteuid() == 0 && source.st_uid != 0)
        become(source.st_uid, source.st_gid);
    builder.maker = find_maker(builder.type);
    mode_t mask = umask(022);
    block_signals(&signals);
    start(&builder, &source);
    read_source(&builder, command->incremental ? "stdin" : builder.name, buf_slice(&text));
    if (builder.maker->finish(builder.state, &err) < 0)
        fatal("%s", err.text);
    sigprocmask(SIG_SETMASK, &signals, NULL);
    umask(mask);
    if (is_root && !command->keep_root)
        become(0, getgid());
    buf_release(&text);
    arena_free(&builder.arena);
    arena_free(&arena);
}

/* ---- changing ---- */

/* Opens each map once for any number of keys. */
struct deletion {
    struct map_builder *builders;
    size_t count;
};

static void
open_for_deletion(const struct map_command *command, struct arena *arena, char **names, struct deletion *d)
{
    struct err err;

    for (d->count = 0; names[d->count]; d->count++)
        ;
    d->builders = arena_array(arena, d->count, sizeof *d->builders);
    for (size_t i = 0; i < d->count; i++) {
        struct map_builder *builder = &d->builders[i];
        *builder = (struct map_builder){.command = command, .arena = arena};
        map_name_split(command, arena, names[i], &builder->type, &builder->name);
        builder->maker = find_maker(builder->type);
        refuse_to_hide(builder->type, builder->name);
        if (!builder->maker->update)
            fatal("%s tables can't be changed, only made anew", builder->type);
        builder->state = builder->maker->update(command->conf, builder->name, false, 0644, TABLE_DUP_REPLACE, &err);
        if (!builder->state)
            fatal("%s", err.text);
    }
}

static bool
delete_key(const struct map_command *command, struct deletion *d, struct slice key)
{
    struct arena *arena = arena_new();
    bool any = false, found;
    struct err err;

    if (!command->no_fold)
        key = table_fold(arena, key, command->utf8);
    for (size_t i = 0; i < d->count; i++) {
        const struct map_builder *builder = &d->builders[i];
        if (builder->maker->remove(builder->state, key, &found, &err) < 0)
            fatal("table %s:%s: delete error: %s", builder->type, builder->name, err.text);
        any = any || found;
    }
    arena_free(&arena);
    return any;
}

static void
close_after_deletion(struct deletion *d)
{
    struct err err;

    for (size_t i = 0; i < d->count; i++)
        if (d->builders[i].maker->finish(d->builders[i].state, &err) < 0)
            fatal("%s", err.text);
}

bool
map_delete(const struct map_command *command, char **names, const char *key)
{
    struct arena *arena = arena_new();
    struct deletion d;

    open_for_deletion(command, arena, names, &d);
    bool found = delete_key(command, &d, slice_from(key));
    close_after_deletion(&d);
    arena_free(&arena);
    return found;
}

bool
map_delete_stdin(const struct map_command *command, char **names)
{
    struct arena *arena = arena_new();
    struct deletion d;
    bool found = false;
    char *line = NULL;
    size_t room = 0;
    ssize_t len;

    open_for_deletion(command, arena, names, &d);
    while ((len = getline(&line, &room, stdin)) >= 0) {
        if (len > 0 && line[len - 1] == '\n')
            len--;
        found |= delete_key(command, &d, slice_make(line, (size_t)len));
    }
    close_after_deletion(&d);
    free(line);
    arena_free(&arena);
    return found;
}
