/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/userdb.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/run/task.h"

/* ---- local users ---- */

struct passwd_work {
    const char *name;
    struct passwd entry, *found;
    char text[4096];
    int code;
};

static void
find_passwd(void *arg)
{
    struct passwd_work *work = arg;

    work->code = getpwnam_r(work->name, &work->entry, work->text, sizeof work->text, &work->found);
}

/* "mbox:" or, for a path that ends in a slash, "maildir:" */
static const char *
mail_place(struct arena *arena, const char *directory, const char *name)
{
    size_t length = strlen(name);
    const char *slash = directory[0] && directory[strlen(directory) - 1] == '/' ? "" : "/";
    bool maildir = length > 0 && name[length - 1] == '/';

    return arena_printf(arena, "%s:%s%s%s", maildir ? "maildir" : "mbox", directory, slash, name);
}

static const char *
local_place(const struct server *server, struct arena *arena, const struct passwd *entry)
{
    const char *spool = server->set.mail_spool_directory;

    if (server->set.home_mailbox[0])
        return mail_place(arena, entry->pw_dir, server->set.home_mailbox);
    if (spool[0] && spool[strlen(spool) - 1] == '/') /* a Maildir for each user */
        return mail_place(arena, spool, arena_printf(arena, "%s/", entry->pw_name));
    return mail_place(arena, spool[0] ? spool : "/var/mail", entry->pw_name);
}

static int may_wait
find_local(struct server *server, struct arena *arena, const char *name, struct auth_ticket *ticket, bool *found,
           struct err *err)
{
    struct passwd_work *work = ARENA_NEW(arena, struct passwd_work);

    work->name = name;
    task_run_blocking(find_passwd, work);
    if (!work->found && work->code != 0 && work->code != ENOENT && work->code != ESRCH)
        return err_set(err, ERR_TEMP, "user %s: %s", name, strerror(work->code));
    if (!work->found || work->found->pw_uid == 0)
        return 0;
    ticket->uid = work->found->pw_uid;
    ticket->gid = work->found->pw_gid;
    ticket->home = arena_strdup(arena, work->found->pw_dir);
    ticket->mail = local_place(server, arena, work->found);
    *found = true;
    return 0;
}

/* ---- virtual users ---- */

static int may_wait
find_id(const struct maps *maps, struct arena *arena, const char *parameter, const char *user, int64_t least,
        unsigned long long *id, struct err *err)
{
    const char *value = NULL, *extension;

    if (maps_find_address(maps, arena, slice_from(user), "", MAPS_FULL | MAPS_DOMAIN, NULL, &value, &extension, err) <
        0)
        return -1;
    if (!value || slice_to_u64(slice_from(value), UINT32_MAX - 1, id) < 0)
        return err_set(err, ERR_TEMP, "%s: no number for %s", parameter, user);
    if (*id == 0 || (int64_t)*id < least)
        return err_set(err, ERR_TEMP, "%s: %llu for %s is too small", parameter, *id, user);
    return 0;
}

static int may_wait
find_virtual(struct server *server, struct arena *arena, const char *user, struct auth_ticket *ticket, bool *found,
             struct err *err)
{
    const char *value = NULL, *extension;
    unsigned long long uid, gid;

    if (maps_find_address(server->mailboxes, arena, slice_from(user), "", MAPS_FULL | MAPS_DOMAIN, NULL, &value,
                          &extension, err) < 0)
        return -1;
    if (!value)
        return 0;
    if (find_id(server->uids, arena, "virtual_uid_maps", user, server->set.virtual_minimum_uid, &uid, err) < 0 ||
        find_id(server->gids, arena, "virtual_gid_maps", user, 1, &gid, err) < 0)
        return -1;
    ticket->uid = (uid_t)uid;
    ticket->gid = (gid_t)gid;
    ticket->home = "";
    ticket->mail = mail_place(arena, server->set.virtual_mailbox_base, value);
    *found = true;
    return 0;
}

int may_wait
userdb_find(struct server *server, struct arena *arena, const char *user, struct auth_ticket *ticket, bool *found,
            struct err *err)
{
    const char *at = strrchr(user, '@');
    bool local = !at, is_virtual = false;

    *found = false;
    if (at && match_list_domain(server->local_domains, slice_from(at + 1), &local, err) < 0)
        return -1;
    if (at && !local && match_list_domain(server->virtual_domains, slice_from(at + 1), &is_virtual, err) < 0)
        return -1;
    if (local)
        return find_local(server, arena, at ? arena_strndup(arena, user, (size_t)(at - user)) : user, ticket, found,
                          err);
    return is_virtual ? find_virtual(server, arena, user, ticket, found, err) : 0;
}
