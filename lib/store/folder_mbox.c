/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/folder_mbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/store/mbox_repair.h"

#define LAST_UID_BELIEVED (UINT32_MAX - (1U << 24))
enum { KEYWORD_LIMIT = 250 }; /* bytes */
enum { DIGEST_REACH = 1000 }; /* messages that another program may have taken out at once, for messages without X-UID */

/* Set once, when the process starts. */
static struct mbox_locking locking = {
    .kinds = MBOX_LOCK_FCNTL | MBOX_LOCK_DOT, .attempts = 20, .delay = SECONDS(1), .stale = SECONDS(500)};

static const char *scratch_directory = "/var/tmp";

void
folder_configure_mbox(const struct mbox_locking *as, const char *scratch)
{
    locking = *as;
    if (scratch)
        scratch_directory = scratch;
}

const char *
mbox_scratch_directory(void)
{
    return scratch_directory;
}

/* ---- the list ---- */

static void
take_state(struct folder *folder, struct mbox_message *m, unsigned flags, uint32_t keywords, bool is_new)
{
    m->message.is_new = is_new;
    if (m->message.flags == flags && m->message.keywords == keywords)
        return;
    m->message.flags = flags;
    m->message.keywords = keywords;
    folder_message_changed(folder, &m->message);
}

void
mbox_add(struct folder *folder, struct mbox_message *m)
{
    m->message.seen_now = true;
    snprintf(m->digits, sizeof(m->digits), "%u", m->message.uid);
    m->message.name = slice_from(m->digits);
    m->message.file = m->digits;
    folder_insert(folder, &m->message);
}

/* A sender can put words into these fields: only what may stand in an answer of IMAP is one. */
static bool
is_keyword(struct slice word)
{
    if (word.len == 0 || word.len > KEYWORD_LIMIT)
        return false;
    for (size_t i = 0; i < word.len; i++)
        if (word.ptr[i] <= ' ' || word.ptr[i] >= 0x7f || strchr("(){%*\"\\]", word.ptr[i]))
            return false;
    return true;
}

/* Numbers of keywords follow the list in the first message, as far as it goes. */
static uint32_t
keyword_bits(struct folder *folder, struct slice names, bool only_name)
{
    uint32_t bits = 0;
    struct slice word;
    while (slice_word(&names, " \t\r\n", &word)) {
        if (!is_keyword(word))
            continue;
        int number = folder_find_keyword(folder, word);
        for (unsigned i = 0; number < 0 && i < FOLDER_KEYWORDS; i++)
            if (!folder->keywords[i]) {
                folder_name_keyword(folder, i, word);
                number = (int)i;
                if (!only_name)
                    mbox_of(folder)->base_is_dirty = true;
            }
        if (number >= 0)
            bits |= 1U << number;
    }
    return bits;
}

/* The known message with this digest: the next one, or some behind it when those between are gone. */
static struct mbox_message *
by_digest(struct folder *folder, uint32_t above, uint64_t digest)
{
    size_t i = folder_lower_bound(folder, above + 1);
    for (size_t end = i + DIGEST_REACH; i < folder->count && i < end; i++) {
        struct mbox_message *m = mbox_own_of(folder->messages[i]);
        if (!m->message.seen_now && m->place.digest == digest)
            return m;
    }
    return NULL;
}

struct merge {
    struct folder *folder;
    uint32_t last;      /* UID of the message before */
    uint32_t known_end; /* UIDs below it that we don't know are gone */
    bool has_base;
};

/* Which message that is: one of ours, or a new one, which has *is_listed a UID already. */
static struct mbox_message *
identify(struct merge *merge, const struct mbox_found *found, uint32_t *uid)
{
    struct folder *folder = merge->folder;
    struct folder_message *known;
    *uid = merge->has_base && found->own.uid > merge->last && found->own.uid < folder->next_uid ? found->own.uid : 0;
    if (*uid) {
        known = folder_find(folder, *uid);
        if (known && !known->seen_now)
            return mbox_own_of(known);
        if (known || *uid < merge->known_end)
            *uid = 0; /* it was expunged: what says so now is somebody else's message */
        return NULL;
    }
    return merge->last == UINT32_MAX ? NULL : by_digest(folder, merge->last, found->place.digest);
}

