/* SPDX-License-Identifier: Apache-2.0 */
/* Which call is in which group stands in one table. What is in no group that the daemon named kills the process; what libraries
 * try out of habit, and can do without, is refused with an errno instead.
 *
 * A call that a normal run shows, and one that only another kernel, another C library, a failure or a crash shows: both must be
 * allowed, for a daemon that is killed in production is worse than a call too many. The second kind is marked SELDOM, with its reason
 * beside it; tests/measure_calls counts the two apart. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/run/sandbox_internal.h"

/* A row that a group of the daemon's contains. With cmp, only if that holds for the arguments. A call that this architecture lacks
 * has a negative number, which libseccomp skips. */
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
#define SELDOM(set, name) CALL(set, name)
#define CALL_IF(set, name, arg, mask, value)               \
    {                                                      \
        set, SCMP_SYS(name), 1,                            \
        {                                                  \
            {                                              \
                (arg), SCMP_CMP_MASKED_EQ, (mask), (value) \
            }                                              \
        }                                                  \
    }
#define SELDOM_IF(set, name, arg, mask, value) CALL_IF(set, name, arg, mask, value)
#define SOCKET(set, name, domain)           \
    {                                       \
        set, SCMP_SYS(name), 1,             \
        {                                   \
            {                               \
                0, SCMP_CMP_EQ, (domain), 0 \
            }                               \
        }                                   \
    }

/* U is part of C, so whoever has C needs no U; L is everything that files and sockets have. */
enum {
    B = SANDBOX_BASE,
    A = SANDBOX_ACCEPT,
    K = SANDBOX_LINKS,
    I = SANDBOX_SESSIONS,
    U = SANDBOX_UNIX,
    C = SANDBOX_CONNECT,
    F = SANDBOX_FDPASS,
    H = SANDBOX_HELPERS,
    D = SANDBOX_DATAGRAMS,
    O = SANDBOX_CONTENT,
    R = SANDBOX_READ,
    M = SANDBOX_MOVE,
    Q = SANDBOX_QUEUE,
    J = SANDBOX_JOURNAL,
    S = SANDBOX_STORE,
    X = SANDBOX_MAILBOXES,
    G = SANDBOX_IDS,
    W = SANDBOX_SPACE,
    Y = SANDBOX_SYNC,
    T = SANDBOX_THREADS,
    N = SANDBOX_NAMES,
    L = SANDBOX_LIBRARIES,
};

/* The log's datagram socket is opened again when the system's logger was restarted. */
#define TYPE_MASK 0xf

