/* SPDX-License-Identifier: Apache-2.0 */
/* The courier: one job after the other, as the user. It blocks; nobody else waits for it but the daemon's task. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/text.h"
#include "lib/store/courier_command.h"
#include "lib/store/courier_internal.h"
#include "lib/store/deliver.h"
#include "lib/store/destinations.h"

struct work {
    int fd;
    uid_t uid;
    struct arena *arena;
    const struct msg_user_job *job;
    struct msg_user_done done;
    bool content; /* chunks are still to come */
    char *chunk;
    uint32_t left; /* of the chunk at hand */
    size_t room;   /* of done.texts */
};

/* ---- bytes from the daemon ---- */

int
courier_read(int fd, void *bytes, size_t n)
{
    char *at = bytes;

    while (n > 0) {
        ssize_t got = read(fd, at, n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return 0;
        at += got;
        n -= (size_t)got;
    }
    return 1;
}

int
courier_write(int fd, const void *bytes, size_t n)
{
    const char *at = bytes;

    while (n > 0) {
        ssize_t put = write(fd, at, n);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return 0;
        at += put;
        n -= (size_t)put;
    }
    return 1;
}

/* The letter's content: struct letter.next. */
static int
next_chunk(void *ctx, struct slice *wire, struct err *err)
{
    struct work *w = ctx;
    uint32_t len;

    *wire = slice_make(NULL, 0);
    if (!w->content)
        return 0;
    if (!courier_read(w->fd, &len, sizeof len))
        _exit(0); /* the daemon has gone: what was written so far is cut by who comes next */
    if (len == 0 || len == COURIER_BROKEN) {
        w->content = false;
        return len ? err_set(err, ERR_TEMP, "the message could not be read to its end") : 0;
    }
    if (len > COURIER_CHUNK || !courier_read(w->fd, w->chunk, len))
        _exit(1);
    *wire = slice_make(w->chunk, len);
    return 0;
}

/* Takes what was not asked for, so that the next job follows. */
static void
drain(struct work *w)
{
    struct slice wire;
    struct err err;

    while (w->content)
        if (next_chunk(w, &wire, &err) < 0)
            return;
}

/* ---- answers ---- */

static void
answer(struct work *w, int result, const struct store_fault *fault)
{
    w->done.result = result;
    w->done.status = fault ? arena_strdup(w->arena, fault->dsn) : "";
    w->done.reason = fault ? arena_strdup(w->arena, fault->text) : "";
}

static void
add_destination(void *ctx, struct slice text)
{
    struct work *w = ctx;

    if (w->done.text_count == w->room) {
        size_t room = w->room ? w->room * 2 : 16;
        struct user_text *larger = arena_array(w->arena, room, sizeof *larger);

        if (w->done.text_count)
            memcpy(larger, w->done.texts, w->done.text_count * sizeof *larger);
        w->done.texts = larger;
        w->room = room;
    }
    w->done.texts[w->done.text_count++].text = arena_strndup(w->arena, text.ptr, text.len);
}

/* ---- the mailbox ---- */

int
courier_find_file(const struct msg_user_job *job, int64_t *position, struct store_fault *fault)
{
    struct stat st;

    for (size_t i = 0; i < job->text_count; i++) {
        const char *path = job->texts[i].text;

        if (lstat(path, &st) == 0) {
            *position = (int64_t)i;
            return 1;
        }
        if (errno != ENOENT && errno != ENOTDIR)
            return fault_errno(fault, "4.2.0", "cannot look for file %s", path);
    }
    return 0;
}

int
courier_check_home(const struct msg_user_job *job, struct store_fault *fault)
{
    struct stat st;

    if (!(job->flags & USER_JOB_NEEDS_HOME))
        return 0;
    if (stat(job->directory, &st) < 0)
        return fault_errno(fault, "4.3.0", "cannot access home directory %s", job->directory);
    return S_ISDIR(st.st_mode) ? 0 : fault_set(fault, "4.3.0", "home %s is not a directory", job->directory);
}

struct store_target
courier_target(const struct msg_user_job *job)
{
    return (struct store_target){
        .path = job->path,
        .locking = {.kinds = (unsigned)job->locks,
                    .attempts = (unsigned)job->lock_attempts,
                    .delay = job->lock_delay,
                    .stale = job->lock_stale},
        .limit = job->limit,
        .maildir = MAILDIR_CREATE | MAILDIR_QUOTA,
        .devices = job->flags & USER_JOB_DEVICES,
        .strict_owner = job->flags & USER_JOB_STRICT_OWNER,
        .dotlock_may_fail = job->flags & USER_JOB_DOTLOCK_TRY,
    };
}

static int
store(struct work *w, struct store_fault *fault)
{
    const struct msg_user_job *job = w->job;
    const struct store_target target = courier_target(job);
    struct letter letter = {.sender = job->sender,
                            .arrival = time(NULL),
                            .head = slice_from(job->head),
                            .size_hint = job->size,
                            .next = next_chunk,
                            .ctx = w};
    off_t position;

    if (store_deliver(&target, &letter, &position, fault) < 0)
        return -1;
    w->done.position = position;
    return 0;
}

static void
do_store(struct work *w)
{
    struct store_fault fault;
    int there = courier_check_home(w->job, &fault) < 0 ? -1 : courier_find_file(w->job, &w->done.position, &fault);

    if (there == 0 && store(w, &fault) == 0)
        answer(w, USER_DONE, NULL);
    else if (there > 0)
        answer(w, USER_THERE, NULL);
    else
        answer(w, USER_FAILED, &fault);
}

static void
do_look(struct work *w)
{
    struct store_fault fault;
    int there = courier_find_file(w->job, &w->done.position, &fault);

    answer(w, there < 0 ? USER_FAILED : there ? USER_THERE : USER_DONE, there < 0 ? &fault : NULL);
}

/* ---- files of destinations ---- */

/* Never waits: FIFOs and devices are seen before a byte is asked for. more: further flags. -1: why not is in fault. */
static int
open_list(const char *path, int more, struct stat *st, struct store_fault *fault)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | more);

    if (fd < 0)
        return fault_errno(fault, "4.2.0", "cannot open file %s", path);
    if (fstat(fd, st) < 0) {
        fault_errno(fault, "4.2.0", "cannot examine file %s", path);
    } else if (!S_ISREG(st->st_mode)) {
        fault_set(fault, "4.2.0", "file %s is not a regular file", path);
    } else {
        return fd;
    }
    close(fd);
    return -1;
}

