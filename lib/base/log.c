/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/clock.h"
#include "lib/base/text.h"

/* How lines wait. All destinations but the plain one gather lines as "Nov 24 05:20:11 host tag[pid]: text\n", one
 * behind the other, with a mark for each. A postlog socket or a descriptor gets runs of them as they are. The system
 * log gets each as "<priority>" + time + what follows the host: three pieces, put together by sendmmsg(). So lines that
 * one destination did not take can go to another. */
enum {
    FLUSH_AT = 32 * 1024, /* bytes that are sent without waiting for the end of the turn */
    WAITING_LIMIT =
        512 * 1024, /* bytes kept for a destination that is slow; above, it is waited for, then lines are lost */
    LINE_LIMIT = 8 * 1024,
    DATAGRAM_LIMIT = 32 * 1024,
    TIME_LEN = 15, /* "Nov 24 05:20:11" */
    BATCH = 32,    /* datagrams with one sendmmsg() */
};

static const usec_t RECONNECT_PAUSE = 1000000; /* between attempts to reach a destination */
static const usec_t SLOW_WAIT = 200000;        /* how long a slow destination may hold up the caller... */
static const usec_t SLOW_PAUSE = 2000000;      /* ...and how long it then may not again */
static const usec_t END_WAIT = 1000000;

struct mark {
    uint32_t len;
    uint16_t after_host; /* where in the line the tag begins */
    int priority;
};

enum destination { TO_STDERR, TO_FD, TO_SYSLOG, TO_POSTLOG };

static struct {
    enum destination destination;
    int fd; /* TO_FD */
    int verbose;
    int facility;
    char tag[80], host[80];
    char prefix[200]; /* " host tag[pid]: " */
    size_t prefix_len;
    char time[32];
    usec_t time_of; /* second that time holds */
    struct buf text;
    struct buf marks; /* struct mark, one for each line in text */
    unsigned long lost, lost_told;
    int syslog_fd, postlog_fd; /* -1: not connected */
    usec_t syslog_retry, postlog_retry, slow_until;
    struct sockaddr_un postlog_path;
    bool registered, busy;
} state = {.facility = LOG_MAIL, .syslog_fd = -1, .postlog_fd = -1, .time_of = -1, .fd = STDERR_FILENO};

/* --- who we are ------------------------------------------------------------------------------------------------ */

static void
make_prefix(void)
{
    int len = snprintf(state.prefix, sizeof(state.prefix), " %s %s[%ld]: ", state.host, state.tag, (long)getpid());
    state.prefix_len = (size_t)len < sizeof(state.prefix) ? (size_t)len : sizeof(state.prefix) - 1;
}

static void
after_fork(void)
{
    buf_clear(&state.text);
    buf_clear(&state.marks);
    make_prefix();
}

void
log_set_host(const char *host)
{
    snprintf(state.host, sizeof(state.host), "%s", host);
    make_prefix();
}

void
log_init(const char *tag)
{
    if (!state.registered) {
        char host[sizeof(state.host)] = "localhost";
        state.registered = true;
        gethostname(host, sizeof(host) - 1);
        host[strcspn(host, ".")] = '\0';
        snprintf(state.host, sizeof(state.host), "%s", host);
        tzset(); /* reads the time zone's file while it can be reached */
        pthread_atfork(NULL, NULL, after_fork);
        atexit(log_flush_all);
    }
    snprintf(state.tag, sizeof(state.tag), "%s", tag);
    make_prefix();
}

static const char *
program_name(void)
{
    const char *slash = strrchr(state.tag, '/');
    return slash ? slash + 1 : state.tag;
}

/* --- destinations ---------------------------------------------------------------------------------------------- */

