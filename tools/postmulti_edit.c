/* SPDX-License-Identifier: Apache-2.0 */
/* postmulti -e: makes, imports, removes, names instances. What they are is told by main.cf alone: the primary's
 * multi_instance_directories, and each instance's multi_instance_name, _group and _enable. */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/conf/cf_file.h"
#include "tools/postmulti.h"

static void
edit(struct postmulti *pm, const char *directory, char **settings)
{
    if (postmulti_run(pm, directory, "postconf", settings) != 0)
        fatal("%s/main.cf was not changed", directory);
}

static void
set(struct postmulti *pm, const char *directory, const char *name, const char *value)
{
    char *settings[] = {arena_strdup(pm->arena, "-e"), arena_printf(pm->arena, "%s=%s", name, value), NULL};
    edit(pm, directory, settings);
}

/* The one that -i names, which must not be the primary. */
static struct instance *
chosen(struct postmulti *pm, bool may_be_primary)
{
    if (!pm->name)
        fatal("-e %s wants -i name", pm->action);
    for (size_t i = 0; i < pm->count; i++)
        if (postmulti_selects(pm, &pm->instances[i])) {
            if (i == 0 && !may_be_primary)
                fatal("cannot %s the primary instance", pm->action);
            return &pm->instances[i];
        }
    fatal("no matching instances");
}

static void
assign_names(struct postmulti *pm, const char *directory)
{
    if (pm->new_name)
        set(pm, directory, "multi_instance_name", strcmp(pm->new_name, "-") == 0 ? "" : pm->new_name);
    if (pm->new_group)
        set(pm, directory, "multi_instance_group", strcmp(pm->new_group, "-") == 0 ? "" : pm->new_group);
}

/* Writes the primary's list; without is left out, added comes at its place (may be NULL both). */
static void
write_list(struct postmulti *pm, const char *without, const char *added)
{
    struct buf list = {0};
    bool placed = !added;
    for (size_t i = 1; i < pm->count; i++) {
        const struct instance *instance = &pm->instances[i];
        bool before = pm->all || ((pm->group || pm->name) && postmulti_selects(pm, instance));
        if (!placed && before) {
            buf_printf(&list, "%s ", added);
            placed = true;
        }
        if (!without || strcmp(without, instance->directory) != 0)
            buf_printf(&list, "%s ", instance->directory);
    }
    if (!placed)
        buf_append_text(&list, added);
    set(pm, pm->instances[0].directory, "multi_instance_directories", list.len > 0 ? buf_text(&list) : "");
    buf_release(&list);
}

/* --- making --- */

static const char *
given(struct postmulti *pm, const char *name)
{
    size_t len = strlen(name);
    for (char **word = pm->words; *word; word++)
        if (strncmp(*word, name, len) == 0 && (*word)[len] == '=')
            return *word + len + 1;
    return NULL;
}

/* The primary's path with the instance's name at its end, unless the command line says another. */
static const char *
path_for(struct postmulti *pm, const char *name, const char *primary)
{
    const char *path = given(pm, name), *slash = strrchr(primary, '/');
    if (!path && (!pm->new_name || strcmp(pm->new_name, "-") == 0 || !slash))
        fatal("-e %s wants -I name, or %s=/path", pm->action, name);
    if (!path)
        path = arena_printf(pm->arena, "%.*s/%s", (int)(slash - primary), primary, pm->new_name);
    postmulti_check_path(path);
    return path;
}

static bool
exists(struct postmulti *pm, const char *directory, const char *name)
{
    return access(arena_printf(pm->arena, "%s/%s", directory, name), F_OK) == 0;
}

/* A new file with a stock file's text. */
static void
copy_file(struct postmulti *pm, const char *from_directory, const char *directory, const char *name)
{
    const char *to = arena_printf(pm->arena, "%s/%s", directory, name);
    const char *proto = arena_printf(pm->arena, "%s.proto", name);
    const char *from =
        arena_printf(pm->arena, "%s/%s", from_directory, exists(pm, from_directory, proto) ? proto : name);
    struct slice content;
    struct err err;
    if (cf_file_read(pm->arena, from, &content, &err) < 0)
        fatal("%s", err.text);
    FILE *file = fopen(to, "wxe");
    if (!file || fwrite(content.ptr, 1, content.len, file) != content.len || fclose(file) != 0)
        fatal("write %s: %s", to, strerror(errno));
}

static void
make_directory(const char *path)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        fatal("make directory %s: %s", path, strerror(errno));
}

/* What all instances share must be the same in the new one. */
static void
clone_shared(struct postmulti *pm, const char *directory)
{
    static const char *const shared[] = {
        "command_directory", "daemon_directory", "mail_owner",         "setgid_group",    "meta_directory",
        "shlib_directory",   "sendmail_path",    "mailq_path",         "newaliases_path", "html_directory",
        "manpage_directory", "readme_directory", "compatibility_level"};
    const struct conf *primary = pm->instances[0].config.conf;
    for (size_t i = 0; i < ARRAY_LEN(shared); i++)
        if (conf_is_set(primary, shared[i]))
            set(pm, directory, shared[i], conf_raw(primary, shared[i]));
}

