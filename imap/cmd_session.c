/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about the session itself: CAPABILITY, NOOP, LOGOUT, ID (RFC 2971), ENABLE (RFC 5161), IDLE (RFC 2177). */
#include "imap/condstore.h"
#include "imap/park.h"
#include "imap/session.h"
#include "imap/settings.h"
#include "lib/run/loop.h"

struct imap_reply
cmd_capability(struct session *s)
{
    if (imap_end(&s->in) < 0)
        return imap_bad(s);
    session_printf(s, "* CAPABILITY %s\r\n", session_capabilities);
    return imap_ok("Capability completed.");
}

struct imap_reply
cmd_noop(struct session *s)
{
    return imap_end(&s->in) < 0 ? imap_bad(s) : imap_ok("NOOP completed.");
}

struct imap_reply
cmd_check(struct session *s)
{
    return imap_end(&s->in) < 0 ? imap_bad(s) : imap_ok("Check completed.");
}

struct imap_reply
cmd_logout(struct session *s)
{
    if (imap_end(&s->in) < 0)
        return imap_bad(s);
    session_printf(s, "* BYE Logging out\r\n");
    s->end_reason = "logout";
    s->done = true;
    return imap_ok("Logout completed.");
}

struct imap_reply
cmd_id(struct session *s)
{
    struct slice name, value;
    bool nil;
    if (imap_space(&s->in) < 0)
        return imap_bad(s);
    if (!imap_keyword(&s->in, "NIL")) {
        if (imap_take(&s->in, '(') < 0)
            return imap_bad(s);
        while (!imap_at(&s->in, ')')) {
            if (imap_string(&s->in, &name) < 0 || imap_space(&s->in) < 0 || imap_nstring(&s->in, &value, &nil) < 0)
                return imap_bad(s);
            while (imap_at(&s->in, ' '))
                (void)!imap_space(&s->in);
        }
        if (imap_take(&s->in, ')') < 0)
            return imap_bad(s);
    }
    if (imap_end(&s->in) < 0)
        return imap_bad(s);
    session_printf(s, "* ID (\"name\" \"Postern\")\r\n");
    return imap_ok("ID completed.");
}

struct imap_reply
cmd_enable(struct session *s)
{
    struct buf done = {0};
    bool any = false;
    while (imap_at(&s->in, ' ')) {
        const char *name;
        if (imap_space(&s->in) < 0 || imap_atom(&s->in, &name) < 0)
            return imap_bad(s);
        any = true;
        if (slice_equal_text_fold(slice_from(name), "UTF8=ACCEPT") && !s->utf8) {
            s->utf8 = s->in.utf8 = true;
            buf_append_text(&done, " UTF8=ACCEPT");
        } else if (slice_equal_text_fold(slice_from(name), "IMAP4rev2") && !s->rev2) {
            s->rev2 = s->utf8 = s->in.utf8 = true;
            buf_append_text(&done, " IMAP4rev2");
        } else if (slice_equal_text_fold(slice_from(name), "CONDSTORE") && !s->condstore) {
            condstore_enable(s);
            buf_append_text(&done, " CONDSTORE");
        } else if (slice_equal_text_fold(slice_from(name), "QRESYNC") && !s->qresync) {
            condstore_enable_qresync(s);
            buf_append_text(&done, " QRESYNC");
        } else if (slice_equal_text_fold(slice_from(name), "UIDONLY") && !s->uid_only) {
            s->uid_only = s->view.uid_only = true;
            buf_append_text(&done, " UIDONLY");
        }
    }
    if (!any || imap_end(&s->in) < 0) {
        buf_release(&done);
        (void)imap_fail(&s->in, "missing argument");
        return imap_bad(s);
    }
    session_printf(s, "* ENABLED%s\r\n", buf_text(&done));
    buf_release(&done);
    return imap_ok("Enabled.");
}

/* ---- IDLE ---- */

/* Beside the task that waits for DONE: tells what changes meanwhile, and what has changed while we were telling. */
static void
tell_changes(void *arg)
{
    struct session *s = arg;
    struct err err;
    while (s->selected &&
           (s->selected->changes != s->told || task_wait(&s->selected->changed, NO_DEADLINE, &err) == 0)) {
        if (session_sync(s, true, &err) < 0)
            session_lose_mailbox(s, &err);
        if (stream_flush(s->stream, &err) < 0)
            break;
    }
}

/* One wait for a line; whatever changes meanwhile is told. -1: s->in.err. */
static int may_wait
wait_for_line(struct session *s, usec_t deadline, struct slice *line, enum stream_line_end *ending)
{
    struct task_group group;
    task_group_init(&group);
    stream_set_duplex(s->stream, true);
    if (s->selected)
        task_spawn(&group, "idle", tell_changes, s);
    stream_set_deadline(s->stream, deadline);
    int result = stream_read_line(s->stream, IMAP_LINE_LIMIT, line, ending, &s->in.err);
    task_group_cancel(&group);
    task_group_join(&group);
    stream_set_duplex(s->stream, false);
    return result;
}

/* One that was woken to tell of a change has nothing else to do. */
static usec_t
time_to_park(const struct session *s)
{
    const usec_t woken = 80 * 1000;
    if (settings.park_time == 0 || s->cannot_park)
        return settings.idle_timeout;
    return s->resumed && settings.park_time > woken ? woken : settings.park_time;
}

struct imap_reply
session_idle(struct session *s, usec_t due)
{
    const struct imap_reply gone = {IMAP_GONE, NULL, NULL};
    enum stream_line_end ending;
    struct slice line;
    for (;;) {
        usec_t until = loop_now() + time_to_park(s);
        if (wait_for_line(s, until < due ? until : due, &line, &ending) == 0)
            break;
        if (s->in.err.kind != ERR_TIMEOUT || loop_now() >= due)
            return gone;
        stream_forgive_timeout(s->stream);
        if (session_park(s, true, due) || s->mailbox_failed)
            return gone;
    }
    if (ending == STREAM_LINE_CUT || !slice_equal_text_fold(line, "DONE")) {
        (void)imap_fail(&s->in, "DONE is expected");
        return imap_bad(s);
    }
    s->resumed = false;
    return imap_ok("Idle completed.");
}

struct imap_reply
cmd_idle(struct session *s)
{
    struct err err;
    if (imap_end(&s->in) < 0)
        return imap_bad(s);
    if (s->selected)
        mailbox_watch(s->mailboxes, s->selected);
    if (session_sync(s, true, &err) < 0)
        return imap_error(s, &err);
    session_printf(s, "+ idling\r\n");
    if (stream_flush(s->stream, &s->in.err) < 0)
        return (struct imap_reply){IMAP_GONE, NULL, NULL};
    return session_idle(s, loop_now() + settings.idle_timeout);
}