static void
merge_one(struct merge *merge, const struct mbox_found *found)
{
    struct folder *folder = merge->folder;
    uint32_t uid, bits = keyword_bits(folder, found->own.keywords, false);
    struct mbox_message *m = identify(merge, found, &uid);
    if (m) {
        take_state(folder, m, found->own.flags, bits, !found->own.is_old);
        m->message.seen_now = true;
        if (m->was_deleted && !(m->message.flags & FLAG_DELETED))
            m->is_doomed = m->was_deleted = false; /* somebody wants it after all */
        m->is_dirty = found->own.uid != m->message.uid;
    } else {
        m = mbox_own_of(folder_message_new(folder, uid ? uid : folder->next_uid++));
        m->message.flags = found->own.flags;
        m->message.keywords = bits;
        m->message.is_new = !found->own.is_old;
        m->message.arrived = found->when > 0 ? found->when : 0;
        m->is_dirty = uid == 0;
        mbox_add(folder, m);
    }
    m->place = found->place;
    merge->last = m->message.uid;
}

/* UIDVALIDITY and the next UID: the file's word counts. */
static void
take_base(struct folder *folder, const struct mbox_found *first, int fd)
{
    struct mbox_folder *b = mbox_of(folder);
    if (!folder->uid_validity) /* what the first message says may be a sender's word: UIDs go on where they were */
        mbox_recall_base(folder, fd);
    b->base_validity = first ? first->own.uid_validity : 0;
    b->base_last = first ? first->own.last_uid : 0;
    if (b->base_last > LAST_UID_BELIEVED) /* mail from outside can say so, and there would be no UIDs left */
        b->base_validity = b->base_last = 0;
    if (b->base_validity && b->base_validity != folder->uid_validity) {
        if (b->is_scanned) {
            folder_clear_seen(folder);
            folder_drop_unseen(folder, NULL);
        }
        folder->uid_validity = b->base_validity;
        folder->next_uid = 1;
    }
    if (b->base_validity && b->base_last >= folder->next_uid && b->base_last < UINT32_MAX)
        folder->next_uid = b->base_last + 1;
    if (first)
        keyword_bits(folder, first->own.base_keywords, true);
}

static void
take_internal(struct folder *folder, const struct mbox_found *first)
{
    struct mbox_folder *b = mbox_of(folder);
    if (!b->internal)
        b->internal = mbox_own_of(folder_message_new(folder, 0));
    b->internal->place = first->place;
    b->internal->message.flags = first->own.flags;
}

static int
merge_file(struct folder *folder, int fd, off_t size, struct err *err)
{
    struct mbox_folder *b = mbox_of(folder);
    struct mbox_scan scan;
    int result = mbox_scan(&scan, fd, size, folder, err);
    if (result == 0) {
        const struct mbox_found *first = scan.count ? &scan.found[0] : NULL;
        uint32_t known_end = b->is_scanned ? folder->next_uid : 0;
        uint32_t validity = folder->uid_validity;
        take_base(folder, first, fd);
        struct merge merge = {.folder = folder,
                              .known_end = folder->uid_validity == validity ? known_end : 0,
                              .has_base = b->base_validity != 0};
        bool internal = first && first->own.is_internal;
        if (internal)
            take_internal(folder, first);
        else if (b->internal) {
            free(b->internal);
            b->internal = NULL;
        }
        folder_clear_seen(folder);
        for (size_t i = internal ? 1 : 0; i < scan.count; i++)
            merge_one(&merge, &scan.found[i]);
        folder_drop_unseen(folder, NULL);
    }
    mbox_scan_release(&scan);
    return result;
}

/* ---- looking ---- */

