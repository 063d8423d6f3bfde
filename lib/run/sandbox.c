/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lib/run/sandbox_internal.h"

#ifdef POSTERN_SANITIZERS
enum { UNDER_SANITIZERS = 1 }; /* they need to look around, also at exit */
#else
enum { UNDER_SANITIZERS = 0 };
#endif

struct ids {
    bool change;
    uid_t uid;
    gid_t gid;
};

static void
note(struct buf *achieved, const char *what)
{
    if (!achieved)
        return;
    if (achieved->len)
        buf_append_byte(achieved, ' ');
    buf_append_text(achieved, what);
}

/* Looked up before the chroot. An ordinary user keeps its ids. */
static int
find_ids(const struct sandbox *s, struct ids *ids, struct err *err)
{
    const struct passwd *user;
    const struct group *group;

    *ids = (struct ids){.uid = getuid(), .gid = getgid()};
    if (geteuid() == 0 && s->has_ids)
        *ids = (struct ids){true, s->uid, s->gid};
    if (ids->change && ids->uid == 0)
        return err_set(err, ERR_PERM, "uid 0 is not for a user's process");
    if (geteuid() != 0 || !s->user || s->has_ids)
        return 0;
    errno = 0;
    user = getpwnam(s->user);
    if (!user)
        return err_set(err, ERR_PERM, "unknown user: %s", s->user);
    *ids = (struct ids){true, user->pw_uid, user->pw_gid};
    if (s->group) {
        group = getgrnam(s->group);
        if (!group)
            return err_set(err, ERR_PERM, "unknown group: %s", s->group);
        ids->gid = group->gr_gid;
    }
    if (ids->uid == 0)
        return err_set(err, ERR_PERM, "user %s has root's uid", s->user);
    return 0;
}

static int
enter_chroot(const struct sandbox *s, struct buf *achieved, struct err *err)
{
    if (!s->chroot_dir || geteuid() != 0)
        return 0;
    if (chroot(s->chroot_dir) < 0 || chdir("/") < 0)
        return err_errno(err, "chroot %s", s->chroot_dir);
    note(achieved, "chroot");
    return 0;
}

static bool bounding_set_is_empty; /* also in children */

/* Dropping from the bounding set needs a capability itself, so it comes before the uid goes. */
static int
drop_bounding_set(struct err *err)
{
    if (bounding_set_is_empty)
        return 0;
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return err_errno(err, "dropping capability %d from the bounding set", cap);
    bounding_set_is_empty = true;
    return 0;
}

static int
change_ids(const struct ids *ids, struct err *err)
{
    if (setgroups(1, &ids->gid) < 0)
        return err_errno(err, "setgroups");
    if (setresgid(ids->gid, ids->gid, ids->gid) < 0)
        return err_errno(err, "setresgid %u", ids->gid);
    if (setresuid(ids->uid, ids->uid, ids->uid) < 0)
        return err_errno(err, "setresuid %u", ids->uid);
    if (setresuid(-1U, 0, -1U) == 0 || setresgid(-1U, 0, -1U) == 0)
        return err_set(err, ERR_PERM, "privileges could be won back");
    return 0;
}

static int
drop_capabilities(struct err *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

    memset(none, 0, sizeof(none));
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
        return err_errno(err, "clearing ambient capabilities");
    if (syscall(SYS_capset, &head, none) < 0)
        return err_errno(err, "capset");
    return 0;
}

/* A root helper that starts others under their own uid (SANDBOX_SPAWN without a user) needs its capabilities. */
static int
give_up_ids(const struct sandbox *s, const struct ids *ids, struct buf *achieved, struct err *err)
{
    bool keeps_root = geteuid() == 0 && !ids->change;

    if (keeps_root && (s->calls & SANDBOX_SPAWN))
        return 0;
    if (geteuid() == 0 && drop_bounding_set(err) < 0)
        return -1;
    if (ids->change && change_ids(ids, err) < 0)
        return -1;
    if (achieved && ids->change)
        buf_printf(achieved, "%suid=%u gid=%u", achieved->len ? " " : "", ids->uid, ids->gid);
    if (drop_capabilities(err) < 0)
        return -1;
    note(achieved, "caps");
    return 0;
}

static int
limit(__rlimit_resource_t resource, const char *name, struct err *err)
{
    struct rlimit none = {0, 0};

    if (setrlimit(resource, &none) < 0)
        return err_errno(err, "setrlimit %s", name);
    return 0;
}

/* A thread counts as a process, so a pool of threads excludes that limit; seccomp forbids forking then. */
static int
limit_resources(const struct sandbox *s, struct buf *achieved, struct err *err)
{
    if (limit(RLIMIT_CORE, "CORE", err) < 0)
        return -1;
    if (!s->may_write_files && !UNDER_SANITIZERS) {
        signal(SIGXFSZ, SIG_IGN);
        if (limit(RLIMIT_FSIZE, "FSIZE", err) < 0)
            return -1;
    }
    if (!s->may_fork && !(s->calls & (SANDBOX_THREADS | SANDBOX_SPAWN)) && !UNDER_SANITIZERS &&
        limit(RLIMIT_NPROC, "NPROC", err) < 0)
        return -1;
    note(achieved, "rlimits");
    return 0;
}

static bool
seccomp_is_left_out(void)
{
    return UNDER_SANITIZERS || getenv("POSTERN_NO_SECCOMP") != NULL;
}

static int
enter_filters(const struct sandbox *s, struct buf *achieved, struct err *err)
{
    int level = 0;

    if (!s->no_landlock && !UNDER_SANITIZERS) {
        if (sandbox_landlock(s, &level, err) < 0)
            return -1;
        if (achieved)
            buf_printf(achieved, " landlock=%d", level);
    }
    if (s->calls && !(s->calls & SANDBOX_SPAWN) && !seccomp_is_left_out()) {
        if (sandbox_seccomp(s->calls, err) < 0)
            return -1;
        note(achieved, "seccomp");
    }
    return 0;
}

void
sandbox_prepare(unsigned calls)
{
    struct err err;

    /* What fails here fails again where it counts. */
    if (!seccomp_is_left_out())
        (void)!sandbox_seccomp_compile(calls, &err);
    if (geteuid() == 0)
        (void)!drop_bounding_set(&err);
}

int
sandbox_filter(unsigned calls, struct err *err)
{
    return seccomp_is_left_out() ? 0 : sandbox_seccomp(calls, err);
}

int
sandbox_enter(const struct sandbox *s, struct buf *achieved, struct err *err)
{
    struct ids ids;

    tzset(); /* the zone's file can't be read later */
    if (find_ids(s, &ids, err) < 0 || enter_chroot(s, achieved, err) < 0 || give_up_ids(s, &ids, achieved, err) < 0)
        return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 && !(s->calls & SANDBOX_SPAWN))
        return err_errno(err, "no_new_privs");
    note(achieved, "no_new_privs");
    if (!UNDER_SANITIZERS && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_errno(err, "dumpable");
    if (limit_resources(s, achieved, err) < 0)
        return -1;
    return enter_filters(s, achieved, err);
}