static const struct row rows[] = {
    /* Memory: never executable, but for libraries that load others. */
    CALL_IF(B, mmap, 2, PROT_EXEC, 0),
    CALL(B, munmap),
    CALL(B, madvise),
    CALL(B, brk),
    SELDOM_IF(B, mprotect, 2, PROT_EXEC, 0), /* tasks' guard pages before Linux 6.13, memory of threads */
    SELDOM(B, mremap),                       /* realloc() of megabytes */
    CALL(L, mmap),
    CALL(L, mprotect),

    /* Descriptors that are there. */
    CALL(B, read),
    CALL(B, write),
    CALL(B, close),
    CALL(B, fcntl),
    CALL(B, newfstatat),
    SELDOM(B, fstat),  /* how newer C libraries (2.39) look at a descriptor */
    SELDOM(B, writev), /* long replies; the C library's last words before abort() */

    /* Waiting. */
    CALL(B, epoll_ctl),
#ifdef __NR_epoll_wait
    CALL(B, epoll_wait),
#else
    CALL(B, epoll_pwait),
#endif
    SELDOM(B, futex),           /* locks of the C library and OpenSSL when they are made, or contended */
    SELDOM(B, restart_syscall), /* a wait that a stop of the process has interrupted */

    /* The log: to postlogd (sendto) or the system's logger (sendmmsg); connects again; waits a little for one that is slow. */
    CALL(B, sendto),
    CALL(B, recvfrom), /* also what master says */
    SELDOM(B, connect),
    {B, SCMP_SYS(socket), 2, {{0, SCMP_CMP_EQ, AF_UNIX, 0}, {1, SCMP_CMP_MASKED_EQ, TYPE_MASK, SOCK_DGRAM}}},
    SELDOM(B, sendmmsg),
#ifdef __NR_poll
    SELDOM(B, poll),
#else
    SELDOM(B, ppoll),
#endif
    SELDOM(B, clock_nanosleep),
    CALL(D, clock_nanosleep), /* who writes the log rests between reads */

    /* Time and chance. A machine whose clock can't be read in user space asks the kernel each time. */
    CALL(B, clock_gettime),
    SELDOM(B, gettimeofday),
    SELDOM(B, time),
    CALL(B, getrandom),
    SELDOM(B, sysinfo), /* qsort() of much asks how much memory there is */
    SELDOM(B, uname),   /* $myhostname, where no setting says it */

    /* Signals, abort(), the end. */
    SELDOM(B, rt_sigaction),
    SELDOM(B, rt_sigprocmask),
    SELDOM(B, rt_sigreturn),
    CALL(B, getpid),
    SELDOM(B, gettid),
    SELDOM(B, tgkill),
    CALL(B, exit_group),

    /* Connections. */
    CALL(A, accept4),
    CALL(K | L, sendmsg),
    CALL(K | N | L, recvmsg),
    CALL(K | C | N | L, getsockopt),
    CALL(S | H | N | L, geteuid),
    CALL(I | N | L, getsockname),
    SELDOM(I | N | L, getpeername), /* of a connection that was passed on */
    CALL(I | X | N | L, shutdown),
    SOCKET(U | C | N | L, socket, AF_UNIX),
    SOCKET(C | N | L, socket, AF_INET),
    SOCKET(C | N | L, socket, AF_INET6),
    CALL(C | N | L, bind),
    CALL(C | N | L, setsockopt),
    CALL(F, socketpair),
    CALL(H, pipe2),
    CALL(D, recvmmsg),

    /* Files. Where paths are relative to the working directory the C library has kept some older calls. */
    CALL(O | R, pread64),
    CALL(R, openat),
    CALL(R, getdents64),
    CALL(S | N | L, lseek),
    CALL(Q | N | L, faccessat),
    SELDOM(S | N | L, access), /* a directory that could not be made: is it there? */
#if !__GLIBC_PREREQ(2, 33)
    CALL(R, stat),
    CALL(R, lstat),
#endif
#ifdef __NR_renameat
    CALL(M, renameat),
#else
    CALL(M, renameat2),
#endif
    CALL(M, unlinkat),
    CALL(Q | S | L, mkdirat),
    CALL(J | S | L, mkdir),
    CALL(Q | S | Y | L, fsync),
    CALL(Q | S | L, fdatasync),
    CALL(Q | S | L, flock),
    CALL(Q | X | L, utimensat),
    CALL(Q | X | L, pwrite64),
    CALL(Q, fchmod),
    CALL(J, pwritev),
    SELDOM(J, fallocate), /* a large message of known size */
    CALL(X, fallocate),   /* room for an mbox that is rewritten */
    CALL(S, sync_file_range),
    CALL(S, renameat2),
    SELDOM(S, linkat),    /* where renameat2() can't do without overwriting; copies within a file system */
    CALL(S | L, ftruncate),
    CALL(S | W, fstatfs),
    CALL(S, uname),         /* the host's name, in names of files */
    CALL(S, fgetxattr),     /* marks at an mbox that is being written */
    CALL(S, fsetxattr),
    CALL(S, fremovexattr),
    CALL(S, statx),
    CALL_IF(S, kill, 1, 0xffffffff, 0), /* is who holds a lock file still there? */
    CALL(X, inotify_init1),
    CALL(X, inotify_add_watch),
    CALL(X, inotify_rm_watch),
    SELDOM(X, memfd_create), /* a message that is added to an mbox */
    SELDOM(X, pwritev),      /* LMDB: more pages than one */
    SELDOM(X, pwrite64),

    /* The process that stores for many users: nobody but those of its namespace can it become. */
    CALL(G, setresuid),
    CALL(G, setresgid),
    CALL(G, setgroups),
    CALL(G | H | N | L, getegid),
        CALL(G, syncfs),

    /* Threads. clone3(), whose flags are out of a filter's sight, is refused: the C library uses clone() then. */
    CALL_IF(T, clone, 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM),
    CALL(T, set_robust_list),
    CALL(T, rseq),
    CALL(T, eventfd2),
    SELDOM(T, exit), /* a thread ends only when the process does */

    /* Sources of users and hosts (files, LDAP, SSSD, systemd): known libraries' code, but not known which. */
    SELDOM(N | L, getuid),
    SELDOM(N | L, getgid),
    SELDOM(N | L, readlink),
    SELDOM(N | L, faccessat2),
    SELDOM(N | L, statx),
    SELDOM(N | L, fstatfs),
    SELDOM(N | L, readv),
    SELDOM(N | L, ppoll),
    SELDOM(N | L, select),
    SELDOM(N | L, pselect6),
    SELDOM(N | L, ioctl),
    SELDOM(N | L, pipe2),
    SELDOM(N | L, dup),
    SELDOM(N | L, sched_yield),
    SELDOM(N | L, clock_getres),
    SELDOM(N | L, getgroups),
    SELDOM(N | L, getppid),
    SELDOM(N | L, eventfd2),
    SELDOM(N | L, epoll_create1),
    SOCKET(N | L, socket, AF_NETLINK), /* which families of addresses are there? */

    /* Clients of data bases. */
    SELDOM(L, rename),
    SELDOM(L, unlink),
    SELDOM(L, pwritev),
    SELDOM(L, fchown),
    SELDOM(L, fchmod),
    SELDOM(L, umask),
    SELDOM(L, getcwd),
    SELDOM(N | L, readlinkat),
    SELDOM(L, msync),
    SELDOM(L, fadvise64),
    SELDOM(L, getrusage),
    SELDOM(L, membarrier),
    SELDOM(L, timerfd_create),
    SELDOM(L, timerfd_settime),
    SELDOM(L, recvmmsg),
    SELDOM(L, socketpair),
    SELDOM(L, inotify_init1),
    SELDOM(L, inotify_add_watch),
    SELDOM(L, inotify_rm_watch),
    SELDOM(L, dup2),
    SELDOM(L, dup3),
    SELDOM(L, sigaltstack),
    SELDOM(L, statfs),
    SELDOM(L, fallocate),
    SELDOM(L, rt_sigpending),
    SELDOM(L, rt_sigtimedwait),
    CALL_IF(L, kill, 1, 0xffffffff, 0),
    {N | L, SCMP_SYS(prlimit64), 1, {{2, SCMP_CMP_EQ, 0, 0}}}, /* reading a limit; setting one takes a third argument */
};