static bool
is_same(const struct mbox_folder *b, const struct stat *st)
{
    return b->is_scanned && b->fd >= 0 && st->st_ino == b->inode && st->st_dev == b->device && st->st_size == b->size &&
           folder_same_time(st->st_mtim, b->stamp);
}

bool
mbox_is_current(const struct folder *folder)
{
    struct stat st;
    return stat(folder->path, &st) == 0 && is_same(mbox_of(folder), &st);
}

static void
note(struct mbox_folder *b, const struct stat *st)
{
    b->device = st->st_dev;
    b->inode = st->st_ino;
    b->size = st->st_size;
    b->stamp = st->st_mtim;
    b->is_scanned = true;
}

static void
forget_file(struct folder *folder)
{
    struct mbox_folder *b = mbox_of(folder);
    if (b->fd >= 0)
        close(b->fd);
    b->fd = -1;
    b->is_scanned = true;
    folder_clear_seen(folder);
    folder_drop_unseen(folder, NULL);
    if (!folder->uid_validity)
        mbox_recall_base(folder, -1);
}

static int
look(struct folder *folder, struct mbox *file, struct err *err)
{
    struct mbox_folder *b = mbox_of(folder);
    struct timespec now;
    struct stat st;
    if (fstat(file->file.fd, &st) < 0)
        return err_errno(err, "stat");
    if (is_same(b, &st) && b->is_settled)
        return 0;
    if (b->fd < 0 || st.st_ino != b->inode || st.st_dev != b->device) {
        if (b->fd >= 0)
            close(b->fd);
        b->fd = openat(file->file.dir, file->file.name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (b->fd < 0)
            return err_errno(err, "open");
    }
    clock_gettime(CLOCK_REALTIME_COARSE, &now); /* what files are stamped with */
    if (merge_file(folder, file->file.fd, st.st_size, err) < 0)
        return -1;
    note(b, &st);
    b->is_settled = folder_is_settled(st.st_mtim, now);
    return 0;
}

static int
fault_to_err(const struct store_fault *fault, struct err *err)
{
    return err_set(err, fault_is_permanent(fault) ? ERR_PERM : ERR_TEMP, "%s", fault->text);
}

int
mbox_begin(struct folder *folder, struct mbox *file, bool create, struct err *err)
{
    struct mbox_folder *b = mbox_of(folder);
    struct store_fault fault;
    unsigned options = MBOX_READ_WRITE | MBOX_DOTLOCK_TRY | (create ? MBOX_CREATE : 0U);
    b->is_read_only = false;
    if (mbox_open(file, folder->path, options, &locking, &fault) < 0) {
        if (fault.code == ENOENT && !create) {
            forget_file(folder);
            return 1;
        }
        if (fault.code != EACCES && fault.code != EROFS && fault.code != EPERM)
            return fault_to_err(&fault, err);
        b->is_read_only = true;
        if (create || mbox_open(file, folder->path, MBOX_READ_ONLY | MBOX_DOTLOCK_TRY, &locking, &fault) < 0)
            return fault_to_err(&fault, err);
    }
    if (look(folder, file, err) == 0)
        return 0;
    mbox_close(file);
    return -1;
}

/* Our own changes get a time of the near past, which no other program's change can have: so there is no need to look again. */
static void
stamp(struct mbox_folder *b, int fd)
{
    const long back = 25000000, second = 1000000000;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {0}};
    struct stat st;
    clock_gettime(CLOCK_REALTIME, &times[1]);
    times[1].tv_sec -= times[1].tv_nsec < back;
    times[1].tv_nsec += times[1].tv_nsec < back ? second - back : -back;
    if (times[1].tv_sec < b->stamp.tv_sec ||
        (times[1].tv_sec == b->stamp.tv_sec && times[1].tv_nsec <= b->stamp.tv_nsec)) {
        times[1] = b->stamp;
        times[1].tv_sec += times[1].tv_nsec == second - 1;
        times[1].tv_nsec = times[1].tv_nsec == second - 1 ? 0 : times[1].tv_nsec + 1;
    }
    b->is_settled = futimens(fd, times) == 0;
    if (fstat(fd, &st) == 0)
        note(b, &st);
    else
        b->is_scanned = false;
}

