/* SPDX-License-Identifier: Apache-2.0 */
/* The group process: the mailboxes of many users, written one after the other, synced together. It blocks. */
#include <errno.h>
#include <grp.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "lib/run/sandbox.h"
#include "lib/store/courier_group.h"

struct member {
    struct courier_ids ids;
    const struct msg_user_job *job;
    struct store_letter letter;
    struct store_fault fault;
    dev_t device;
    enum { LEFT, WRITTEN, STORED, FAILED } state; /* LEFT: to a courier */
    bool synced;
};

struct group_work {
    int fd;
    struct arena *arena;
    struct group_head head;
    struct member *members;
    struct buf content;
    gid_t gid;
};

/* The content, whole: struct letter.next. */
static int
next_piece(void *ctx, struct slice *wire, struct err *err)
{
    struct slice *rest = ctx;

    (void)err;
    *wire = *rest;
    *rest = slice_make(NULL, 0);
    return 0;
}

/* ---- who it is ---- */

/* From here on as this user; whoever can't be become ends the process before a mailbox is touched as another. */
static void
act_as(struct group_work *g, uid_t uid, gid_t gid)
{
    if (gid != g->gid && (setresgid((gid_t)-1, gid, (gid_t)-1) < 0 || setgroups(1, &gid) < 0))
        _exit(1);
    g->gid = gid;
    if (setresuid((uid_t)-1, uid, (uid_t)-1) < 0 || geteuid() != uid || getegid() != gid)
        _exit(1);
}

static void
act_as_member(struct group_work *g, const struct member *m)
{
    act_as(g, m->ids.uid, m->ids.gid);
}

/* ---- what is to be done ---- */

static void
read_jobs(struct group_work *g)
{
    struct group_member member;
    struct slice rest;
    struct err err;

    if (!courier_read(g->fd, &g->head, sizeof g->head) || g->head.count > COURIER_GROUP_LIMIT)
        _exit(1);
    g->members = arena_array(g->arena, g->head.count, sizeof *g->members);
    memset(g->members, 0, g->head.count * sizeof *g->members);
    for (unsigned i = 0; i < g->head.count; i++) {
        struct member *m = &g->members[i];
        char *bytes;

        if (!courier_read(g->fd, &member, sizeof member) || member.length > COURIER_MESSAGE_LIMIT)
            _exit(1);
        bytes = arena_alloc(g->arena, member.length);
        if (!courier_read(g->fd, bytes, member.length))
            _exit(1);
        m->ids = member.ids;
        m->job = msg_decode(g->arena, &type_user_job, slice_make(bytes, member.length), &rest, &err);
        if (!m->job)
            _exit(1);
    }
}

static void
read_content(struct group_work *g)
{
    uint32_t len;

    for (;;) {
        if (!courier_read(g->fd, &len, sizeof len))
            _exit(1);
        if (len == 0)
            return;
        if (len > COURIER_CHUNK || g->content.len + len > 2 * (size_t)COURIER_GROUP_CONTENT)
            _exit(1); /* broken off among others: nothing was written yet */
        if (!courier_read(g->fd, buf_reserve(&g->content, len), len))
            _exit(1);
        buf_added(&g->content, len);
    }
}

/* ---- doing it ---- */

static void
write_one(struct group_work *g, struct member *m)
{
    struct store_target target = courier_target(m->job);
    struct slice rest = buf_slice(&g->content);
    struct letter letter = {.sender = m->job->sender,
                            .arrival = time(NULL),
                            .head = slice_from(m->job->head),
                            .size_hint = m->job->size,
                            .next = next_piece,
                            .ctx = &rest};
    int64_t position;
    struct stat st;

    target.locking.attempts = 0; /* who waits for a lock makes others wait */
    target.leave_marked = true;  /* nor does a user have others wait for the repair of what he marked, or a count */
    target.maildir |= MAILDIR_NO_COUNT;
    act_as_member(g, m);
    if (courier_check_home(m->job, &m->fault) < 0 || courier_find_file(m->job, &position, &m->fault) != 0 ||
        store_begin(&m->letter, &target, &letter, &m->fault) < 0)
        return;
    m->state = WRITTEN;
    if (fstat(store_descriptor(&m->letter), &st) == 0)
        m->device = st.st_dev;
}

/* Where a sync of the whole file system makes data and names durable, and reports what could not be written since the
 * descriptor was opened. */
static bool
can_sync_whole(int fd)
{
    static const long types[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC, TMPFS_MAGIC};
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(types); i++)
        if ((long)fs.f_type == types[i])
            return true;
    return false;
}

