/* SPDX-License-Identifier: Apache-2.0 */
/* What `postfix check` looks at: the directories of the queue, and the settings. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/conf/master_cf.h"
#include "lib/conf/param.h"
#include "lib/conf/settings.h"
#include "tools/postfix_command.h"

enum whose { ROOT, OWNER };
enum which_group { ROOT_GROUP, OWNER_GROUP, SUBMIT_GROUP };

/* Below the queue directory. The modes are Postfix's, so that either may run on the queue. */
static const struct directory {
    const char *name;
    mode_t mode;
    enum whose owner;
    enum which_group group;
} directories[] = {
    {"active", 0700, OWNER, ROOT_GROUP},   {"bounce", 0700, OWNER, ROOT_GROUP},
    {"corrupt", 0700, OWNER, ROOT_GROUP},  {"defer", 0700, OWNER, ROOT_GROUP},
    {"deferred", 0700, OWNER, ROOT_GROUP}, {"flush", 0700, OWNER, ROOT_GROUP},
    {"hold", 0700, OWNER, ROOT_GROUP},     {"incoming", 0700, OWNER, ROOT_GROUP},
    {"journal", 0700, OWNER, ROOT_GROUP},  {"maildrop", 0730, OWNER, SUBMIT_GROUP},
    {"pid", 0755, ROOT, ROOT_GROUP},       {"private", 0700, OWNER, ROOT_GROUP},
    {"public", 0710, OWNER, SUBMIT_GROUP}, {"saved", 0700, OWNER, ROOT_GROUP},
    {"trace", 0700, OWNER, ROOT_GROUP},
};

int
find_owners(struct control *c)
{
    if (!c->privileged) {
        c->owner = geteuid();
        c->owner_group = c->submit_group = getegid();
        return 0;
    }
    const struct passwd *user = getpwnam(c->settings.mail_owner);
    const struct group *group = getgrnam(c->settings.setgid_group);
    if (!user || !group) {
        say_fatal("file %s/main.cf: parameter %s: unknown %s name value: %s", conf_directory(c->conf),
                  user ? "setgid_group" : "mail_owner", user ? "group" : "user",
                  user ? c->settings.setgid_group : c->settings.mail_owner);
        return -1;
    }
    if (user->pw_uid == 0 || user->pw_gid == 0) {
        say_fatal("file %s/main.cf: parameter mail_owner: user %s has privileged user or group ID",
                  conf_directory(c->conf), c->settings.mail_owner);
        return -1;
    }
    c->owner = user->pw_uid;
    c->owner_group = user->pw_gid;
    c->submit_group = group->gr_gid;
    return 0;
}

static uid_t
owner_of(const struct control *c, const struct directory *d)
{
    return c->privileged && d->owner == ROOT ? 0 : c->owner;
}

/* Group of a directory that is only its owner's does not matter, so (gid_t)-1 leaves it alone. */
static gid_t
group_of(const struct control *c, const struct directory *d)
{
    return !c->privileged ? (gid_t)-1 : d->group == SUBMIT_GROUP ? c->submit_group : (gid_t)-1;
}

/* Makes path and what is missing above it, for the current user. */
static int
make_parents(struct control *c, const char *path)
{
    char *copy = arena_strdup(c->arena, path);
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            return -1;
        *slash = '/';
    }
    return mkdir(copy, 0755) < 0 && errno != EEXIST ? -1 : 0;
}

static int
complain(const char *what, const char *path)
{
    say_fatal("%s %s: %s", what, path, strerror(errno));
    return -1;
}

static int
set_owner_and_mode(int fd, const struct directory *d, uid_t owner, gid_t group, const char *path)
{
    if (fchown(fd, owner, group) < 0 || fchmod(fd, d->mode) < 0)
        return complain("set owner and mode of", path);
    return 0;
}

/* Extra permission for the owner's group (Debian's sticky and set-gid bits too) is the administrator's choice. */
static void
compare(const struct control *c, const struct directory *d, const struct stat *st, const char *path)
{
    uid_t owner = owner_of(c, d);
    gid_t group = group_of(c, d);
    if (st->st_uid != owner)
        say_warning("not owned by %s: %s", owner == 0 ? "root" : c->privileged ? c->settings.mail_owner : "you", path);
    if (group != (gid_t)-1 && st->st_gid != group)
        say_warning("not owned by group %s: %s", c->settings.setgid_group, path);
    if ((st->st_mode & 0022 & ~d->mode) != 0)
        say_warning("group or other writable: %s", path);
    else if ((st->st_mode & 0700) != 0700)
        say_warning("not usable by its owner: %s", path);
}