static void
fill(struct postmulti *pm, const char *directory)
{
    const struct tools_settings *s = &pm->instances[0].config.settings;
    const char *queue = path_for(pm, "queue_directory", s->queue_directory);
    const char *data = path_for(pm, "data_directory", s->data_directory);
    const char *stock = s->meta_directory;
    if (!exists(pm, stock, "main.cf.proto") && !exists(pm, stock, "main.cf"))
        stock = pm->instances[0].directory;
    make_directory(directory);
    copy_file(pm, stock, directory, "main.cf");
    copy_file(pm, stock, directory, "master.cf");
    clone_shared(pm, directory);
    set(pm, directory, "queue_directory", queue);
    set(pm, directory, "data_directory", data);
    char *not_shared[] = {arena_strdup(pm->arena, "-X"), arena_strdup(pm->arena, "multi_instance_wrapper"),
                          arena_strdup(pm->arena, "multi_instance_directories"), NULL};
    edit(pm, directory, not_shared);
    /* Ports and local submission belong to the primary until the administrator says otherwise. */
    set(pm, directory, "master_service_disable", "inet");
    set(pm, directory, "authorized_submit_users", "");
    set(pm, directory, "multi_instance_enable", "no");
}

static int
create(struct postmulti *pm, bool may_make)
{
    const char *directory = path_for(pm, "config_directory", pm->instances[0].directory);
    bool there = exists(pm, directory, "main.cf") && exists(pm, directory, "master.cf");
    for (size_t i = 0; i < pm->count; i++)
        if (strcmp(pm->instances[i].directory, directory) == 0 ||
            (pm->new_name && *pm->instances[i].name && strcmp(pm->instances[i].name, pm->new_name) == 0))
            fatal("instance %s is there already: %s", pm->new_name ? pm->new_name : "", pm->instances[i].directory);
    if (!there && !may_make)
        fatal("no main.cf and master.cf in %s", directory);
    if (!there)
        fill(pm, directory);
    assign_names(pm, directory);
    write_list(pm, NULL, directory);
    if (!there) {
        char *words[] = {arena_strdup(pm->arena, "set-permissions"), NULL};
        return postmulti_run(pm, directory, "postfix", words);
    }
    return 0;
}

/* --- removing --- */

static const char *const mail_directories[] = {"maildrop", "incoming", "active", "deferred",
                                               "hold",     "corrupt",  "saved"};
static const char *const other_directories[] = {"bounce",  "defer", "trace",   "flush",
                                                "journal", "pid",   "private", "public"};

static int
stop_at_file(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)path;
    (void)st;
    (void)where;
    return type == FTW_D || type == FTW_DP ? 0 : 1;
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)where;
    return type == FTW_DP ? rmdir(path) : unlink(path);
}

static void
check_is_idle(struct postmulti *pm, const struct instance *instance)
{
    char *status[] = {arena_strdup(pm->arena, "status"), NULL};
    const char *queue = instance->config.settings.queue_directory;
    if (instance->enabled)
        fatal("instance %s is enabled: postmulti -e disable first", instance->directory);
    if (postmulti_run(pm, instance->directory, "postfix", status) == 0)
        fatal("instance %s is running", instance->directory);
    for (size_t i = 0; i < ARRAY_LEN(mail_directories); i++) {
        const char *path = arena_printf(pm->arena, "%s/%s", queue, mail_directories[i]);
        if (access(path, F_OK) == 0 && nftw(path, stop_at_file, 16, FTW_PHYS) != 0)
            fatal("there is mail in %s", path);
    }
}

static void
remove_tree(const char *path)
{
    if (access(path, F_OK) == 0 && nftw(path, remove_entry, 16, FTW_PHYS | FTW_DEPTH | FTW_MOUNT) != 0)
        log_warning("remove %s: %s", path, strerror(errno));
}

static void
remove_empty(const char *path)
{
    if (rmdir(path) < 0 && errno != ENOENT)
        log_warning("%s: not removed: %s", path, strerror(errno));
}

static int
destroy(struct postmulti *pm)
{
    static const char *const files[] = {"main.cf", "master.cf", "main.cf.proto", "master.cf.proto"};
    struct instance *instance = chosen(pm, false);
    const struct tools_settings *s = &instance->config.settings;
    check_is_idle(pm, instance);
    write_list(pm, instance->directory, NULL);
    for (size_t i = 0; i < ARRAY_LEN(mail_directories); i++)
        remove_tree(arena_printf(pm->arena, "%s/%s", s->queue_directory, mail_directories[i]));
    for (size_t i = 0; i < ARRAY_LEN(other_directories); i++)
        remove_tree(arena_printf(pm->arena, "%s/%s", s->queue_directory, other_directories[i]));
    remove_empty(s->queue_directory);
    remove_empty(s->data_directory);
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        unlink(arena_printf(pm->arena, "%s/%s", instance->directory, files[i]));
    remove_empty(instance->directory);
    return 0;
}

/* --- the rest --- */

static int
init(struct postmulti *pm)
{
    char *settings[] = {arena_strdup(pm->arena, "-e"),
                        arena_strdup(pm->arena, "multi_instance_wrapper=${command_directory}/postmulti -p --"),
                        arena_strdup(pm->arena, "multi_instance_enable=yes"), NULL};
    edit(pm, pm->instances[0].directory, settings);
    return 0;
}

int
postmulti_edit(struct postmulti *pm)
{
    const char *action = pm->action;
    if (strcmp(action, "init") == 0)
        return init(pm);
    if (strcmp(action, "create") == 0 || strcmp(action, "import") == 0)
        return create(pm, strcmp(action, "create") == 0);
    if (strcmp(action, "destroy") == 0)
        return destroy(pm);
    if (strcmp(action, "deport") == 0)
        write_list(pm, chosen(pm, false)->directory, NULL);
    else if (strcmp(action, "enable") == 0)
        set(pm, chosen(pm, true)->directory, "multi_instance_enable", "yes");
    else if (strcmp(action, "disable") == 0)
        set(pm, chosen(pm, true)->directory, "multi_instance_enable", "no");
    else if (strcmp(action, "assign") == 0)
        assign_names(pm, chosen(pm, true)->directory);
    else
        fatal("unknown action: \"%s\"", action);
    return 0;
}
