/* SPDX-License-Identifier: Apache-2.0 */
/* Each set of calls is a table. What is in no set that the daemon named kills the process; what libraries try out of
 * habit (opening a file, asking for a newer call) is refused with an errno that makes them go on without. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "lib/run/sandbox_internal.h"

/* A row that a set of the daemon's contains. act: SCMP_ACT_ALLOW, or SCMP_ACT_ERRNO(errno). With cmp, only if that
 * holds for the arguments. A call that this architecture lacks has a negative number, which libseccomp skips. */
struct row {
    unsigned sets;
    int call;
    unsigned cmp_count;
    struct scmp_arg_cmp cmp[2];
};

/* clang-format off */
#define CALL(set, name)         \
    {                           \
        set, SCMP_SYS(name), 0, \
        {                       \
            {                   \
                0               \
            }                   \
        }                       \
    }
#define CALL_IF(set, name, arg, mask, value)               \
    {                                                      \
        set, SCMP_SYS(name), 1,                            \
        {                                                  \
            {                                              \
                (arg), SCMP_CMP_MASKED_EQ, (mask), (value) \
            }                                              \
        }                                                  \
    }
#define SOCKET(set, name, domain)           \
    {                                       \
        set, SCMP_SYS(name), 1,             \
        {                                   \
            {                               \
                0, SCMP_CMP_EQ, (domain), 0 \
            }                               \
        }                                   \
    }

enum {
    B = SANDBOX_BASE,
    A = SANDBOX_ACCEPT,
    C = SANDBOX_CONNECT,
    U = SANDBOX_UNIX | SANDBOX_CONNECT,
    F = SANDBOX_FDPASS,
    Q = SANDBOX_FILES,
    T = SANDBOX_THREADS,
    S = SANDBOX_SPAWN,
};

/* The log's datagram socket is opened again when the system's logger was restarted. */
#define TYPE_MASK 0xf

static const struct row rows[] = {
    /* memory: never executable */
    CALL_IF(B, mmap, 2, PROT_EXEC, 0),
    CALL_IF(B, mprotect, 2, PROT_EXEC, 0),
    CALL(B, munmap),
    CALL(B, mremap),
    CALL(B, madvise),
    CALL(B, brk),
    CALL(B, msync),
    /* descriptors that are there */
    CALL(B, read),
    CALL(B, write),
    CALL(B, readv),
    CALL(B, writev),
    CALL(B, close),
    CALL(B, close_range),
    CALL(B, fstat),
    CALL(B, newfstatat),
    CALL(B, lseek),
    CALL(B, pread64),
    CALL(B, fcntl),
    CALL(B, ioctl),
    CALL(B, dup),
    CALL(B, dup2),
    CALL(B, dup3),
    CALL(B, pipe2),
    CALL(B, eventfd2),
    CALL(B, sendfile),
    CALL(B, sendto),
    CALL(B, recvfrom),
    CALL(B, sendmsg),
    CALL(B, recvmsg),
    CALL(B, sendmmsg),
    CALL(B, recvmmsg),
    CALL(B, getsockopt),
    CALL(B, setsockopt),
    CALL(B, getsockname),
    CALL(B, getpeername),
    CALL(B, shutdown),
    CALL(B, connect),
    {B, SCMP_SYS(socket), 2, {{0, SCMP_CMP_EQ, AF_UNIX, 0}, {1, SCMP_CMP_MASKED_EQ, TYPE_MASK, SOCK_DGRAM}}},
    /* waiting */
    CALL(B, epoll_create1),
    CALL(B, epoll_ctl),
    CALL(B, epoll_wait),
    CALL(B, epoll_pwait),
    CALL(B, epoll_pwait2),
    CALL(B, poll),
    CALL(B, ppoll),
    CALL(B, select),
    CALL(B, pselect6),
    CALL(B, futex),
    CALL(B, nanosleep),
    CALL(B, clock_nanosleep),
    CALL(B, restart_syscall),
    CALL(B, sched_yield),
    CALL(B, timerfd_create),
    CALL(B, timerfd_settime),
    /* time, and who we are */
    CALL(B, clock_gettime),
    CALL(B, clock_getres),
    CALL(B, gettimeofday),
    CALL(B, time),
    CALL(B, getrandom),
    CALL(B, getpid),
    CALL(B, getppid),
    CALL(B, gettid),
    CALL(B, getuid),
    CALL(B, geteuid),
    CALL(B, getgid),
    CALL(B, getegid),
    CALL(B, getgroups),
    CALL(B, getrusage),
    CALL(B, sysinfo),
    CALL(B, uname),
    CALL(B, sched_getaffinity),
    CALL(B, getcpu),
    CALL(B, membarrier),
    CALL(B, rseq),
    CALL(B, prctl),
    /* reading limits; setting one takes a third argument */
    {B, SCMP_SYS(prlimit64), 1, {{2, SCMP_CMP_EQ, 0, 0}}},
    CALL(B, getrlimit),
    /* signals to ourselves (abort), the end */
    CALL(B, rt_sigaction),
    CALL(B, rt_sigprocmask),
    CALL(B, rt_sigreturn),
    CALL(B, rt_sigpending),
    CALL(B, sigaltstack),
    CALL(B, tgkill),
    CALL(B, exit),
    CALL(B, exit_group),
    CALL(B, set_robust_list),

    CALL(A, accept4),
    CALL(A, accept),

    SOCKET(U, socket, AF_UNIX),
    SOCKET(C, socket, AF_INET),
    SOCKET(C, socket, AF_INET6),
    SOCKET(C, socket, AF_NETLINK),
    CALL(C, bind),

    SOCKET(F, socketpair, AF_UNIX),

    CALL(Q, openat),
    CALL(Q, open),
    CALL(Q, openat2),
    CALL(Q, stat),
    CALL(Q, lstat),
    CALL(Q, statx),
    CALL(Q, access),
    CALL(Q, faccessat),
    CALL(Q, faccessat2),
    CALL(Q, readlink),
    CALL(Q, readlinkat),
    CALL(Q, getdents64),
    CALL(Q, rename),
    CALL(Q, renameat),
    CALL(Q, renameat2),
    CALL(Q, link),
    CALL(Q, linkat),
    CALL(Q, unlink),
    CALL(Q, unlinkat),
    CALL(Q, mkdir),
    CALL(Q, mkdirat),
    CALL(Q, rmdir),
    CALL(Q, symlink),
    CALL(Q, symlinkat),
    CALL(Q, chmod),
    CALL(Q, fchmod),
    CALL(Q, fchmodat),
    CALL(Q, fchown),
    CALL(Q, utimensat),
    CALL(Q, truncate),
    CALL(Q, ftruncate),
    CALL(Q, fallocate),
    CALL(Q, flock),
    CALL(Q, fsync),
    CALL(Q, fdatasync),
    CALL(Q, sync_file_range),
    CALL(Q, syncfs),
    CALL(Q, pwrite64),
    CALL(Q, preadv),
    CALL(Q, pwritev),
    CALL(Q, pwritev2),
    CALL(Q, copy_file_range),
    CALL(Q, fadvise64),
    CALL(Q, statfs),
    CALL(Q, fstatfs),
    CALL(Q, umask),
    CALL(Q, chdir),
    CALL(Q, fchdir),
    CALL(Q, getcwd),
    CALL(Q, inotify_init1),
    CALL(Q, inotify_add_watch),
    CALL(Q, inotify_rm_watch),

    CALL_IF(T, clone, 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM),
    CALL(T, fsync),
    CALL(T, fdatasync),
    CALL(T, pwrite64),
    CALL(T, pwritev),
    CALL(T, pwritev2),
    CALL(T, sync_file_range),
    CALL(T, sched_setaffinity),
    CALL(T, ftruncate),
    CALL(T, fallocate),

    CALL(S, clone),
    CALL(S, fork),
    CALL(S, vfork),
    CALL(S, clone3),
    CALL(S, execve),
    CALL(S, execveat),
    CALL(S, wait4),
    CALL(S, waitid),
    CALL(S, setsid),
    CALL(S, setpgid),
    CALL(S, kill),
    CALL(S, setuid),
    CALL(S, setgid),
    CALL(S, setgroups),
    CALL(S, setresuid),
    CALL(S, setresgid),
    CALL(S, setreuid),
    CALL(S, setregid),
    CALL(S, capset),
    CALL(S, prlimit64),
    CALL(S, setrlimit),
    CALL(S, chroot),
    /* what the program that is started needs to get going */
    CALL(S, mmap),
    CALL(S, mprotect),
    CALL(S, arch_prctl),
    CALL(S, set_tid_address),
};