/* top: the descriptor of the queue directory. Links are never followed: below it, names may be somebody else's. */
static int
check_directory(struct control *c, int top, const char *top_path, const struct directory *d, bool repair)
{
    struct stat st;
    const char *path = arena_printf(c->arena, "%s/%s", top_path, d->name);
    bool made = mkdirat(top, d->name, 0700) == 0;
    if (!made && errno != EEXIST)
        return complain("make directory", path);
    int fd = openat(top, d->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES) {
        say_warning("not usable by its owner: %s", path);
        return 0;
    }
    if (fd < 0)
        return complain("open directory", path);
    int result = 0;
    if (made || repair)
        result = set_owner_and_mode(fd, d, owner_of(c, d), group_of(c, d), path);
    else if (fstat(fd, &st) == 0)
        compare(c, d, &st, path);
    close(fd);
    return result;
}

static int
check_queue(struct control *c, bool repair)
{
    const char *path = c->settings.queue_directory;
    int result = 0;
    if (make_parents(c, path) < 0)
        return complain("make directory", path);
    int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return complain("open directory", path);
    struct stat st;
    if (fstat(top, &st) == 0 && st.st_uid != (c->privileged ? 0 : c->owner))
        say_warning("not owned by %s: %s", c->privileged ? "root" : "you", path);
    for (size_t i = 0; i < ARRAY_LEN(directories) && result == 0; i++)
        result = check_directory(c, top, path, &directories[i], repair);
    close(top);
    return result;
}

static int
check_data(struct control *c, bool repair)
{
    static const struct directory data = {"", 0700, OWNER, ROOT_GROUP};
    const char *path = c->settings.data_directory;
    struct stat st;
    bool made = stat(path, &st) < 0;
    if (made && make_parents(c, path) < 0)
        return complain("make directory", path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return complain("open directory", path);
    int result = 0;
    if (made || repair)
        result = set_owner_and_mode(fd, &data, c->owner, (gid_t)-1, path);
    else if (fstat(fd, &st) == 0)
        compare(c, &data, &st, path);
    close(fd);
    return result;
}

/* Who can write here can become root (or us) at the next start. */
static void
check_file(struct control *c, const char *name)
{
    struct stat st;
    const char *path = arena_printf(c->arena, "%s/%s", conf_directory(c->conf), name);
    if (stat(path, &st) < 0)
        return;
    if (c->privileged && st.st_uid != 0)
        say_warning("not owned by root: %s", path);
    if (st.st_mode & 0022)
        say_warning("group or other writable: %s", path);
}

int
check_directories(struct control *c, bool repair)
{
    mode_t mask = umask(0022);
    int result = check_queue(c, repair);
    if (result == 0)
        result = check_data(c, repair);
    umask(mask);
    check_file(c, ".");
    check_file(c, "main.cf");
    check_file(c, "master.cf");
    return result;
}

/* --- settings --- */

struct settings_walk {
    struct control *c;
    bool tell_effects;
    int result;
};

static void
check_setting(void *ctx, const char *name, const char *value)
{
    struct settings_walk *walk = ctx;
    struct err err;
    int index = param_find(slice_from(name));
    (void)value;
    if (index < 0)
        return;
    struct param param = param_at((unsigned)index);
    if (settings_check(walk->c->conf, walk->c->arena, (unsigned)index, &err) < 0) {
        say_fatal("%s", err.text);
        walk->result = -1;
    }
    if (walk->tell_effects && param.status == PARAM_NO_EFFECT)
        say_warning("%s/main.cf: parameter %s has no effect: %s", conf_directory(walk->c->conf), name, param.detail);
    if (walk->tell_effects && param.status == PARAM_NOT_YET && strcmp(conf_raw(walk->c->conf, name), param.text) != 0)
        say_warning("%s/main.cf: parameter %s has no effect yet", conf_directory(walk->c->conf), name);
}

/* A configuration made for more programs than there are still starts. */
static void
check_programs(struct control *c, const struct master_cf *master, bool each)
{
    const char *missing = "";
    for (size_t i = 0; i < master->count; i++) {
        const struct master_service *service = &master->services[i];
        const char *path = arena_printf(c->arena, "%s/%s", c->settings.daemon_directory, service->command);
        if (*service->command == '/' || access(path, X_OK) == 0)
            continue;
        if (each)
            say_warning("%s: line %u: service %s: can't run %s: %s", master->path, service->line, service->name, path,
                        strerror(errno));
        missing = arena_printf(c->arena, "%s %s/%s", missing, service->name, master_type_name(service->type));
    }
    if (*missing && !each)
        say_warning("services without a program:%s", missing);
}

static int
check_services(struct control *c, bool tell_all)
{
    struct master_cf master;
    struct err err;
    if (master_cf_load(c->conf, c->arena, &master, &err) < 0) {
        say_fatal("%s", err.text);
        return -1;
    }
    check_programs(c, &master, tell_all);
    return 0;
}

int
check_settings(struct control *c, bool tell_effects)
{
    struct settings_walk walk = {.c = c, .tell_effects = tell_effects};
    for (unsigned i = 0; tell_effects && conf_warning(c->conf, i); i++)
        say_warning("%s", conf_warning(c->conf, i));
    conf_each_setting(c->conf, check_setting, &walk);
    if (check_services(c, tell_effects) < 0)
        walk.result = -1;
    return walk.result;
}