/* A Unix datagram socket connected to the address, or -1 with errno. */
static int
connect_datagram(const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

static void
close_socket(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Connected, or can be now? A destination that is away is tried again once a second. */
static bool
reach(int *fd, const struct sockaddr_un *addr, usec_t *retry)
{
    if (*fd >= 0)
        return true;
    usec_t now = clock_monotonic();
    if (now < *retry)
        return false;
    *retry = now + RECONNECT_PAUSE;
    *fd = connect_datagram(addr);
    return *fd >= 0;
}

static bool
reach_syslog(void)
{
    static const struct sockaddr_un dev_log = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    return reach(&state.syslog_fd, &dev_log, &state.syslog_retry);
}

void
log_to_syslog(const char *facility)
{
    static const struct {
        const char *name;
        int code;
    } facilities[] = {
        {"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"cron", LOG_CRON},     {"daemon", LOG_DAEMON},
        {"ftp", LOG_FTP},       {"kern", LOG_KERN},         {"lpr", LOG_LPR},       {"mail", LOG_MAIL},
        {"news", LOG_NEWS},     {"security", LOG_AUTH},     {"syslog", LOG_SYSLOG}, {"user", LOG_USER},
        {"uucp", LOG_UUCP},     {"local0", LOG_LOCAL0},     {"local1", LOG_LOCAL1}, {"local2", LOG_LOCAL2},
        {"local3", LOG_LOCAL3}, {"local4", LOG_LOCAL4},     {"local5", LOG_LOCAL5}, {"local6", LOG_LOCAL6},
        {"local7", LOG_LOCAL7},
    };
    bool known = false;
    log_flush();
    for (size_t i = 0; i < ARRAY_LEN(facilities); i++)
        if (strcasecmp(facility, facilities[i].name) == 0) {
            state.facility = facilities[i].code;
            known = true;
        }
    state.destination = TO_SYSLOG;
    state.syslog_retry = 0;
    reach_syslog();
    if (!known)
        log_warning("unknown syslog facility \"%s\": using \"mail\"", facility);
}

int
log_to_postlog(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    log_flush();
    if (strlen(path) >= sizeof(addr.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(addr.sun_path, path, strlen(path));
    int fd = connect_datagram(&addr);
    if (fd < 0)
        return -1;
    close_socket(&state.postlog_fd);
    state.postlog_fd = fd;
    state.postlog_path = addr;
    state.destination = TO_POSTLOG;
    state.syslog_retry = 0;
    reach_syslog(); /* for when it goes away */
    return 0;
}

void
log_to_fd(int fd, bool full)
{
    log_flush();
    state.fd = fd;
    state.destination = full ? TO_FD : TO_STDERR;
}

/* --- sending: each sends from the front what its destination takes, and returns how many lines that was ---------- */

static size_t
lines_waiting(void)
{
    return state.marks.len / sizeof(struct mark);
}

static const struct mark *
mark_at(size_t i)
{
    return (const struct mark *)(const void *)state.marks.ptr + i;
}

static void
drop_lines(size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += mark_at(i)->len;
    buf_consume(&state.marks, count * sizeof(struct mark));
    buf_consume(&state.text, bytes);
}

static bool
send_blocked(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == EINTR;
}

struct batch {
    struct mmsghdr msgs[BATCH];
    struct iovec iov[BATCH * 3];
    char priority[BATCH][8];
};

/* Datagram number n of the batch: one line, for the system log. */
static void
batch_add(struct batch *batch, size_t n, char *line, const struct mark *mark)
{
    struct iovec *iov = &batch->iov[3 * n];
    int len = snprintf(batch->priority[n], sizeof(batch->priority[n]), "<%d>", mark->priority);
    iov[0] = (struct iovec){batch->priority[n], (size_t)len};
    iov[1] = (struct iovec){line, mark->after_host ? TIME_LEN : 0};
    iov[2] = (struct iovec){line + mark->after_host, mark->len - mark->after_host - 1};
    batch->msgs[n] = (struct mmsghdr){.msg_hdr = {.msg_iov = iov, .msg_iovlen = 3}};
}

/* Sends up to a batch of lines; the number sent, or -1. A socket whose other end went away is made anew once. */
static int
syslog_batch(void)
{
    struct batch batch;
    size_t count = lines_waiting() < BATCH ? lines_waiting() : BATCH;
    char *line = state.text.ptr;
    for (size_t i = 0; i < count; line += mark_at(i++)->len)
        batch_add(&batch, i, line, mark_at(i));
    int sent = sendmmsg(state.syslog_fd, batch.msgs, (unsigned)count, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0 || send_blocked() || errno == EMSGSIZE)
        return sent;
    close_socket(&state.syslog_fd);
    if (!reach_syslog())
        return -1;
    return sendmmsg(state.syslog_fd, batch.msgs, (unsigned)count, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool
syslog_send(void)
{
    while (lines_waiting() > 0) {
        if (!reach_syslog())
            return false;
        int sent = syslog_batch();
        if (sent < 0 && errno == EMSGSIZE) {
            sent = 1; /* a line the socket can't take: drop it */
            state.lost++;
        }
        if (sent <= 0)
            return false;
        drop_lines((size_t)sent);
    }
    return true;
}

/* As many whole lines from the front as fit a datagram (at least one); sets *bytes. */
static size_t
lines_of_datagram(size_t *bytes)
{
    size_t count = 0;
    *bytes = 0;
    while (count < lines_waiting() && (count == 0 || *bytes + mark_at(count)->len <= DATAGRAM_LIMIT))
        *bytes += mark_at(count++)->len;
    return count;
}

static bool
postlog_send(void)
{
    while (lines_waiting() > 0) {
        size_t bytes, count = lines_of_datagram(&bytes);
        if (!reach(&state.postlog_fd, &state.postlog_path, &state.postlog_retry))
            return syslog_send();
        if (send(state.postlog_fd, state.text.ptr, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
            drop_lines(count);
            continue;
        }
        if (send_blocked())
            return false;
        close_socket(&state.postlog_fd);
    }
    return true;
}

/* A partial write keeps the rest of the line for the next time: its mark shrinks. */
static bool
fd_send(void)
{
    while (lines_waiting() > 0) {
        ssize_t n = write(state.fd, state.text.ptr, state.text.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return false;
        size_t left = n < 0 ? state.text.len : (size_t)n; /* a broken descriptor: forget the lines */
        if (n < 0)
            state.lost += lines_waiting();
        while (lines_waiting() > 0 && mark_at(0)->len <= left) {
            left -= mark_at(0)->len;
            drop_lines(1);
        }
        if (left > 0) {
            struct mark rest = *mark_at(0);
            rest.len -= (uint32_t)left;
            rest.after_host = 0;
            memcpy(state.marks.ptr, &rest, sizeof(rest));
            buf_consume(&state.text, left);
        }
    }
    return true;
}

/* True when nothing is left. */
static bool
send_lines(void)
{
    switch (state.destination) {
    case TO_SYSLOG: return syslog_send();
    case TO_POSTLOG: return postlog_send();
    case TO_STDERR:
    case TO_FD: break;
    }
    return fd_send();
}

/* The descriptor that lines are waiting for, -1 if it is not connected. */
static int
current_fd(void)
{
    switch (state.destination) {
    case TO_SYSLOG: return state.syslog_fd;
    case TO_POSTLOG: return state.postlog_fd >= 0 ? state.postlog_fd : state.syslog_fd;
    case TO_STDERR:
    case TO_FD: break;
    }
    return state.fd;
}

/* Tries again while the destination is there but slow, for at most `patience`. A full datagram queue does not always
 * show in poll(), so it is also looked at every few milliseconds. */
static bool
send_patiently(usec_t patience)
{
    usec_t end = clock_monotonic() + patience;
    while (!send_lines()) {
        struct pollfd pfd = {.fd = current_fd(), .events = POLLOUT};
        if (pfd.fd < 0 || clock_monotonic() >= end)
            return false;
        poll(&pfd, 1, 10);
        if (pfd.revents & POLLOUT)
            usleep(1000);
    }
    return true;
}

static void
tell_lost(void)
{
    unsigned long lost = state.lost - state.lost_told;
    if (!lost || lines_waiting() > 0)
        return;
    state.lost_told = state.lost;
    log_warning("%lu log lines were lost: the log did not take them", lost);
    send_lines();
}

static void
flush(usec_t patience)
{
    if (state.busy || lines_waiting() == 0)
        return;
    state.busy = true;
    bool done = patience ? send_patiently(patience) : send_lines();
    if (!done && state.text.len > WAITING_LIMIT && clock_monotonic() > state.slow_until) {
        done = send_patiently(SLOW_WAIT);
        if (!done)
            state.slow_until = clock_monotonic() + SLOW_PAUSE;
    }
    if (!done && state.text.len > WAITING_LIMIT) {
        state.lost += lines_waiting();
        drop_lines(lines_waiting());
    }
    if (done)
        tell_lost();
    state.busy = false;
}

void
log_flush(void)
{
    flush(0);
}

void
log_flush_all(void)
{
    flush(END_WAIT);
}

bool
log_is_waiting(void)
{
    return lines_waiting() > 0;
}

unsigned long
log_lost(void)
{
    return state.lost;
}

/* --- lines ----------------------------------------------------------------------------------------------------- */

static const char *
level_text(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_INFO: return "";
    case LOG_LEVEL_WARNING: return "warning: ";
    case LOG_LEVEL_ERROR: return "error: ";
    case LOG_LEVEL_FATAL: return "fatal: ";
    case LOG_LEVEL_PANIC: return "panic: ";
    }
    return "";
}

static int
level_priority(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_INFO: return LOG_INFO;
    case LOG_LEVEL_WARNING: return LOG_WARNING;
    case LOG_LEVEL_ERROR: return LOG_ERR;
    case LOG_LEVEL_FATAL:
    case LOG_LEVEL_PANIC: return LOG_CRIT;
    }
    return LOG_INFO;
}

/* The time is formatted once a second. */
static void
add_prefix(void)
{
    if (state.destination == TO_STDERR) {
        if (state.tag[0])
            buf_printf(&state.text, "%s: ", program_name());
        return;
    }
    usec_t now = clock_wall();
    if (now / 1000000 != state.time_of) {
        state.time_of = now / 1000000;
        clock_format_syslog(now, state.time, sizeof(state.time));
    }
    buf_append(&state.text, state.time, TIME_LEN);
    buf_append(&state.text, state.prefix, state.prefix_len);
}

static void log_add(enum log_level level, const char *fmt, va_list args) PRINTF_LIKE(2, 0);

static void
log_add(enum log_level level, const char *fmt, va_list args)
{
    size_t start = state.text.len;
    add_prefix();
    buf_append_text(&state.text, level_text(level));
    size_t text = state.text.len;
    buf_vprintf(&state.text, fmt, args);
    if (state.text.len - text > LINE_LIMIT)
        state.text.len = text + LINE_LIMIT;
    text_printable(state.text.ptr + text, state.text.len - text, '?', false);
    buf_append_byte(&state.text, '\n');
    struct mark mark = {.len = (uint32_t)(state.text.len - start), .priority = state.facility | level_priority(level)};
    if (state.destination != TO_STDERR)
        mark.after_host = (uint16_t)(TIME_LEN + 1 + strlen(state.host));
    buf_append(&state.marks, &mark, sizeof(mark));
    if (state.destination == TO_STDERR || (state.text.len >= FLUSH_AT && start < FLUSH_AT) ||
        state.text.len > WAITING_LIMIT)
        log_flush();
}

static void log_va(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void
log_va(enum log_level level, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    log_add(level, fmt, args);
    va_end(args);
}

void
log_line(enum log_level level, const char *text)
{
    log_va(level, "%s", text);
}

#define LOG_ARGS(level)              \
    do {                             \
        va_list args;                \
        va_start(args, fmt);         \
        log_add((level), fmt, args); \
        va_end(args);                \
    } while (0)

void
log_info(const char *fmt, ...)
{
    LOG_ARGS(LOG_LEVEL_INFO);
}

void
log_warning(const char *fmt, ...)
{
    LOG_ARGS(LOG_LEVEL_WARNING);
}

void
log_error(const char *fmt, ...)
{
    LOG_ARGS(LOG_LEVEL_ERROR);
}

void
log_debug(const char *fmt, ...)
{
    if (state.verbose)
        LOG_ARGS(LOG_LEVEL_INFO);
}

void
log_set_verbose(int level)
{
    state.verbose = level;
}

int
log_verbose(void)
{
    return state.verbose;
}