/* Refused rather than fatal, unless a group allows it. */
static const struct {
    int call;
    uint16_t error;
} refused[] = {
    {SCMP_SYS(openat), EACCES},
    {SCMP_SYS(open), EACCES},
    {SCMP_SYS(openat2), ENOSYS},
    {SCMP_SYS(stat), EACCES},
    {SCMP_SYS(lstat), EACCES},
    {SCMP_SYS(statx), ENOSYS},
    {SCMP_SYS(access), EACCES},
    {SCMP_SYS(faccessat), EACCES},
    {SCMP_SYS(faccessat2), ENOSYS}, /* the C library uses faccessat then */
    {SCMP_SYS(readlink), EACCES},
    {SCMP_SYS(readlinkat), EACCES},
    {SCMP_SYS(getcwd), EACCES},
    {SCMP_SYS(getdents64), EACCES},
    {SCMP_SYS(lseek), ESPIPE},
    {SCMP_SYS(ioctl), ENOTTY},
    {SCMP_SYS(fstatfs), ENOSYS},
    {SCMP_SYS(statfs), EACCES},
    {SCMP_SYS(fadvise64), ENOSYS},
    {SCMP_SYS(sync_file_range), ENOSYS},
    {SCMP_SYS(clone3), ENOSYS},
    {SCMP_SYS(membarrier), ENOSYS},
    {SCMP_SYS(rseq), ENOSYS},
    {SCMP_SYS(prctl), EINVAL}, /* names of threads and of mappings */
    {SCMP_SYS(prlimit64), EPERM},
    {SCMP_SYS(getrlimit), EPERM},
    {SCMP_SYS(getrusage), EPERM},
    {SCMP_SYS(getcpu), ENOSYS},
    {SCMP_SYS(sched_setaffinity), EPERM},
    {SCMP_SYS(sched_getaffinity), EPERM}, /* how many arenas malloc() makes */
    {SCMP_SYS(sched_yield), ENOSYS},
    {SCMP_SYS(nanosleep), ENOSYS},
    {SCMP_SYS(clock_getres), EINVAL},
    {SCMP_SYS(epoll_pwait2), ENOSYS},
    {SCMP_SYS(sigaltstack), EPERM},
    {SCMP_SYS(close_range), ENOSYS},
    {SCMP_SYS(keyctl), ENOSYS}, /* where Kerberos may keep its tickets */
    {SCMP_SYS(add_key), ENOSYS},
    {SCMP_SYS(request_key), ENOSYS},
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

/* What a process had compiled for its children: libseccomp takes longer for it than a fork. */
static struct {
    unsigned calls;
    struct sock_fprog program; /* len 0: none */
} compiled;

static void
set_attributes(scmp_filter_ctx filter)
{
    (void)seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree: some ten steps for any call */
}

static scmp_filter_ctx
make_filter(unsigned calls, struct err *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);

    if (!filter) {
        err_set(err, ERR_TEMP, "seccomp: no filter");
        return NULL;
    }
    if (add_rows(filter, calls, err) == 0) {
        set_attributes(filter);
        return filter;
    }
    seccomp_release(filter);
    return NULL;
}

