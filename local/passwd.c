/* SPDX-License-Identifier: Apache-2.0 */
/* Users, by name and by number. /etc/passwd is kept in memory as long as it does not change, where the system asks it first
 * (nsswitch.conf): a list with ten thousand local members would else read it ten thousand times. Everything else is asked of
 * the system, in a thread, because a directory server may take its time. */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/check.h"
#include "local/local.h"

enum { BUFFER = 16 * 1024 };

static const char file_name[] = "/etc/passwd";

static struct {
    bool asked, first; /* is the file asked first? */
    struct stat st;    /* of what is in memory */
    struct arena *arena;
    struct map *names;
} file;

/* "passwd: files ..." or "passwd: compat ..." */
static bool
file_is_first(void)
{
    FILE *f = fopen("/etc/nsswitch.conf", "re");
    char line[512], source[32];
    bool first = false;

    if (!f)
        return true;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, " passwd: %31s", source) == 1)
            first = strcmp(source, "files") == 0 || strcmp(source, "compat") == 0;
    fclose(f);
    return first;
}

static struct rights *
copy_entry(struct arena *arena, const struct passwd *pw)
{
    struct rights *rights = ARENA_NEW(arena, struct rights);

    *rights = (struct rights){.user = arena_strdup(arena, pw->pw_name),
                              .home = arena_strdup(arena, pw->pw_dir),
                              .shell = arena_strdup(arena, *pw->pw_shell ? pw->pw_shell : "/bin/sh"),
                              .uid = pw->pw_uid,
                              .gid = pw->pw_gid};
    return rights;
}

static void
load_file(const struct stat *st)
{
    FILE *f = fopen(file_name, "re");
    const struct passwd *pw;

    if (file.names)
        map_free(&file.names, NULL);
    if (file.arena)
        arena_free(&file.arena);
    if (!f)
        return;
    file.names = map_new();
    file.arena = arena_new();
    file.st = *st;
    while ((pw = fgetpwent(f)) != NULL)
        if (pw->pw_name[0] != '+' && pw->pw_name[0] != '-' && !map_get_text(file.names, pw->pw_name))
            (void)map_put_text(file.names, pw->pw_name, copy_entry(file.arena, pw));
    fclose(f);
}

static bool
is_same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static const struct rights *
find_in_file(const char *name)
{
    struct stat st;

    if (!file.asked)
        file.first = file_is_first();
    file.asked = true;
    if (!file.first || stat(file_name, &st) < 0)
        return NULL;
    if (!file.names || !is_same(&st, &file.st))
        load_file(&st);
    return file.names ? map_get_text(file.names, name) : NULL;
}

/* ---- the system ---- */

struct question {
    const char *name; /* NULL: by uid */
    uid_t uid;
    struct passwd pw, *found;
    char *buffer;
    int error;
};

static void
ask(void *arg)
{
    struct question *q = arg;

    q->error = q->name ? getpwnam_r(q->name, &q->pw, q->buffer, BUFFER, &q->found)
                       : getpwuid_r(q->uid, &q->pw, q->buffer, BUFFER, &q->found);
}

static int may_wait
ask_system(struct arena *arena, struct question *q, struct rights *rights, bool *found, struct err *err)
{
    int error;

    q->buffer = malloc(BUFFER);
    if (!q->buffer)
        fatal("out of memory");
    task_run_blocking(ask, q);
    *found = q->found != NULL;
    if (*found)
        *rights = *copy_entry(arena, q->found);
    free(q->buffer);
    /* Some sources say with these that there is none. */
    error = q->error == ENOENT || q->error == ESRCH || q->error == EBADF || q->error == EPERM ? 0 : q->error;
    if (*found || !error)
        return 0;
    errno = error;
    return err_errno(err, "%s", "");
}

int
passwd_find(struct arena *arena, const char *name, struct rights *rights, bool *found, struct err *err)
{
    struct question question = {.name = name};
    const struct rights *known;

    /* Paths of mailboxes are made with the name, and sources of users differ in what they think a name is. */
    *found = false;
    if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return 0;
    known = find_in_file(name);
    if (known) {
        /* The file may be read anew before the job ends. */
        *rights = (struct rights){.user = arena_strdup(arena, known->user),
                                  .home = arena_strdup(arena, known->home),
                                  .shell = arena_strdup(arena, known->shell),
                                  .uid = known->uid,
                                  .gid = known->gid};
        *found = true;
        return 0;
    }
    return ask_system(arena, &question, rights, found, err);
}

int
passwd_find_uid(struct arena *arena, uid_t uid, struct rights *rights, bool *found, struct err *err)
{
    struct question question = {.uid = uid};

    return ask_system(arena, &question, rights, found, err);
}