void
mbox_end(struct folder *folder, struct mbox *file)
{
    struct stat st;
    const struct mbox_folder *b = mbox_of(folder);
    if (b->is_scanned && !b->is_read_only && (fstat(file->file.fd, &st) < 0 || !is_same(b, &st)))
        stamp(mbox_of(folder), file->file.fd);
    mbox_close(file);
}

/* ---- the operations ---- */

/* UIDs last before anybody is told of them, and no mark of a patch is left. */
static int
sync_patches(struct folder *folder, const struct mbox *file, struct err *err)
{
    return mbox_of(folder)->has_patched && fsync(file->file.fd) < 0 ? err_errno(err, "sync") : 0;
}

static int
mbox_sync(struct folder *folder, struct err *err)
{
    struct mbox file;
    struct err why;
    if (mbox_of(folder)->is_settled && !mbox_of(folder)->has_doomed && mbox_is_current(folder))
        return 0;
    int result = mbox_begin(folder, &file, false, err);
    if (result < 0)
        mbox_spare_doomed(folder);
    if (result != 0)
        return result < 0 ? -1 : 0;
    bool expunging = mbox_of(folder)->has_doomed;
    mbox_of(folder)->has_patched = false;
    if (mbox_flush(folder, &file, &why) < 0 ||
        sync_patches(folder, &file, &why) < 0) { /* a full disk is no reason to show no mail */
        log_warning("%s: %s", folder->path, why.text);
        if (expunging) {
            *err = why;
            result = -1;
        }
    }
    mbox_end(folder, &file);
    return result;
}

static int
mbox_take_new(struct folder *folder, uint32_t *moved, struct err *err)
{
    struct mbox file;
    bool is_any = false;
    for (size_t i = 0; i < folder->count; i++)
        is_any |= folder->messages[i]->is_new;
    if (!is_any)
        return 0;
    int result = mbox_begin(folder, &file, false, err);
    if (result != 0)
        return result < 0 ? -1 : 0;
    for (size_t i = 0; i < folder->count; i++) {
        struct mbox_message *m = mbox_own_of(folder->messages[i]);
        if (!m->message.is_new)
            continue;
        if (!*moved)
            *moved = m->message.uid;
        m->is_dirty = true;
        m->message.is_new = false;
    }
    struct err why;
    if (mbox_flush(folder, &file, &why) < 0)
        log_warning("%s: %s", folder->path, why.text);
    mbox_end(folder, &file);
    return 0;
}

static int
store_flags(struct folder *folder, struct mbox *file, struct folder_message *message, unsigned flags, uint32_t keywords,
            struct err *err)
{
    unsigned old_flags = message->flags;
    uint32_t old_keywords = message->keywords;
    if (mbox_of(folder)->is_read_only)
        return err_set(err, ERR_PERM, "the mailbox can't be written");
    mbox_own_of(message)->is_dirty = true;
    message->flags = flags & ~(unsigned)FLAG_PASSED;
    message->keywords = keywords;
    if (mbox_flush(folder, file, err) == 0) {
        folder_message_changed(folder, message);
        return 0;
    }
    message->flags = old_flags;
    message->keywords = old_keywords;
    mbox_own_of(message)->is_dirty = false;
    return -1;
}

static int
mbox_set_flags(struct folder *folder, struct folder_message *message, unsigned flags, uint32_t keywords, bool *gone,
               struct err *err)
{
    uint32_t uid = message->uid, validity = folder->uid_validity;
    struct mbox file;
    int result = mbox_begin(folder, &file, false, err);
    if (result < 0)
        return -1;
    message = folder_find(folder, uid);
    *gone = message == NULL || folder->uid_validity != validity; /* then the number is another message's now */
    if (result > 0)
        return 0;
    if (!*gone)
        result = store_flags(folder, &file, message, flags, keywords, err);
    mbox_end(folder, &file);
    return result;
}

