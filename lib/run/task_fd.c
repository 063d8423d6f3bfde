/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <event2/event.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/run/loop.h"
#include "lib/run/task_private.h"

/* The read event is added at the first wait and stays, edge-triggered. The write event is added for each wait and goes
 * with its first edge. */

/* libevent does not tell that an edge meant an error too (a reset) beside bytes to read. */
static const usec_t RECHECK_TIME = SECONDS(1);

static void
fd_is_readable(evutil_socket_t fd, short what, void *arg)
{
    struct task_fd *tfd = arg;
    (void)fd;
    if (what & EV_CLOSED)
        tfd->closing = true;
    /* One whose time is over, but who has not had its turn since, does not hear of this any more. */
    if (tfd->reader && tfd->reader->state == TASK_WAITING)
        task_make_ready(tfd->reader, TASK_WOKEN);
    else
        tfd->readable = true;
}

static void
fd_is_writable(evutil_socket_t fd, short what, void *arg)
{
    struct task_fd *tfd = arg;
    (void)fd;
    (void)what;
    if (tfd->writer)
        task_make_ready(tfd->writer, TASK_WOKEN);
    else
        tfd->writable = true;
}

void
task_fd_init(struct task_fd *tfd, int fd)
{
    *tfd = (struct task_fd){.fd = fd};
}

void
task_fd_release(struct task_fd *tfd)
{
    check(!tfd->reader && !tfd->writer);
    if (tfd->read_event)
        event_free(tfd->read_event);
    if (tfd->write_event)
        event_free(tfd->write_event);
    tfd->read_event = tfd->write_event = NULL;
}

/* 1: added. 0: the descriptor is always ready (a file in place of a socket, when a daemon is run by hand). */
static int
add_event(struct task_fd *tfd, void **event, short what, event_callback_fn fn, struct err *err)
{
    if (!*event)
        *event = event_new(loop_base(), tfd->fd, what, fn, tfd);
    if (*event && event_add(*event, NULL) == 0)
        return 1;
    if (!*event || errno != EPERM)
        return err_errno(err, "cannot wait for descriptor %d", tfd->fd);
    event_free(*event);
    *event = NULL;
    return 0;
}

int
task_fd_wait_read(struct task_fd *tfd, usec_t deadline, struct err *err)
{
    const short watch = EV_READ | EV_CLOSED | EV_ET | EV_PERSIST;
    check(!tfd->reader);
    if (tfd->readable && !task_is_cancelled()) {
        tfd->readable = false;
        return 0;
    }
    int added = tfd->read_event ? 1 : add_event(tfd, &tfd->read_event, watch, fd_is_readable, err);
    if (added <= 0)
        return added;
    usec_t until = tfd->unsure && loop_now() + RECHECK_TIME < deadline ? loop_now() + RECHECK_TIME : deadline;
    struct err why;
    tfd->reader = task_current();
    int status = task_suspend(until, &why);
    tfd->reader = NULL;
    tfd->unsure = false;
    if (status < 0 && why.kind == ERR_TIMEOUT && until != deadline)
        return 0;
    if (status < 0 && err)
        *err = why;
    return status;
}

int
task_fd_wait_write(struct task_fd *tfd, usec_t deadline, struct err *err)
{
    check(!tfd->writer);
    if (tfd->writable && !task_is_cancelled()) {
        tfd->writable = false;
        return 0;
    }
    int added = add_event(tfd, &tfd->write_event, EV_WRITE | EV_ET, fd_is_writable, err);
    if (added <= 0)
        return added;
    tfd->writer = task_current();
    int status = task_suspend(deadline, err);
    tfd->writer = NULL;
    tfd->writable = false;
    return status;
}

void
task_fd_wake(struct task_fd *tfd)
{
    if (tfd->reader)
        task_make_ready(tfd->reader, TASK_WOKEN);
    if (tfd->writer)
        task_make_ready(tfd->writer, TASK_WOKEN);
}
