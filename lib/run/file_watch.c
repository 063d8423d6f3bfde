/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/file_watch.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/clock.h"

/* A name in a directory. */
struct entry {
    int directory; /* inotify's number */
    char *name;
    struct entry *next;
};

struct file_watch {
    int fd;
    struct entry *entries;
    usec_t looked;
    bool changed;
};

struct file_watch *
file_watch_new(void)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    struct file_watch *w;

    if (fd < 0)
        return NULL;
    w = calloc(1, sizeof *w);
    if (!w)
        fatal("out of memory");
    w->fd = fd;
    return w;
}

void
file_watch_free(struct file_watch **at)
{
    struct file_watch *w = *at;
    struct entry *entry;

    if (!w)
        return;
    while ((entry = w->entries)) {
        w->entries = entry->next;
        free(entry->name);
        free(entry);
    }
    close(w->fd);
    free(w);
    *at = NULL;
}

static void
add(struct file_watch *w, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    struct entry *entry = calloc(1, sizeof *entry);

    if (entry)
        entry->name = strdup(slash ? slash + 1 : path);
    if (!directory || !entry || !entry->name)
        fatal("out of memory");
    entry->directory =
        inotify_add_watch(w->fd, directory, IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE | IN_ONLYDIR);
    free(directory);
    entry->next = w->entries;
    w->entries = entry;
}

void
file_watch_add(struct file_watch *w, const char *path)
{
    char *real;

    if (!w || !path || !path[0])
        return;
    add(w, path);
    real = realpath(path, NULL);
    if (real && strcmp(real, path) != 0)
        add(w, real);
    free(real);
}

static bool
concerns(const struct file_watch *w, const struct inotify_event *event)
{
    for (const struct entry *entry = w->entries; entry; entry = entry->next)
        if (entry->directory == event->wd && event->len > 0 && strcmp(entry->name, event->name) == 0)
            return true;
    return (event->mask & IN_Q_OVERFLOW) != 0;
}

bool
file_watch_changed(struct file_watch *w)
{
    _Alignas(struct inotify_event) char events[2048];
    usec_t now = clock_monotonic();
    ssize_t n;

    if (!w || w->changed || (w->looked && now - w->looked < SECONDS(1)))
        return w && w->changed;
    w->looked = now;
    while (!w->changed && (n = read(w->fd, events, sizeof events)) > 0)
        for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
            const struct inotify_event *event = (const void *)(events + at);
            w->changed = w->changed || concerns(w, event);
            at += (ssize_t)(sizeof *event + event->len);
        }
    return w->changed;
}