/* One sync for all on one device; where that failed or is no good, each file has its own later. A failure is told once:
 * the second sync, which is for Maildirs only, says nothing of mboxes. */
static void
sync_device(struct group_work *g, unsigned first, bool maildirs_only)
{
    dev_t device = g->members[first].device;
    int fd = store_descriptor(&g->members[first].letter);
    bool good = can_sync_whole(fd) && syncfs(fd) == 0;

    for (unsigned i = first; i < g->head.count; i++)
        if (g->members[i].state == WRITTEN && g->members[i].device == device &&
            (!maildirs_only || g->members[i].letter.is_maildir))
            g->members[i].synced = good;
}

static void
sync_all(struct group_work *g, bool maildirs_only)
{
    for (unsigned i = 0; i < g->head.count; i++) {
        bool seen = false, due = g->members[i].state == WRITTEN && (!maildirs_only || g->members[i].letter.is_maildir);

        for (unsigned j = 0; j < i && due && !seen; j++)
            seen = g->members[j].state == WRITTEN && g->members[j].device == g->members[i].device &&
                   (!maildirs_only || g->members[j].letter.is_maildir);
        if (due && !seen)
            sync_device(g, i, maildirs_only);
    }
}

static void
publish_all(struct group_work *g)
{
    bool maildirs = false;

    for (unsigned i = 0; i < g->head.count; i++) {
        struct member *m = &g->members[i];

        if (m->state != WRITTEN || !m->letter.is_maildir)
            continue;
        act_as_member(g, m);
        if (store_publish(&m->letter, m->synced, &m->fault) == 0) {
            maildirs = true;
            continue;
        }
        store_end(&m->letter);
        m->state = LEFT;
    }
    if (maildirs)
        sync_all(g, true);
}

static void
settle_all(struct group_work *g)
{
    for (unsigned i = 0; i < g->head.count; i++) {
        struct member *m = &g->members[i];

        if (m->state != WRITTEN)
            continue;
        act_as_member(g, m);
        if (store_settle(&m->letter, m->synced, &m->fault) == 0)
            m->state = STORED;
        else /* a message in an mbox was cut off again; one in a Maildir may have been seen */
            m->state = m->letter.is_maildir ? FAILED : LEFT;
        store_end(&m->letter);
    }
}

/* The daemon has given up and takes all for deferred: what is not published yet must not come twice. */
static bool
is_unwanted(const struct group_work *g)
{
    char byte;

    return recv(g->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* An mbox's mark stands: who locks it next cuts the message off. */
static void NORETURN
leave_all(struct group_work *g)
{
    for (unsigned i = 0; i < g->head.count; i++) {
        if (g->members[i].state != WRITTEN)
            continue;
        act_as_member(g, &g->members[i]);
        store_end(&g->members[i].letter);
    }
    _exit(0);
}

static void
answer_all(struct group_work *g)
{
    struct buf out = {0};

    act_as(g, g->head.uid, g->head.gid);
    for (unsigned i = 0; i < g->head.count; i++) {
        struct member *m = &g->members[i];
        struct msg_user_done done = {.result = m->state == STORED ? USER_DONE : USER_FAILED,
                                     .status = m->state == STORED ? "" : m->fault.dsn,
                                     .reason = m->state == STORED ? "" : m->fault.text,
                                     .position = m->letter.position};
        struct courier_head head = {0};
        size_t at = out.len;

        buf_append(&out, &head, sizeof head);
        if (m->state == LEFT)
            continue;
        msg_encode(&type_user_done, &done, &out);
        head.length = (uint32_t)(out.len - at - sizeof head);
        memcpy(out.ptr + at, &head, sizeof head);
    }
    (void)courier_write(g->fd, out.ptr, out.len);
    buf_release(&out);
}

/* Two descriptors for each mailbox are open until the sync. */
static void
raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void
courier_group_work(int fd)
{
    struct group_work g = {.fd = fd, .arena = arena_new(), .gid = getegid()};
    struct err err;

    raise_descriptor_limit();
    if (sandbox_filter(SANDBOX_BASE | SANDBOX_READ | SANDBOX_MOVE | SANDBOX_STORE | SANDBOX_IDS, &err) < 0)
        _exit(1);
    read_jobs(&g);
    read_content(&g);
    if (!courier_write(g.fd, "", 1))
        _exit(1);
    for (unsigned i = 0; i < g.head.count; i++)
        write_one(&g, &g.members[i]);
    sync_all(&g, false);
    if (is_unwanted(&g))
        leave_all(&g);
    publish_all(&g);
    settle_all(&g);
    answer_all(&g);
    _exit(0);
}