/* Whose .forward files are listened to. */
static int
examine_forward(const struct work *w, const char *path, const struct stat *st, struct store_fault *fault)
{
    if (!S_ISREG(st->st_mode))
        return fault_set(fault, "4.2.0", "file %s is not a regular file", path);
    if (st->st_uid != 0 && st->st_uid != w->uid)
        return fault_set(fault, "4.2.0", "file %s has bad owner uid %lu", path, (unsigned long)st->st_uid);
    if (st->st_mode & S_IWOTH)
        return fault_set(fault, "4.2.0", "file %s is world writable", path);
    return 0;
}

static void
do_forward(struct work *w)
{
    const char *path = w->job->path;
    struct store_fault fault;
    struct stat named, st;
    int fd;

    if (lstat(path, &named) < 0) {
        fault_errno(&fault, "4.2.0", "cannot look for file %s", path);
        answer(w, errno == ENOENT ? USER_IGNORED : USER_FAILED, &fault);
        return;
    }
    if (examine_forward(w, path, &named, &fault) < 0 || (fd = open_list(path, 0, &st, &fault)) < 0) {
        answer(w, USER_IGNORED, &fault);
        return;
    }
    if (st.st_ino != named.st_ino || st.st_dev != named.st_dev) {
        fault_set(&fault, "4.2.0", "file %s was replaced while it was opened", path);
        answer(w, USER_FAILED, &fault);
    } else {
        int result = destinations_read(fd, path, add_destination, w, &fault);
        answer(w, result < 0 ? USER_FAILED : USER_DONE, result < 0 ? &fault : NULL);
    }
    close(fd);
}

