/* SPDX-License-Identifier: Apache-2.0 */
/* unix:passwd.byname and unix:group.byname: the system's accounts. May block: the name service switch may ask the
 * network. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/run/task.h"
#include "lib/table/table_type.h"

enum { RECORD_LIMIT = 1 << 20 };

/* 0, or errno. Leaves out empty if there is no such account. */
static int
find_user(const char *key, struct buf *room, struct buf *out)
{
    struct passwd pw, *found = NULL;
    size_t size = 1024;
    int error;

    while ((error = getpwnam_r(key, &pw, buf_reserve(room, size), size, &found)) == ERANGE && size < RECORD_LIMIT)
        size *= 4;
    if (found)
        buf_printf(out, "%s:%s:%ld:%ld:%s:%s:%s", found->pw_name, found->pw_passwd, (long)found->pw_uid,
                   (long)found->pw_gid, found->pw_gecos, found->pw_dir, found->pw_shell);
    return error;
}

static int
find_group(const char *key, struct buf *room, struct buf *out)
{
    struct group gr, *found = NULL;
    size_t size = 1024;
    int error;

    while ((error = getgrnam_r(key, &gr, buf_reserve(room, size), size, &found)) == ERANGE && size < RECORD_LIMIT)
        size *= 4;
    if (!found)
        return error;
    buf_printf(out, "%s:%s:%ld:", found->gr_name, found->gr_passwd, (long)found->gr_gid);
    for (char **member = found->gr_mem; *member; member++)
        buf_printf(out, "%s%s", *member, member[1] ? "," : "");
    return error;
}

static const struct {
    const char *name;
    int (*find)(const char *key, struct buf *room, struct buf *out);
} maps[] = {{"passwd.byname", find_user}, {"group.byname", find_group}};

static void *
unix_open(const struct conf *conf, const char *name, unsigned flags, struct table_about *about, struct err *err)
{
    (void)conf, (void)flags, (void)about;
    for (size_t i = 0; i < ARRAY_LEN(maps); i++)
        if (strcmp(maps[i].name, name) == 0)
            return (void *)(uintptr_t)(i + 1);
    err_set(err, ERR_PERM, "unknown table: unix:%s", name);
    return NULL;
}

static void
unix_close(void *state)
{
    (void)state;
}

/* What getpwnam_r() gives where there is no such entry differs between systems and sources. */
static bool
means_not_found(int error)
{
    return error == 0 || error == ENOENT || error == ESRCH;
}

/* Asked in a thread: the source may be a server far away. */
struct question {
    size_t index;
    const char *key;
    struct buf room, out;
    int error;
};

static void
run_question(void *arg)
{
    struct question *q = arg;

    q->error = maps[q->index].find(q->key, &q->room, &q->out);
}

static int may_wait
unix_find(void *state, struct arena *arena, struct slice key, const char **value, struct err *err)
{
    struct question *q = ARENA_NEW(arena, struct question);

    q->index = (size_t)(uintptr_t)state - 1;
    q->key = arena_strndup(arena, key.ptr, key.len);
    task_run_blocking(run_question, q);
    if (q->out.len > 0)
        *value = arena_strndup(arena, q->out.ptr, q->out.len);
    buf_release(&q->room);
    buf_release(&q->out);
    if (*value || means_not_found(q->error))
        return 0;
    return err_set(err, ERR_TEMP, "unix:%s: %s", maps[q->index].name, strerror(q->error));
}

const struct table_ops table_unix = {
    .type = "unix", .may_block = true, .open = unix_open, .close = unix_close, .find = unix_find};