/* Refused rather than fatal, unless a set allows it. */
static const struct {
    int call;
    uint16_t error;
} refused[] = {
    {SCMP_SYS(openat), EACCES},
    {SCMP_SYS(open), EACCES},
    {SCMP_SYS(openat2), EACCES},
    {SCMP_SYS(stat), EACCES},
    {SCMP_SYS(lstat), EACCES},
    {SCMP_SYS(statx), ENOSYS},
    {SCMP_SYS(access), EACCES},
    {SCMP_SYS(faccessat), EACCES},
    {SCMP_SYS(faccessat2), EACCES},
    {SCMP_SYS(readlink), EACCES},
    {SCMP_SYS(readlinkat), EACCES},
    {SCMP_SYS(getcwd), EACCES},
    {SCMP_SYS(getdents64), EACCES},
    {SCMP_SYS(clone3), ENOSYS}, /* its flags are out of a filter's sight */
    {SCMP_SYS(sched_setaffinity), EPERM},
    {SCMP_SYS(fadvise64), ENOSYS},
};

/* clang-format on */

static bool
is_in_a_set(int call, unsigned calls)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if ((rows[i].sets & calls) && rows[i].call == call)
            return true;
    return false;
}

/* A call may stand in several sets with and without conditions: the one without covers the others. */
static bool
is_allowed_whole(int call, unsigned calls)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if ((rows[i].sets & calls) && rows[i].call == call && rows[i].cmp_count == 0)
            return true;
    return false;
}

static int
add_rows(scmp_filter_ctx filter, unsigned calls, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        int result;

        if (!(row->sets & calls) || (row->cmp_count && is_allowed_whole(row->call, calls)))
            continue;
        result = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, row->call, row->cmp_count, row->cmp);
        if (result < 0 && result != -EEXIST && result != -EDOM) {
            errno = -result;
            return err_errno(err, "seccomp: system call %d", row->call);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        int result;

        if (is_in_a_set(refused[i].call, calls))
            continue;
        result = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(refused[i].error), refused[i].call, 0, NULL);
        if (result < 0 && result != -EDOM) {
            errno = -result;
            return err_errno(err, "seccomp: system call %d", refused[i].call);
        }
    }
    return 0;
}

static int
load(scmp_filter_ctx filter, struct err *err)
{
    int result;

    (void)seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree: some ten steps for any call */
    result = seccomp_load(filter);
    if (result < 0) {
        errno = -result;
        return err_errno(err, "seccomp");
    }
    return 0;
}

int
sandbox_seccomp(unsigned calls, struct err *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int result;

    if (!filter)
        return err_set(err, ERR_TEMP, "seccomp: no filter");
    result = add_rows(filter, calls | SANDBOX_BASE, err);
    if (result == 0)
        result = load(filter, err);
    seccomp_release(filter);
    return result;
}