/* A list whose commands run as its owner is that owner's. Others may have written the path's last name: a link of theirs to a
 * file of his, where stands what they sent him, is not his list. */
static int
open_owners_list(const struct work *w, const char *path, struct store_fault *fault)
{
    struct stat st;
    int fd = open_list(path, O_NOFOLLOW, &st, fault);

    if (fd < 0 && fault->code == ELOOP) {
        if (lstat(path, &st) < 0 || (st.st_uid != 0 && st.st_uid != w->uid))
            return fault_set(fault, "4.2.0", "file %s is a link of another user's", path);
        fd = open_list(path, 0, &st, fault);
    }
    if (fd >= 0 && st.st_uid != w->uid) {
        close(fd);
        return fault_set(fault, "4.2.0", "file %s has bad owner uid %lu", path, (unsigned long)st.st_uid);
    }
    return fd;
}

static void
do_include(struct work *w)
{
    struct store_fault fault;
    struct stat st;
    const char *path = w->job->path;
    bool owners = (w->job->flags & USER_JOB_STRICT_OWNER) && courier_can_change_user();
    int fd = owners ? open_owners_list(w, path, &fault) : open_list(path, 0, &st, &fault), result = -1;

    if (fd >= 0) {
        result = destinations_read(fd, path, add_destination, w, &fault);
        close(fd);
    }
    answer(w, result < 0 ? USER_FAILED : USER_DONE, result < 0 ? &fault : NULL);
}

static void
do_command(struct work *w)
{
    struct letter letter = {.sender = w->job->sender,
                            .arrival = time(NULL),
                            .head = slice_from(w->job->head),
                            .next = next_chunk,
                            .ctx = w};
    struct store_fault fault;
    struct courier_command_end end = {.diagnostic = ""};
    int result = w->uid == 0 && geteuid() == 0 ? fault_set(&fault, "4.3.5", "commands are not run as root")
                                               : courier_command(w->arena, w->job, &letter, &end, &fault);

    answer(w, result < 0 ? USER_FAILED : USER_DONE, &fault);
    if (end.reason)
        w->done.reason = end.reason;
    if (result < 0 && *end.diagnostic)
        add_destination(w, slice_from(end.diagnostic));
}

/* ---- */

static void
work(struct work *w)
{
    w->done = (struct msg_user_done){.status = "", .reason = "", .position = -1};
    w->room = 0;
    switch (w->job->work) {
    case USER_STORE: do_store(w); break;
    case USER_FORWARD: do_forward(w); break;
    case USER_INCLUDE: do_include(w); break;
    case USER_COMMAND: do_command(w); break;
    case USER_LOOK: do_look(w); break;
    default: _exit(1);
    }
    drain(w);
}

static int
serve(struct work *w)
{
    struct courier_head head;
    struct buf message = {0};
    struct slice rest;
    struct err err;
    char *bytes;
    int good;

    if (!courier_read(w->fd, &head, sizeof head) || head.length > COURIER_MESSAGE_LIMIT)
        return 0;
    bytes = arena_alloc(w->arena, head.length);
    if (!courier_read(w->fd, bytes, head.length))
        return 0;
    w->job = msg_decode(w->arena, &type_user_job, slice_make(bytes, head.length), &rest, &err);
    if (!w->job)
        return 0;
    w->content = head.content;
    work(w);
    buf_append(&message, &head, sizeof head);
    msg_encode(&type_user_done, &w->done, &message);
    head = (struct courier_head){.length = (uint32_t)(message.len - sizeof head)};
    memcpy(message.ptr, &head, sizeof head);
    good = courier_write(w->fd, message.ptr, message.len);
    buf_release(&message);
    arena_reset(w->arena);
    return good;
}

void
courier_work(int fd, uid_t uid)
{
    struct work w = {.fd = fd, .uid = courier_can_change_user() ? uid : geteuid(), .arena = arena_new()};

    w.chunk = malloc(COURIER_CHUNK);
    while (w.chunk && serve(&w))
        ;
    _exit(0);
}