static int
mbox_expunge(struct folder *folder, struct folder_message *message, struct err *err)
{
    if (mbox_of(folder)->is_read_only)
        return err_set(err, ERR_PERM, "the mailbox can't be written");
    mbox_own_of(message)->is_doomed = true;
    mbox_own_of(message)->was_deleted = message->flags & FLAG_DELETED;
    mbox_of(folder)->has_doomed = true;
    return 0;
}

void
mbox_take_back(struct folder *folder, const char *name)
{
    struct folder_message *message = folder_find(folder, (uint32_t)strtoul(name, NULL, 10));
    struct err err;
    if (message && (mbox_expunge(folder, message, &err) < 0 || mbox_sync(folder, &err) < 0))
        log_warning("%s: a message that was refused stays: %s", folder->path, err.text);
}

static int
mbox_settle_folder(struct folder *folder, struct err *err)
{
    if (mbox_sync(folder, err) < 0)
        return -1;
    struct mbox_folder *b = mbox_of(folder);
    if (b->fd >= 0 && fsync(b->fd) < 0)
        return err_errno(err, "sync %s", folder->path);
    if (b->fd >= 0 && b->written >= 0)
        mbox_unmark_written(b->fd, b->written);
    b->written = -1;
    return 0;
}

static int
mbox_add_keyword(struct folder *folder, struct slice name, struct err *err)
{
    for (unsigned i = 0; i < FOLDER_KEYWORDS; i++)
        if (!folder->keywords[i]) {
            folder_name_keyword(folder, i, name);
            mbox_of(folder)->base_is_dirty = true;
            return (int)i;
        }
    return err_set(err, ERR_PERM, "no room for another keyword in this folder");
}

static int
mbox_open_folder(struct folder *folder, bool create, struct err *err)
{
    (void)create;
    (void)err;
    mbox_of(folder)->fd = -1;
    mbox_of(folder)->written = -1;
    folder->next_uid = 1;
    return 0;
}

static void
mbox_close_folder(struct folder *folder)
{
    struct mbox_folder *b = mbox_of(folder);
    struct err err;
    if (b->has_doomed && mbox_sync(folder, &err) < 0)
        log_warning("%s: %s", folder->path, err.text);
    if (b->fd >= 0)
        close(b->fd);
    free(b->internal);
}

static void
release_message(struct folder_message *message)
{
    (void)message;
}

static int
mbox_fd(const struct folder *folder)
{
    return mbox_of(folder)->fd;
}

static time_t
mbox_time(struct folder *folder, struct folder_message *message)
{
    (void)message;
    return mbox_of(folder)->stamp.tv_sec;
}

static uint32_t
mbox_uid_of(const struct folder *folder, const char *name)
{
    uint32_t uid = (uint32_t)strtoul(name, NULL, 10);
    return folder_find(folder, uid) ? uid : 0;
}

static uint32_t
mbox_identity(const struct folder_message *message)
{
    uint64_t digest = ((const struct mbox_message *)(const void *)message)->place.digest;
    return (uint32_t)(digest ^ digest >> 32) | 1;
}

const struct folder_kind folder_mbox = {
    .identity = mbox_identity,
    .folder_size = sizeof(struct mbox_folder),
    .message_size = sizeof(struct mbox_message),
    .open = mbox_open_folder,
    .close = mbox_close_folder,
    .release_message = release_message,
    .fd = mbox_fd,
    .sync = mbox_sync,
    .take_new = mbox_take_new,
    .set_flags = mbox_set_flags,
    .expunge = mbox_expunge,
    .read = mbox_read,
    .time = mbox_time,
    .append_begin = mbox_append_begin,
    .append_abort = mbox_append_abort,
    .append_finish = mbox_append_finish,
    .take_back = mbox_take_back,
    .settle = mbox_settle_folder,
    .uid_of = mbox_uid_of,
    .add_keyword = mbox_add_keyword,
};
