/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/queue_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/slice.h"
#include "lib/conf/conf.h"
#include "lib/mail/queue_id.h"

enum { DEEPEST = 16 }; /* hash_queue_depth goes no further */

const char *const queue_dir_all[] = {"maildrop", "incoming", "active", "deferred", "hold", NULL};

int
queue_dir_open(struct queue_dir *dir, const char *path, const struct conf *conf, struct arena *arena, struct err *err)
{
    int64_t depth;

    if (conf_int(conf, "hash_queue_depth", &depth, err) < 0)
        return -1;
    dir->depth = (unsigned)depth;
    dir->hashed_names = conf_string(conf, arena, "hash_queue_names", err);
    if (!dir->hashed_names)
        return -1;
    dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0)
        return err_errno(err, "open queue directory %s", path);
    return 0;
}

bool
queue_dir_is_hashed(const struct queue_dir *dir, const char *queue)
{
    struct slice rest = slice_from(dir->hashed_names), word;

    while (slice_word(&rest, " ,\t\r\n", &word))
        if (slice_equal_text(word, queue))
            return true;
    return false;
}

char *
queue_dir_path(const struct queue_dir *dir, struct arena *arena, const char *queue, const char *id)
{
    return queue_id_path(arena, queue, id, queue_dir_is_hashed(dir, queue), dir->depth);
}

int
queue_dir_make_parents(const struct queue_dir *dir, const char *path, struct err *err)
{
    char *copy = strdup(path);
    int result = 0;

    if (!copy)
        fatal("out of memory");
    for (char *slash = strchr(copy, '/'); slash && result == 0; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdirat(dir->fd, copy, 0700) < 0 && errno != EEXIST)
            result = err_errno(err, "mkdir %s", copy);
        *slash = '/';
    }
    free(copy);
    return result;
}

int
queue_dir_move(const struct queue_dir *dir, const char *from, const char *to, const char *id, const char *to_id,
               bool *found, struct err *err)
{
    struct arena *arena = arena_new();
    const char *old = queue_dir_path(dir, arena, from, id);
    const char *new = queue_dir_path(dir, arena, to, to_id ? to_id : id);
    int result = 0;

    if (found)
        *found = true;
    if (renameat(dir->fd, old, dir->fd, new) < 0) {
        /* ENOENT may mean the file or the directory that it goes to. */
        if (errno == ENOENT && faccessat(dir->fd, old, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
            result = queue_dir_make_parents(dir, new, err);
            if (result == 0 && renameat(dir->fd, old, dir->fd, new) < 0)
                result = err_errno(err, "rename %s to %s", old, new);
        } else if (found && errno == ENOENT) {
            *found = false;
        } else {
            result = err_errno(err, "rename %s to %s", old, new);
        }
    }
    arena_free(&arena);
    return result;
}

int
queue_dir_remove(const struct queue_dir *dir, const char *queue, const char *id, bool *found, struct err *err)
{
    struct arena *arena = arena_new();
    const char *path = queue_dir_path(dir, arena, queue, id);
    int result = 0;

    if (found)
        *found = true;
    if (unlinkat(dir->fd, path, 0) < 0) {
        if (errno == ENOENT && found)
            *found = false;
        else if (errno != ENOENT)
            result = err_errno(err, "remove %s", path);
    }
    arena_free(&arena);
    return result;
}

/* ---- going through ---- */

struct queue_walk {
    const struct queue_dir *dir;
    const char *queue;
    DIR *open[DEEPEST + 1];
    char path[64 + 2 * (DEEPEST + 1)]; /* "deferred/4/A" */
    unsigned depth;                    /* directories open: 0 at the end */
    bool started, show_all;
};

struct queue_walk *
queue_walk_new(const struct queue_dir *dir, const char *queue)
{
    struct queue_walk *walk = calloc(1, sizeof(*walk));

    if (!walk)
        fatal("out of memory");
    check(strlen(queue) < 64);
    walk->dir = dir;
    walk->queue = queue;
    return walk;
}

void
queue_walk_free(struct queue_walk **walk)
{
    if (!*walk)
        return;
    while ((*walk)->depth > 0)
        closedir((*walk)->open[--(*walk)->depth]);
    free(*walk);
    *walk = NULL;
}

static int
enter(struct queue_walk *walk, const char *name, struct err *err)
{
    size_t len = strlen(walk->path);
    int fd;

    snprintf(walk->path + len, sizeof(walk->path) - len, "%s%s", len ? "/" : "", name);
    fd = openat(walk->dir->fd, walk->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && (walk->open[walk->depth] = fdopendir(fd))) {
        walk->depth++;
        return 0;
    }
    int code = errno;
    if (fd >= 0)
        close(fd);
    errno = code;
    err_errno(err, "open directory %s", walk->path);
    walk->path[len] = '\0';
    return -1;
}

static void
leave(struct queue_walk *walk)
{
    char *slash = strrchr(walk->path, '/');

    closedir(walk->open[--walk->depth]);
    if (slash)
        *slash = '\0';
}

static bool
lies_in_place(const struct queue_walk *walk, const char *id)
{
    struct arena *arena = arena_new();
    const char *path = queue_dir_path(walk->dir, arena, walk->queue, id);
    size_t len = strlen(walk->path);
    bool result = strncmp(path, walk->path, len) == 0 && path[len] == '/' && strcmp(path + len + 1, id) == 0;

    arena_free(&arena);
    return result;
}

int
queue_walk_next(struct queue_walk *walk, const char **id, bool *in_place, struct err *err)
{
    if (!walk->started) {
        walk->started = true;
        if (enter(walk, walk->queue, err) < 0)
            return -1;
    }
    while (walk->depth > 0) {
        struct dirent *entry = readdir(walk->open[walk->depth - 1]);
        if (!entry) {
            leave(walk);
        } else if (entry->d_name[0] == '.' || (!walk->show_all && !queue_id_is_valid(slice_from(entry->d_name)))) {
            continue;
        } else if (!entry->d_name[1]) {
            if (walk->depth <= DEEPEST && enter(walk, entry->d_name, err) < 0)
                return -1;
        } else {
            *id = entry->d_name;
            if (in_place)
                *in_place = lies_in_place(walk, *id);
            return 1;
        }
    }
    return 0;
}

char *
queue_walk_path(const struct queue_walk *walk, struct arena *arena, const char *id)
{
    return arena_printf(arena, "%s/%s", walk->path, id);
}

void
queue_walk_show_all(struct queue_walk *walk)
{
    walk->show_all = true;
}
