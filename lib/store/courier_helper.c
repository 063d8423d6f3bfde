/* SPDX-License-Identifier: Apache-2.0 */
/* The one process of local delivery that keeps root. Short, so that it can be read whole: it takes fixed structs from the
 * daemon that it was forked from, forks couriers and group processes, and looks at files' owners. It opens no file but the maps of
 * namespaces, and parses nothing. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/store/courier_group.h"

enum { KEEP_FD = 3 };

/* Nothing of the daemon's stays open but what is named; that becomes descriptor 3. */
static int
keep_only(int fd)
{
    if (fd != KEEP_FD) {
        if (dup2(fd, KEEP_FD) < 0)
            return -1;
    }
    return close_range(KEEP_FD + 1, UINT_MAX, 0);
}

/* As root itself (root's own mailbox) the courier keeps the uid, and no power over what belongs to others. */
static int
drop_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

    memset(none, 0, sizeof none);
    return (int)syscall(SYS_capset, &head, none);
}

static int
become(uid_t uid, gid_t gid)
{
    if (geteuid() != 0)
        return 0;
    if (setgroups(1, &gid) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -1;
    if (uid != 0 && (setresuid(0, 0, 0) == 0 || (gid != 0 && setresgid(0, 0, 0) == 0)))
        return -1;
    if (uid == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return drop_capabilities();
}

/* In the child: fd is the courier's end. */
static void NORETURN
be_courier(int fd, uid_t uid, gid_t gid)
{
    if (keep_only(fd) < 0 || become(uid, gid) < 0)
        _exit(1);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)prctl(PR_SET_NAME, "courier", 0, 0, 0);
    courier_work(KEEP_FD, uid);
}

/* ---- a process that may be several users, and nobody else ---- */

enum { TWO_IDS = CAP_TO_MASK(CAP_SETUID) | CAP_TO_MASK(CAP_SETGID) };

static int
compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* Writes "id id 1" for each id to the new process's map; each id once. */
static int
write_map(pid_t pid, const char *name, uint32_t *ids, unsigned count)
{
    size_t len = 0, size = ((size_t)count + 1) * 32;
    char path[64], *text = malloc(size);
    int fd, result;

    if (!text)
        return -1;
    qsort(ids, count, sizeof *ids, compare_ids);
    for (unsigned i = 0; i < count; i++)
        if (i == 0 || ids[i] != ids[i - 1])
            len += (size_t)snprintf(text + len, size - len, "%u %u 1\n", ids[i], ids[i]);
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    result = fd >= 0 && write(fd, text, len) == (ssize_t)len ? 0 : -1;
    if (fd >= 0)
        close(fd);
    free(text);
    return result;
}

static int
write_maps(pid_t pid, const struct helper_request *request)
{
    static uint32_t ids[COURIER_GROUP_LIMIT + 1];

    ids[request->count] = request->uid;
    for (unsigned i = 0; i < request->count; i++)
        ids[i] = request->ids[i].uid;
    if (write_map(pid, "uid_map", ids, request->count + 1) < 0)
        return -1;
    ids[request->count] = request->gid;
    for (unsigned i = 0; i < request->count; i++)
        ids[i] = request->ids[i].gid;
    return write_map(pid, "gid_map", ids, request->count + 1);
}

/* Keeps the right to change between the ids of the namespace, and no other. */
static int
become_group(uid_t uid, gid_t gid)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct two[_LINUX_CAPABILITY_U32S_3] = {{.effective = TWO_IDS, .permitted = TWO_IDS}};

    if (setgroups(1, &gid) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -1;
    if (setresuid(0, 0, 0) == 0 || setresgid(0, 0, 0) == 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return (int)syscall(SYS_capset, &head, two);
}

/* In the child, once its namespace has ids. */
static void NORETURN
be_group(int fd, int ready, const struct helper_request *request)
{
    char byte;

    if (read(ready, &byte, 1) != 1 || keep_only(fd) < 0 || become_group(request->uid, request->gid) < 0)
        _exit(1);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)prctl(PR_SET_NAME, "courier-group", 0, 0, 0);
    courier_group_work(KEEP_FD);
}

static bool
names_root(const struct helper_request *request)
{
    for (unsigned i = 0; i < request->count; i++)
        if (request->ids[i].uid == 0 || request->ids[i].gid == 0)
            return true;
    return request->uid == 0 || request->gid == 0;
}

static int
fork_group(int fd, const struct helper_request *request)
{
    int pair[2], error = 0;
    pid_t pid;

    if (fd < 0 || request->count == 0 || request->count > COURIER_GROUP_LIMIT || names_root(request))
        return EINVAL;
    if (pipe2(pair, O_CLOEXEC) < 0)
        return errno;
    pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        close(pair[1]);
        be_group(fd, pair[0], request);
    }
    if (pid < 0 || write_maps(pid, request) < 0 || write(pair[1], "", 1) != 1)
        error = errno; /* the child ends when it reads no byte */
    close(pair[0]);
    close(pair[1]);
    return error;
}

/* ---- requests ---- */

static int
take_descriptor(struct msghdr *msg)
{
    const struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    int fd = -1;

    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

static void
answer_fork(int fd, const struct helper_request *request, struct helper_answer *answer)
{
    pid_t pid = fd >= 0 ? fork() : -1;

    if (pid == 0)
        be_courier(fd, request->uid, request->gid);
    answer->error = pid < 0 ? (fd < 0 ? EBADF : errno) : 0;
}

static void
answer_stat(const struct helper_request *request, struct helper_answer *answer)
{
    struct stat st;

    if (stat(request->path, &st) < 0) {
        answer->error = errno;
        return;
    }
    answer->uid = st.st_uid;
    answer->gid = st.st_gid;
    answer->mode = st.st_mode;
}

/* False: the daemon has gone. */
static int
serve_one(int socket, struct helper_request *request)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {request, sizeof *request};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct helper_answer answer = {0};
    ssize_t n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
    int fd = -1;

    if (n < 0)
        return errno == EINTR;
    if (n == 0)
        return 0;
    fd = take_descriptor(&msg);
    if (n != sizeof *request || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        answer.error = EINVAL;
    else if (request->what == HELPER_FORK)
        answer_fork(fd, request, &answer);
    else if (request->what == HELPER_GROUP)
        answer.error = fork_group(fd, request);
    else if (request->what == HELPER_STAT && memchr(request->path, '\0', sizeof request->path))
        answer_stat(request, &answer);
    else
        answer.error = EINVAL;
    if (fd >= 0)
        close(fd);
    return send(socket, &answer, sizeof answer, MSG_NOSIGNAL) == sizeof answer;
}

void
courier_help(int fd)
{
    static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2, SIGXFSZ, SIGCHLD};
    static struct helper_request request; /* this process has nothing else to do */
    const struct rlimit none = {0, 0};
    sigset_t all;

    if (keep_only(fd) < 0)
        _exit(1);
    for (unsigned i = 0; i < ARRAY_LEN(ignored); i++)
        (void)signal(ignored[i], SIG_IGN);
    sigemptyset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    (void)prctl(PR_SET_NAME, "courier-helper", 0, 0, 0);
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)umask(077);
    while (serve_one(KEEP_FD, &request))
        ;
    _exit(0);
}