/* The kernel's form of it, through a file that only memory has. */
static int
keep_compiled(scmp_filter_ctx filter, struct err *err)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    struct stat st = {0};

    if (fd < 0)
        return err_errno(err, "seccomp: memfd_create");
    int result = seccomp_export_bpf(filter, fd);
    if (result == 0 && fstat(fd, &st) == 0 && st.st_size > 0) {
        size_t size = (size_t)st.st_size;
        struct sock_filter *rows_of_it = malloc(size);
        if (!rows_of_it)
            fatal("out of memory");
        if (pread(fd, rows_of_it, size, 0) == (ssize_t)size)
            compiled.program = (struct sock_fprog){(unsigned short)(size / sizeof *rows_of_it), rows_of_it};
        else
            free(rows_of_it);
    }
    close(fd);
    return compiled.program.len > 0 ? 0 : err_set(err, ERR_TEMP, "seccomp: the filter can't be exported");
}

int
sandbox_seccomp_compile(unsigned calls, struct err *err)
{
    scmp_filter_ctx filter = make_filter(calls | SANDBOX_BASE, err);

    if (!filter)
        return -1;
    compiled.calls = calls | SANDBOX_BASE;
    int result = keep_compiled(filter, err);
    seccomp_release(filter);
    return result;
}

int
sandbox_seccomp(unsigned calls, struct err *err)
{
    calls |= SANDBOX_BASE;
    if (compiled.program.len > 0 && compiled.calls == calls) {
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &compiled.program) == 0)
            return 0;
        if (errno != EINVAL) /* it was cut short on its way here: made anew */
            return err_errno(err, "seccomp");
    }
    scmp_filter_ctx filter = make_filter(calls, err);
    if (!filter)
        return -1;
    int result = seccomp_load(filter);
    seccomp_release(filter);
    if (result == 0)
        return 0;
    errno = -result;
    return err_errno(err, "seccomp");
}
