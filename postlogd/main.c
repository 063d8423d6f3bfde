/* SPDX-License-Identifier: Apache-2.0 */
/* postlogd: writes the log to maillog_file. Datagrams come in on the postlog socket, each with one or more lines that
 * are complete but for this: a byte that a terminal would act on becomes '?', and the last line ends. What arrives
 * together is written with one call. `postfix logrotate` and `postfix reload` end this process; the next datagram starts
 * its successor, which opens the file anew with the rights that it needs, and none is lost, because the socket stays. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/conf/settings_postlogd.h"
#include "lib/service/service.h"

enum {
    DATAGRAMS = 16,           /* read with one call */
    DATAGRAM_SIZE = 40 << 10, /* a sender's largest, and more */
    ROOM_TIME = 1000,         /* ms that a full pipe is waited for */
};

/* Between reads in a burst; the kernel holds ten datagrams meanwhile. */
static const struct timespec REST = {.tv_nsec = 5000000};

static struct {
    int fd;
    char *bytes;        /* DATAGRAMS times DATAGRAM_SIZE */
    unsigned long lost; /* datagrams that could not be written */
} out = {.fd = -1};

/* --- the file --- */

static bool
starts_with(const char *text, struct slice prefix)
{
    return strlen(text) >= prefix.len && memcmp(text, prefix.ptr, prefix.len) == 0;
}

static int
check_place(const struct postlogd_settings *s, struct err *err)
{
    struct slice rest = slice_from(s->maillog_file_prefixes), prefix;

    if (*s->maillog_file == '\0')
        return err_set(err, ERR_PERM, "maillog_file is not set");
    if (strstr(s->maillog_file, "/../"))
        return err_set(err, ERR_PERM, "maillog_file '%s' leads upwards", s->maillog_file);
    while (slice_word(&rest, ", \t\r\n", &prefix))
        if (starts_with(s->maillog_file, prefix))
            return 0;
    return err_set(err, ERR_PERM, "maillog_file '%s' does not match any prefix in maillog_file_prefixes '%s'",
                   s->maillog_file, s->maillog_file_prefixes);
}

/* /dev/stdout: what master was started with; in a container that may be a pipe that can't be opened by name. */
static int
open_file(const struct postlogd_settings *s, struct err *err)
{
    unsigned mode = (unsigned)strtoul(s->maillog_file_permissions, NULL, 8);
    mode_t mask = umask(0); /* the administrator has said what mode it gets */
    int fd;

    if (strcmp(s->maillog_file, "/dev/stdout") == 0)
        fd = fcntl(1, F_DUPFD_CLOEXEC, 3);
    else
        fd = open(s->maillog_file, O_APPEND | O_CREAT | O_WRONLY | O_CLOEXEC | O_NOCTTY, mode);
    umask(mask);
    if (fd < 0)
        return err_errno(err, "open maillog_file %s", s->maillog_file);
    return fd;
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    struct postlogd_settings settings;
    const char *name = conf_string(conf, service_arena(), "syslog_name", err);

    sandbox->may_write_files = true;
    if (!name || postlogd_settings_load(&settings, conf, service_arena(), err) < 0 || check_place(&settings, err) < 0)
        return -1;
    out.fd = open_file(&settings, err);
    if (out.fd < 0)
        return -1;
    log_init(arena_printf(service_arena(), "%s/postlogd", name));
    log_to_fd(out.fd, true);
    return 0;
}

/* --- lines --- */

/* Makes the datagram fit to stand in a log; returns its length. There is room for one byte more. */
static size_t
clean(char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)bytes[i] < 32 && bytes[i] != '\n') || bytes[i] == 127)
            bytes[i] = '?';
    if (len > 0 && bytes[len - 1] != '\n')
        bytes[len++] = '\n';
    return len;
}

/* Standard output may be a pipe that others have made non-blocking. */
static bool
wait_for_room(void)
{
    struct pollfd look = {.fd = out.fd, .events = POLLOUT};

    return poll(&look, 1, ROOM_TIME) > 0;
}

/* All of them, also if the file (a pipe) takes them piecemeal. */
static int
write_all(struct iovec *iov, int count)
{
    while (count > 0) {
        ssize_t n = writev(out.fd, iov, count);

        if (n < 0 && (errno == EINTR || (errno == EAGAIN && wait_for_room())))
            continue;
        if (n < 0)
            return -1;
        while (count > 0 && (size_t)n >= iov->iov_len) {
            n -= (ssize_t)iov->iov_len;
            iov++;
            count--;
        }
        if (count > 0) {
            iov->iov_base = (char *)iov->iov_base + n;
            iov->iov_len -= (size_t)n;
        }
    }
    return 0;
}

/* A full disk loses lines, and says so when there is room again. */
static void
write_datagrams(struct iovec *iov, int count)
{
    if (write_all(iov, count) < 0) {
        out.lost += (unsigned long)count;
    } else if (out.lost > 0) {
        log_warning("%lu datagrams with log lines could not be written", out.lost);
        log_flush();
        out.lost = 0;
    }
}

static int
receive(int fd, struct iovec *iov)
{
    struct mmsghdr messages[DATAGRAMS];
    int count;

    memset(messages, 0, sizeof(messages));
    for (int i = 0; i < DATAGRAMS; i++) {
        iov[i] = (struct iovec){out.bytes + i * DATAGRAM_SIZE, DATAGRAM_SIZE - 1};
        messages[i].msg_hdr.msg_iov = &iov[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    count = recvmmsg(fd, messages, DATAGRAMS, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++)
        iov[i].iov_len = clean(iov[i].iov_base, messages[i].msg_len);
    return count;
}

static void
readable(int fd)
{
    struct iovec iov[DATAGRAMS];
    struct err err;
    int count;

    if (!out.bytes) {
        out.bytes = malloc((size_t)DATAGRAMS * DATAGRAM_SIZE);
        if (!out.bytes)
            fatal("out of memory");
    }
    /* A burst is written in gulps: what comes while we rest is read and written together. The first line goes at once. The whole process
     * rests, so that who sends a line wakes nobody; a signal ends it. */
    while ((count = receive(fd, iov)) > 0 || (count < 0 && errno == EINTR)) {
        if (count > 0)
            write_datagrams(iov, count);
        if (count == DATAGRAMS)
            continue;
        (void)nanosleep(&REST, NULL);
        if (task_yield(&err) < 0)
            break;
    }
}

static void
reopen(void)
{
    service_retire();
}

static const struct service postlogd_service = {
    .program = "postlogd",
    .prepare = prepare,
    .readable = readable,
    .reopen = reopen,
    .sandbox = {.calls = SANDBOX_BASE | SANDBOX_DATAGRAMS},
    .resident = true,
    .logs_itself = true,
};

int
main(int argc, char **argv)
{
    return service_main(argc, argv, &postlogd_service);
}
