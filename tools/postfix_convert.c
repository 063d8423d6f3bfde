/* SPDX-License-Identifier: Apache-2.0 */
/* What `postfix start` does for a configuration that comes from a system with Berkeley DB: tables of the types hash and btree
 * that have only a FILE.db are made anew, as FILE.lmdb, from their text source. postmap and postalias do the work.
 *
 * With whose rights: where only root can put files into a directory, postmap's own rules do (it works as the owner of the source).
 * Where others can, they could put a link in our way, or a source that is not theirs; there the work is done by a process
 * that is the owner of FILE.db, for good, and so can't get at more than he. It is never root's. */
#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/map.h"
#include "lib/conf/master_cf.h"
#include "lib/table/table.h"
#include "tools/postfix_command.h"

struct conversion {
    struct control *c;
    struct map *seen; /* files that were looked at */
};

static bool
is_there(struct control *c, const char *path, const char *ending)
{
    return access(arena_printf(c->arena, "%s%s", path, ending), F_OK) == 0;
}

/* Only root can put a file there, or another directory in its place (a sticky one above it, as /tmp is, is no harm). */
static bool
is_roots_directory(struct control *c, const char *path)
{
    char *directory = realpath(dirname(arena_strdup(c->arena, path)), NULL);
    bool is_roots = directory != NULL;
    mode_t harmless = 0;
    struct stat st;

    for (char *at = directory; is_roots; harmless = S_ISVTX, at = dirname(at)) {
        is_roots =
            stat(at, &st) == 0 && st.st_uid == 0 && (!(st.st_mode & (S_IWGRP | S_IWOTH)) || (st.st_mode & harmless));
        if (strcmp(at, "/") == 0)
            break;
    }
    free(directory);
    return is_roots;
}

static _Noreturn void
run_as(const struct stat *owner, char *const *argv)
{
    gid_t group = owner->st_gid;

    if (setgroups(1, &group) < 0 || setresgid(group, group, group) < 0 ||
        setresuid(owner->st_uid, owner->st_uid, owner->st_uid) < 0)
        say_warning("set uid %ld gid %ld: %s", (long)owner->st_uid, (long)group, strerror(errno));
    else
        execv(argv[0], argv);
    _exit(127);
}

/* As the owner of FILE.db. -1: root's rights would be needed (said already). */
static int
run_as_owner(struct control *c, const char *path, char *const *argv)
{
    const char *file = arena_printf(c->arena, "%s.db", path);
    struct stat st;
    int status;

    if (lstat(file, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid == 0) {
        say_warning(
            "%s.lmdb is not made from %s with root's rights, in a directory that others may write: run %s yourself",
            path, path, strrchr(argv[0], '/') + 1);
        return -1;
    }
    pid_t child = fork();
    if (child == 0)
        run_as(&st, argv);
    while (child > 0 && waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return 127;
    return child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

/* Entries that somebody wrote into FILE.db, and not into its source, are lost in ours; and what was edited since counts now. */
static void
compare_ages(struct control *c, const char *path)
{
    struct stat text, stored;

    if (stat(path, &text) == 0 && stat(arena_printf(c->arena, "%s.db", path), &stored) == 0 &&
        text.st_mtim.tv_sec > stored.st_mtim.tv_sec)
        say_warning("%s was changed after %s.db was made from it: the changes take effect now", path, path);
}

static void
make_table(struct control *c, const char *setting, const char *name, const char *path)
{
    bool aliases = strcmp(setting, "alias_maps") == 0 || strcmp(setting, "alias_database") == 0;
    char *argv[] = {arena_printf(c->arena, "%s/%s", c->settings.command_directory, aliases ? "postalias" : "postmap"),
                    arena_strdup(c->arena, "-c"), arena_strdup(c->arena, conf_directory(c->conf)),
                    arena_strdup(c->arena, name), NULL};

    say("making %s.lmdb from %s, because %s.db is of a kind that is not used any more", path, path, path);
    compare_ages(c, path);
    int status = geteuid() != 0 || is_roots_directory(c, path) ? run(argv) : run_as_owner(c, path, argv);
    if (status > 0)
        say_warning("%s: table %s could not be made", setting, name);
}

/* It is read as it is, if the module for it is installed. */
static void
check_readable(struct control *c, const char *setting, const char *name)
{
    struct err err;

    if (!table_open(c->conf, name, 0, &err))
        say_warning("%s: table %s: %s", setting, name, err.text);
}

static void
convert(struct conversion *conversion, const char *setting, const char *name, const char *path)
{
    struct control *c = conversion->c;

    if (map_put_text(conversion->seen, path, conversion) || is_there(c, path, ".lmdb") || !is_there(c, path, ".db"))
        return;
    if (is_there(c, path, ""))
        make_table(c, setting, name, path);
    if (!is_there(c, path, ".lmdb"))
        check_readable(c, setting, name);
}

static void
convert_value(void *ctx, const char *setting, const char *value)
{
    struct conversion *conversion = ctx;
    struct control *c = conversion->c;
    struct err err;
    const char *expanded = conf_expand(c->conf, c->arena, value, &err);
    struct slice rest = slice_from(expanded), word;

    while (slice_word(&rest, ", \t\r\n{}!", &word)) {
        if (slice_starts_with_fold(word, "proxy:"))
            word = slice_make(word.ptr + 6, word.len - 6);
        const char *name = arena_strndup(c->arena, word.ptr, word.len);
        if (strncmp(name, "hash:/", 6) == 0)
            convert(conversion, setting, name, name + 5);
        else if (strncmp(name, "btree:/", 7) == 0)
            convert(conversion, setting, name, name + 6);
    }
}

void
convert_tables(struct control *c)
{
    struct conversion conversion = {.c = c, .seen = map_new()};
    struct master_cf master;
    struct err err;

    conf_each_setting(c->conf, convert_value, &conversion);
    if (!conf_is_set(c->conf, "alias_maps"))
        convert_value(&conversion, "alias_maps", conf_raw(c->conf, "alias_maps"));
    if (master_cf_load(c->conf, c->arena, &master, &err) == 0)
        for (size_t i = 0; i < master.count; i++)
            for (size_t j = 0; j < master.services[i].option_count; j++)
                convert_value(&conversion, master.services[i].options[j].name, master.services[i].options[j].value);
    map_free(&conversion.seen, NULL);
}
