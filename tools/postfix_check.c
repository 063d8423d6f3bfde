/* SPDX-License-Identifier: Apache-2.0 */
/* Owners and modes: of the queue, the data directory, the configuration and the programs. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "tools/postfix_command.h"

enum whose { ROOT, OWNER };
enum which_group { ROOT_GROUP, OWNER_GROUP, SUBMIT_GROUP };

enum { HASH_LEVELS = 16 /* hash_queue_depth, at most */ };

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

/* Who can write here can become root (or us) at the next start. False: it is not there. */
static bool
check_writers(const struct control *c, const char *path, struct stat *st)
{
    if (stat(path, st) < 0)
        return false;
    if (c->privileged && st->st_uid != 0)
        say_warning("not owned by root: %s", path);
    if (st->st_mode & 0022)
        say_warning("group or other writable: %s", path);
    return true;
}

/* All that lies in a directory, not below it. */
static void
check_files(struct control *c, const char *directory)
{
    DIR *entries = opendir(directory);
    struct dirent *entry;
    struct stat st;
    while (entries && (entry = readdir(entries)))
        if (strcmp(entry->d_name, "..") != 0)
            (void)check_writers(c, arena_printf(c->arena, "%s/%s", directory, entry->d_name), &st);
    if (entries)
        closedir(entries);
}

/* All that lies in the directory `name` of `parent`, or below it in as many levels of directories. */
static void
check_owned(struct control *c, int parent, const char *name, const char *path, unsigned levels)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *entries = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    struct stat st;
    if (!entries) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(entries))) {
        if (*entry->d_name == '.' || fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (st.st_uid != c->owner)
            say_warning("not owned by %s: %s/%s", c->settings.mail_owner, path, entry->d_name);
        if (S_ISDIR(st.st_mode) && levels > 0)
            check_owned(c, fd, entry->d_name, arena_printf(c->arena, "%s/%s", path, entry->d_name), levels - 1);
    }
    closedir(entries);
}

/* What is in the queue is its owner's: mail of somebody else's is not delivered. pid and the like are root's. */
static void
check_queued(struct control *c)
{
    static const char *const of_owner[] = {"active", "bounce",   "corrupt", "defer", "deferred", "flush",
                                           "hold",   "incoming", "journal", "saved", "trace"};
    for (size_t i = 0; i < ARRAY_LEN(of_owner) && c->privileged; i++) {
        const char *path = arena_printf(c->arena, "%s/%s", c->settings.queue_directory, of_owner[i]);
        check_owned(c, AT_FDCWD, path, path, HASH_LEVELS);
    }
}

int
check_directories(struct control *c, bool repair)
{
    mode_t mask = umask(0022);
    int result = check_queue(c, repair);
    if (result == 0)
        result = check_data(c, repair);
    umask(mask);
    check_files(c, conf_directory(c->conf));
    return result;
}

/* --- programs --- */

/* What is started by root, and what runs with the group of the queue. */
static void
check_program(struct control *c, const char *path, bool needs_group)
{
    struct stat st;
    if (!check_writers(c, path, &st) || !needs_group || !c->privileged)
        return;
    if (st.st_gid != c->submit_group)
        say_warning("not owned by group %s: %s", c->settings.setgid_group, path);
    else if ((st.st_mode & 02111) != 02111)
        say_warning("not set-gid or not owner+group+world executable: %s", path);
}

void
check_program_files(struct control *c)
{
    static const char *const with_group[] = {"postdrop", "postqueue"};
    const char *directory = c->settings.daemon_directory;
    check_queued(c);
    check_program(c, directory, false);
    check_program(c, c->settings.command_directory, false);
    for (size_t i = 0; i < ARRAY_LEN(with_group); i++)
        check_program(c, arena_printf(c->arena, "%s/%s", c->settings.command_directory, with_group[i]), true);
    DIR *entries = opendir(directory);
    struct dirent *entry;
    while (entries && (entry = readdir(entries)))
        if (*entry->d_name != '.')
            check_program(c, arena_printf(c->arena, "%s/%s", directory, entry->d_name), false);
    if (entries)
        closedir(entries);
}
