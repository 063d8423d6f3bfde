/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock by system call, because libc has no wrappers; its numbers are the same on all architectures. What a kernel
 * does not know yet is left out, so an older one restricts less, and says so by its level. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/run/sandbox_internal.h"

enum {
    CALL_CREATE_RULESET = 444,
    CALL_ADD_RULE = 445,
    CALL_RESTRICT_SELF = 446,
    ASK_VERSION = 1,
    RULE_PATH_BENEATH = 1,
};

/* The rights, as linux/landlock.h numbers them. */
#define FS_EXECUTE     (UINT64_C(1) << 0)
#define FS_WRITE_FILE  (UINT64_C(1) << 1)
#define FS_READ_FILE   (UINT64_C(1) << 2)
#define FS_READ_DIR    (UINT64_C(1) << 3)
#define FS_REMOVE_DIR  (UINT64_C(1) << 4)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_DIR    (UINT64_C(1) << 7)
#define FS_MAKE_REG    (UINT64_C(1) << 8)
#define FS_ALL_V1      ((UINT64_C(1) << 13) - 1)
#define FS_REFER       (UINT64_C(1) << 13) /* from 2 on */
#define FS_TRUNCATE    (UINT64_C(1) << 14) /* from 3 on */
#define FS_IOCTL_DEV   (UINT64_C(1) << 15) /* from 5 on */
#define NET_ALL        (UINT64_C(3))       /* bind and connect of TCP: from 4 on */
#define SCOPE_ALL      (UINT64_C(3))       /* abstract Unix sockets, signals: from 6 on */

struct ruleset {
    uint64_t fs, net, scoped;
};

struct path_rule {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

static uint64_t
known_fs_rights(int level)
{
    return FS_ALL_V1 | (level >= 2 ? FS_REFER : 0) | (level >= 3 ? FS_TRUNCATE : 0) | (level >= 5 ? FS_IOCTL_DEV : 0);
}

/* A path that does not exist gives nothing, and so needs no rule. */
static int
allow_below(int ruleset, const char *path, uint64_t rights, struct err *err)
{
    const uint64_t of_files = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV;
    struct path_rule rule = {.allowed = rights};
    struct stat st;
    long result;

    rule.parent = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent < 0)
        return errno == ENOENT ? 0 : err_errno(err, "landlock: %s", path);
    if (fstat(rule.parent, &st) == 0 && !S_ISDIR(st.st_mode))
        rule.allowed &= of_files;
    result = syscall(CALL_ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0);
    close(rule.parent);
    return result < 0 ? err_errno(err, "landlock: %s", path) : 0;
}

static int
allow_all(int ruleset, const char *const *paths, uint64_t rights, struct err *err)
{
    for (; paths && *paths; paths++)
        if (allow_below(ruleset, *paths, rights, err) < 0)
            return -1;
    return 0;
}

static int
fill_and_enter(int ruleset, const struct sandbox *s, uint64_t known, struct err *err)
{
    const uint64_t reading = FS_READ_FILE | FS_READ_DIR;
    const uint64_t writing =
        reading | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_REFER | FS_TRUNCATE;

    if (allow_all(ruleset, s->read_paths, reading & known, err) < 0 ||
        allow_all(ruleset, s->write_paths, writing & known, err) < 0)
        return -1;
    if (syscall(CALL_RESTRICT_SELF, ruleset, 0) < 0)
        return err_errno(err, "landlock");
    return 0;
}

int
sandbox_landlock(const struct sandbox *s, int *level, struct err *err)
{
    long version = syscall(CALL_CREATE_RULESET, NULL, 0, ASK_VERSION);
    struct ruleset attr = {0};
    size_t size = sizeof(attr.fs);
    int ruleset, result;

    *level = version < 0 ? 0 : (int)version;
    if (*level == 0)
        return 0;
    attr.fs = known_fs_rights(*level);
    if (*level >= 4) {
        size = sizeof(attr.fs) + sizeof(attr.net);
        if (!(s->calls & (SANDBOX_CONNECT | SANDBOX_NAMES | SANDBOX_SPAWN)))
            attr.net = NET_ALL;
    }
    if (*level >= 6) {
        size = sizeof(attr);
        if (!(s->calls & SANDBOX_SPAWN))
            attr.scoped = SCOPE_ALL;
    }
    ruleset = (int)syscall(CALL_CREATE_RULESET, &attr, size, 0);
    if (ruleset < 0)
        return err_errno(err, "landlock");
    result = fill_and_enter(ruleset, s, attr.fs, err);
    close(ruleset);
    return result;
}
