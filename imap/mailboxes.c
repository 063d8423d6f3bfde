/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/mailboxes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "imap/search_text.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/imap/output.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"
#include "lib/store/file.h"
#include "lib/store/fulltext.h"

#define FULLTEXT_PAUSE SECONDS(60) /* after a failure */
enum { KEPT_MAILBOXES = 3, SUBSCRIPTIONS_LIMIT = 1 << 20 };

struct mailboxes {
    char *root;  /* the Maildir, or the directory of mboxes */
    char *inbox; /* an mbox; NULL: a Maildir */
    int fd;
    struct open_mailbox *open; /* in use, and the last that were: these have no users */
    struct index *index;       /* NULL: there is none */
    struct fulltext *fulltext; /* NULL: not asked for, or there is none */
    usec_t fulltext_next;      /* when it may be tried again */
    int inotify;
    struct task_fd tfd;
};

/* ---- names ---- */

static int
bad_name(struct err *err, const char *why)
{
    return err_set(err, ERR_SYNTAX, "bad mailbox name: %s", why);
}

static int
check_name(const char *name, struct err *err)
{
    unsigned depth = 1;
    size_t len = strlen(name);
    if (len == 0)
        return bad_name(err, "it is empty");
    if (len > MAILBOX_NAME_LIMIT)
        return bad_name(err, "it is too long");
    if (name[0] == MAILBOX_SEPARATOR || name[len - 1] == MAILBOX_SEPARATOR || strstr(name, ".."))
        return bad_name(err, "a part of it is empty");
    for (const char *at = name; *at; at++) {
        if (*at == '/' || (unsigned char)*at < 32 || *at == 127)
            return bad_name(err, "a character is not allowed");
        depth += *at == MAILBOX_SEPARATOR;
    }
    return depth > MAILBOX_DEPTH ? bad_name(err, "too many levels") : 0;
}

int
mailbox_name(struct arena *arena, struct slice wire, bool utf8, const char **name, struct err *err)
{
    struct buf out = {0};
    if (wire.len > 0 && wire.ptr[wire.len - 1] == MAILBOX_SEPARATOR)
        wire.len--; /* CREATE "A." */
    bool good = true;
    if (utf8)
        buf_append_slice(&out, wire);
    else
        good = imap_utf7_to_utf8(wire, &out);
    char *text = arena_strndup(arena, out.ptr ? out.ptr : "", out.len);
    buf_release(&out);
    if (!good)
        return bad_name(err, "malformed modified UTF-7");
    if (strncasecmp(text, "INBOX", 5) == 0 && (text[5] == '\0' || text[5] == MAILBOX_SEPARATOR))
        memcpy(text, "INBOX", 5);
    *name = text;
    return check_name(text, err);
}

void
mailbox_put_name(struct buf *out, const char *name, bool utf8)
{
    struct buf wire = {0};
    if (utf8)
        buf_append_text(&wire, name);
    else
        imap_utf8_to_utf7(slice_from(name), &wire);
    imap_put_astring(out, buf_slice(&wire), utf8);
    buf_release(&wire);
}

/* ".A.B" for "A.B", "." for INBOX; children of INBOX are ".INBOX.A". Of mboxes: "A.B". */
static void
entry_of(const struct mailboxes *m, const char *name, struct buf *out)
{
    if (!m->inbox)
        buf_append_byte(out, '.');
    if (strcmp(name, "INBOX") != 0)
        imap_utf8_to_utf7(slice_from(name), out);
}

static void
path_of(const struct mailboxes *m, const char *name, struct buf *out)
{
    if (m->inbox && strcmp(name, "INBOX") == 0) {
        buf_append_text(out, m->inbox);
        return;
    }
    buf_printf(out, "%s/", m->root);
    entry_of(m, name, out);
}

static enum folder_make
kind_of(const struct mailboxes *m)
{
    return m->inbox ? FOLDER_MBOX : FOLDER_MAILDIR;
}

/* "A.lock", and what it is called while somebody takes it away. */
static bool
is_lock_file(const char *entry)
{
    const char *at = strstr(entry, ".lock");
    while (at && at[5] != '\0' && at[5] != '.')
        at = strstr(at + 1, ".lock");
    return at != NULL;
}

/* An mbox, or a file that may become one. */
static bool
is_mbox(const struct mailboxes *m, const char *entry)
{
    char start[5];
    struct stat st;
    if (is_lock_file(entry))
        return false;
    int fd = openat(m->fd, entry, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return false;
    bool good = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (good && st.st_size > 0)
        good = read(fd, start, sizeof(start)) == sizeof(start) && memcmp(start, "From ", sizeof(start)) == 0;
    close(fd);
    return good;
}

static bool
directory_exists(struct mailboxes *m, const char *directory)
{
    struct stat st;
    struct buf path = {0};
    if (m->inbox)
        return is_mbox(m, directory);
    buf_printf(&path, "%s/cur", directory);
    bool exists = fstatat(m->fd, buf_text(&path), &st, 0) == 0 && S_ISDIR(st.st_mode);
    buf_release(&path);
    return exists;
}

bool
mailbox_exists(struct mailboxes *m, const char *name)
{
    struct buf directory = {0};
    if (m->inbox && strcmp(name, "INBOX") == 0)
        return true;
    entry_of(m, name, &directory);
    bool exists = directory_exists(m, buf_text(&directory));
    buf_release(&directory);
    return exists;
}

/* ---- the whole ---- */

void
mailbox_changed(struct open_mailbox *box)
{
    box->changes++;
    task_wake_all(&box->changed);
}

static void
read_events(void *arg)
{
    struct mailboxes *m = arg;
    char bytes[2048] __attribute__((aligned(8)));
    struct err err;
    for (;;) {
        ssize_t n = read(m->inotify, bytes, sizeof(bytes));
        if (n < 0 && errno == EAGAIN) {
            if (task_fd_wait_read(&m->tfd, NO_DEADLINE, &err) < 0)
                break;
            continue;
        }
        if (n <= 0)
            break;
        const struct inotify_event *event;
        for (const char *at = bytes; at < bytes + n; at += sizeof(*event) + event->len) {
            event = (const void *)at;
            for (struct open_mailbox *box = m->open; box; box = box->next)
                if (event->wd == box->watch || event->wd == box->watch_new)
                    mailbox_changed(box);
        }
    }
    task_fd_release(&m->tfd);
}

static void close_kept(struct mailboxes *, const char *name, unsigned most);

static void
put_index_path(const struct mailboxes *m, struct buf *path)
{
    buf_printf(path, "%s/%spostern.index", m->root, m->inbox ? "." : "");
}

struct fulltext *
mailboxes_fulltext(struct mailboxes *m)
{
    struct buf path = {0};
    struct err err;
    if (m->fulltext && fulltext_is_usable(m->fulltext))
        return m->fulltext;
    if (m->fulltext) {
        fulltext_close(&m->fulltext);
        m->fulltext_next = loop_now() + FULLTEXT_PAUSE;
    }
    if (loop_now() < m->fulltext_next)
        return NULL;
    struct arena *arena = arena_new();
    put_index_path(m, &path);
    m->fulltext = fulltext_open(buf_text(&path), search_text_form(arena), &err);
    if (!m->fulltext) {
        log_warning("no full-text index for now: %s", err.text);
        m->fulltext_next = loop_now() + FULLTEXT_PAUSE;
    }
    arena_free(&arena);
    buf_release(&path);
    return m->fulltext;
}

/* Mail is read without an index too. */
static void
open_index(struct mailboxes *m)
{
    struct buf path = {0};
    struct err err;
    put_index_path(m, &path);
    m->index = index_open(buf_text(&path), &err);
    if (!m->index)
        log_warning("no index: %s", err.text);
    buf_release(&path);
}

void
mailboxes_close(struct mailboxes **m)
{
    if (!*m)
        return;
    close_kept(*m, NULL, 0);
    fulltext_close(&(*m)->fulltext);
    (*m)->fulltext_next = NO_DEADLINE; /* who still fills it does not open it again */
    index_close(&(*m)->index);         /* what else there is goes with the process */
    *m = NULL;
}

static int
open_maildir(struct mailboxes *m, const char *path, struct err *err)
{
    m->root = text_copy(path);
    for (size_t len = strlen(m->root); len > 1 && m->root[len - 1] == '/'; len--)
        m->root[len - 1] = '\0';
    struct folder *inbox = folder_open(m->root, FOLDER_MAILDIR, err);
    if (inbox)
        folder_close(&inbox);
    else if (access(m->root, R_OK | X_OK) < 0)
        return -1;
    else
        log_warning("%s: %s", m->root, err->text); /* who selects it is told; other mailboxes are there */
    return 0;
}

/* A user without a home directory has INBOX alone. */
static void
open_mboxes(struct mailboxes *m, const char *inbox, const char *others)
{
    m->inbox = text_copy(inbox);
    m->root = text_copy(others);
    if (mkdir(m->root, 0700) < 0 && errno != EEXIST)
        log_warning("no mailboxes but INBOX: make %s: %m", m->root);
}

struct mailboxes *
mailboxes_open(const char *mail, const char *others, struct err *err)
{
    bool is_mbox_place = strncmp(mail, "mbox:/", 6) == 0;
    if (!is_mbox_place && strncmp(mail, "maildir:/", 9) != 0) {
        err_set(err, ERR_PERM, "mail of this kind can't be read by IMAP: %s", mail);
        return NULL;
    }
    struct mailboxes *m = calloc(1, sizeof(*m));
    if (!m)
        fatal("out of memory");
    if (is_mbox_place)
        open_mboxes(m, mail + 5, others);
    else if (open_maildir(m, mail + 8, err) < 0)
        return NULL;
    m->fd = open(m->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (m->fd < 0 && !m->inbox) {
        err_errno(err, "open %s", m->root);
        return NULL;
    }
    open_index(m);
    m->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (m->inotify >= 0) {
        task_fd_init(&m->tfd, m->inotify);
        task_spawn(service_tasks(), "watch", read_events, m);
    }
    return m;
}

int
mailboxes_fd(const struct mailboxes *m)
{
    return m->fd;
}

/* ---- open ones ---- */

/* What was closed, but is kept for the next who wants it: a large folder takes a while to open. */
static struct open_mailbox *
take_kept(struct mailboxes *m, const char *name)
{
    struct stat at_path, opened;
    struct buf path = {0};
    struct open_mailbox *box = m->open;
    while (box && (box->users > 0 || strcmp(box->name, name) != 0))
        box = box->next;
    if (!box)
        return NULL;
    path_of(m, name, &path);
    bool same = stat(buf_text(&path), &at_path) == 0 && fstat(folder_fd(box->folder), &opened) == 0 &&
                at_path.st_dev == opened.st_dev && at_path.st_ino == opened.st_ino;
    buf_release(&path);
    if (same)
        return box;
    close_kept(m, name, 0);
    return NULL;
}

/* A directory that was copied together with its list of UIDs passes for the same folder; its new messages have numbers that are others
 * there. */
static bool
is_copy_of_open(const struct mailboxes *m, const struct folder *folder)
{
    struct index_key key = folder_key(folder);
    for (const struct open_mailbox *box = m->open; box; box = box->next) {
        struct index_key other = folder_key(box->folder);
        if (folder_uid_validity(folder) && memcmp(&key, &other, sizeof(key)) == 0)
            return true;
    }
    return false;
}

struct open_mailbox *
mailbox_open(struct mailboxes *m, const char *name, struct err *err)
{
    struct buf path = {0};
    struct open_mailbox *kept = take_kept(m, name);
    for (struct open_mailbox *box = m->open; box; box = box->next)
        if (strcmp(box->name, name) == 0) {
            if (folder_sync(box->folder, err) < 0) {
                if (box == kept)
                    close_kept(m, name, 0);
                return NULL;
            }
            box->users++;
            return box;
        }
    if (!mailbox_exists(m, name)) {
        err_set(err, ERR_PERM, "no such mailbox");
        return NULL;
    }
    path_of(m, name, &path);
    struct folder *folder = folder_open(buf_text(&path), kind_of(m), err);
    buf_release(&path);
    if (!folder)
        return NULL;
    folder_use_index(folder, is_copy_of_open(m, folder) ? NULL : m->index);
    if (folder_sync(folder, err) < 0) {
        folder_close(&folder);
        return NULL;
    }
    struct open_mailbox *box = calloc(1, sizeof(*box));
    if (!box || !(box->name = strdup(name)))
        fatal("out of memory");
    box->folder = folder;
    box->users = 1;
    box->watch = box->watch_new = -1;
    box->next = m->open;
    m->open = box;
    return box;
}

static void
box_free(struct mailboxes *m, struct open_mailbox *box)
{
    if (box->watch >= 0)
        inotify_rm_watch(m->inotify, box->watch);
    if (box->watch_new >= 0)
        inotify_rm_watch(m->inotify, box->watch_new);
    folder_close(&box->folder);
    free(box->name);
    free(box);
}

/* Really closes what nobody uses: of that name, or (NULL) all but the first `most`. */
static void
close_kept(struct mailboxes *m, const char *name, unsigned most)
{
    for (struct open_mailbox **at = &m->open; *at;) {
        struct open_mailbox *box = *at;
        bool stays = box->users > 0 || (name ? strcmp(box->name, name) != 0 : most > 0);
        if (stays) {
            most -= box->users == 0 && most > 0;
            at = &box->next;
        } else {
            *at = box->next;
            box_free(m, box);
        }
    }
}

void
mailbox_close(struct mailboxes *m, struct open_mailbox *box)
{
    if (--box->users > 0)
        return;
    for (struct open_mailbox **at = &m->open; *at; at = &(*at)->next)
        if (*at == box) {
            *at = box->next;
            break;
        }
    box->next = m->open; /* the latest is the first */
    m->open = box;
    close_kept(m, NULL, KEPT_MAILBOXES);
}

void
mailbox_watch(struct mailboxes *m, struct open_mailbox *box)
{
    const uint32_t events = IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR;
    struct buf path = {0};
    if (m->inotify < 0 || box->watch >= 0)
        return;
    path_of(m, box->name, &path);
    if (m->inbox) {
        box->watch =
            inotify_add_watch(m->inotify, buf_text(&path), IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF);
        buf_release(&path);
        return;
    }
    size_t len = path.len;
    buf_append_text(&path, "/cur");
    box->watch = inotify_add_watch(m->inotify, buf_text(&path), events);
    path.len = len;
    buf_append_text(&path, "/new");
    box->watch_new = inotify_add_watch(m->inotify, buf_text(&path), events);
    buf_release(&path);
}

/* ---- making, removing, renaming ---- */

static int
check_mbox_name(const struct mailboxes *m, const char *name, struct err *err)
{
    return m->inbox && is_lock_file(name) ? err_set(err, ERR_PERM, "that is the name of a lock file") : 0;
}

/* For a new mailbox: one that no mailbox had that was made here, since another may have had its name. */
static uint32_t
next_validity(struct mailboxes *m)
{
    static const char mark[] = "user.postern.uidvalidity";
    char text[16];
    uint32_t next = (uint32_t)time(NULL);
    ssize_t len = fgetxattr(m->fd, mark, text, sizeof(text) - 1);
    text[len > 0 ? len : 0] = '\0';
    unsigned long last = strtoul(text, NULL, 10);
    if (last >= next && last < UINT32_MAX)
        next = (uint32_t)last + 1;
    int n = snprintf(text, sizeof(text), "%u", next);
    (void)fsetxattr(m->fd, mark, text, (size_t)n, 0); /* synced with the directory */
    return next;
}

static int
create_mbox(struct mailboxes *m, const char *name, struct err *err)
{
    struct buf entry = {0};
    if (check_mbox_name(m, name, err) < 0)
        return -1;
    entry_of(m, name, &entry);
    int fd = openat(m->fd, buf_text(&entry), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    buf_release(&entry);
    if (fd < 0)
        return err_errno(err, "create %s", name);
    folder_mbox_begin_uids(fd, next_validity(m));
    int result = fsync(fd) < 0 ? err_errno(err, "sync %s", name) : 0;
    close(fd);
    if (result < 0)
        return -1;
    return fsync(m->fd) < 0 ? err_errno(err, "sync") : 0;
}

int
mailbox_create(struct mailboxes *m, const char *name, struct err *err)
{
    struct buf path = {0};
    if (mailbox_exists(m, name))
        return err_set(err, ERR_PERM, "the mailbox exists already");
    if (m->inbox)
        return create_mbox(m, name, err);
    path_of(m, name, &path);
    struct folder *folder = folder_open(buf_text(&path), FOLDER_MAILDIR, err);
    int result = folder ? 0 : -1;
    if (folder) { /* Maildir++: says that this is a folder, not a Maildir of its own */
        int fd = openat(folder_fd(folder), "maildirfolder", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0)
            close(fd);
        folder_begin_uids(folder, next_validity(m));
        result = folder_sync(folder, err);
        folder_close(&folder);
    }
    if (result == 0 && fsync(m->fd) < 0)
        result = err_errno(err, "sync");
    buf_release(&path);
    return result;
}

static bool
is_open(struct mailboxes *m, const char *name)
{
    close_kept(m, name, 0);
    for (struct open_mailbox *box = m->open; box; box = box->next)
        if (strcmp(box->name, name) == 0)
            return true;
    return false;
}

/* Removes the files of a directory, not following links; directories in it are left. */
static void
empty_directory(int fd)
{
    const struct dirent *entry;
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir)
        return;
    while ((entry = readdir(dir)))
        unlinkat(fd, entry->d_name, 0);
    closedir(dir);
}

static void
forget_fulltext(struct mailboxes *m, const struct index_key *key)
{
    struct buf path = {0};
    put_index_path(m, &path);
    if ((m->fulltext || fulltext_exists(buf_text(&path))) && mailboxes_fulltext(m))
        fulltext_forget(m->fulltext, key);
    buf_release(&path);
}

/* One that can't be opened is removed all the same. */
static void
forget_index(struct mailboxes *m, const char *name)
{
    struct err err;
    struct open_mailbox *box = mailbox_open(m, name, &err);
    if (!box)
        return;
    struct index_key key = folder_key(box->folder);
    folder_index_forget(box->folder);
    forget_fulltext(m, &key);
    box->users--;
    close_kept(m, name, 0);
}

/* First it gets a name that no mailbox has, so that it is gone whole or not at all. */
int
mailbox_delete(struct mailboxes *m, const char *name, struct err *err)
{
    static const char *const inner[] = {"cur", "new", "tmp"};
    struct buf directory = {0};
    char random[17], trash[64];
    if (strcmp(name, "INBOX") == 0)
        return err_set(err, ERR_PERM, "INBOX can't be deleted");
    if (!mailbox_exists(m, name))
        return err_set(err, ERR_PERM, "no such mailbox");
    if (is_open(m, name))
        return err_set(err, ERR_TEMP, "the mailbox is in use by another session");
    forget_index(m, name);
    entry_of(m, name, &directory);
    if (m->inbox) {
        int gone = unlinkat(m->fd, buf_text(&directory), 0) < 0 || fsync(m->fd) < 0 ? err_errno(err, "remove") : 0;
        buf_release(&directory);
        return gone;
    }
    file_random_hex(random, 16);
    snprintf(trash, sizeof(trash), "..DELETED-%s", random);
    int result =
        renameat(m->fd, buf_text(&directory), m->fd, trash) < 0 || fsync(m->fd) < 0 ? err_errno(err, "remove") : 0;
    buf_release(&directory);
    int fd = result == 0 ? openat(m->fd, trash, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (fd < 0)
        return result;
    for (size_t i = 0; i < ARRAY_LEN(inner); i++) {
        int inside = openat(fd, inner[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (inside >= 0) {
            empty_directory(inside);
            close(inside);
        }
        unlinkat(fd, inner[i], AT_REMOVEDIR);
    }
    empty_directory(fd);
    close(fd);
    if (unlinkat(m->fd, trash, AT_REMOVEDIR) < 0)
        log_warning("%s/%s of a removed mailbox stays: %m", m->root, trash);
    return 0;
}

static int
rename_one(struct mailboxes *m, const char *from, const char *to, struct err *err)
{
    struct buf old = {0}, new = {0};
    entry_of(m, from, &old);
    entry_of(m, to, &new);
    int result = file_rename_new(m->fd, buf_text(&old), buf_text(&new)); /* what is there, be it no mailbox, stays */
    if (result < 0)
        err_errno(err, "rename %s", from);
    buf_release(&old);
    buf_release(&new);
    return result;
}

/* RENAME INBOX moves its messages (RFC 3501 section 6.3.5). */
static int
move_inbox(struct mailboxes *m, const char *to, struct err *err)
{
    if (mailbox_create(m, to, err) < 0)
        return -1;
    struct open_mailbox *inbox = mailbox_open(m, "INBOX", err);
    struct open_mailbox *target = inbox ? mailbox_open(m, to, err) : NULL;
    struct arena *arena = arena_new();
    int result = target ? 0 : -1;
    const char *name;
    for (size_t i = 0; result == 0 && i < folder_count(inbox->folder); i++)
        result = folder_copy(inbox->folder, folder_at(inbox->folder, i), target->folder, true, arena, &name, err);
    if (target && folder_settle(target->folder, err) < 0)
        result = -1;
    if (result == 0 && folder_settle(inbox->folder, err) < 0)
        result = -1;
    arena_free(&arena);
    if (target)
        mailbox_close(m, target);
    if (inbox)
        mailbox_close(m, inbox);
    return result;
}

int
mailbox_rename(struct mailboxes *m, const char *from, const char *to, struct err *err)
{
    const char **names;
    size_t count, len = strlen(from);
    if (mailbox_exists(m, to))
        return err_set(err, ERR_PERM, "the mailbox exists already");
    if (check_mbox_name(m, to, err) < 0)
        return -1;
    if (strcmp(from, "INBOX") == 0)
        return move_inbox(m, to, err);
    struct arena *arena = arena_new();
    int result = mailbox_list(m, arena, &names, &count, err);
    bool found = false;
    for (size_t i = 0; result == 0 && i < count; i++) {
        if (strncmp(names[i], from, len) != 0 || (names[i][len] != '\0' && names[i][len] != MAILBOX_SEPARATOR))
            continue;
        found = true;
        if (is_open(m, names[i]))
            result = err_set(err, ERR_TEMP, "the mailbox is in use by another session");
        else if (mailbox_exists(m, arena_printf(arena, "%s%s", to, names[i] + len)))
            result = err_set(err, ERR_PERM, "a mailbox below the new name exists already");
    }
    for (size_t i = 0; result == 0 && i < count; i++)
        if (strncmp(names[i], from, len) == 0 && (names[i][len] == '\0' || names[i][len] == MAILBOX_SEPARATOR))
            result = rename_one(m, names[i], arena_printf(arena, "%s%s", to, names[i] + len), err);
    arena_free(&arena);
    if (result == 0 && !found)
        return err_set(err, ERR_PERM, "no such mailbox");
    if (result == 0 && fsync(m->fd) < 0)
        return err_errno(err, "sync");
    return result;
}

/* ---- lists ---- */

struct name_list {
    struct arena *arena;
    const char **names;
    size_t count, size;
};

static void
add_name(struct name_list *list, const char *name)
{
    if (list->count == list->size) {
        const char **more = arena_array(list->arena, list->size ? 2 * list->size : 16, sizeof(*more));
        if (list->count > 0)
            memcpy(more, list->names, list->count * sizeof(*more));
        list->names = more;
        list->size = list->size ? 2 * list->size : 16;
    }
    list->names[list->count++] = name;
}

static int
compare_names(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    bool first = strcmp(x, "INBOX") == 0, second = strcmp(y, "INBOX") == 0;
    return first != second ? (first ? -1 : 1) : strcmp(x, y);
}

int
mailbox_list(struct mailboxes *m, struct arena *arena, const char ***names, size_t *count, struct err *err)
{
    struct name_list list = {.arena = arena};
    const struct dirent *entry;
    int fd = openat(m->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir && m->fd >= 0)
        return err_errno(err, "open %s", m->root);
    add_name(&list, "INBOX");
    while (dir && (entry = readdir(dir))) {
        struct buf name = {0};
        struct err ignored;
        const char *text = m->inbox ? entry->d_name : entry->d_name + 1;
        if ((entry->d_name[0] == '.') == (m->inbox != NULL) || *text == '.' || *text == '\0')
            continue;
        if (imap_utf7_to_utf8(slice_from(text), &name) && check_name(buf_text(&name), &ignored) == 0 &&
            directory_exists(m, entry->d_name))
            add_name(&list, arena_strdup(arena, buf_text(&name)));
        buf_release(&name);
    }
    if (dir)
        closedir(dir);
    qsort(list.names, list.count, sizeof(*list.names), compare_names);
    *names = list.names;
    *count = list.count;
    return 0;
}

bool
mailbox_has_children(const char *const *names, size_t count, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < count; i++)
        if (strncmp(names[i], name, len) == 0 && names[i][len] == MAILBOX_SEPARATOR)
            return true;
    return false;
}

/* ---- subscriptions: the file that Dovecot documents: a name a line; from version 2 on ("V\t2", an empty line) its levels are
 * divided by tabs ---- */

static const char *
subscriptions_file(const struct mailboxes *m)
{
    return m->inbox ? ".subscriptions" : "subscriptions";
}

int
mailbox_subscriptions(struct mailboxes *m, struct arena *arena, const char ***names, size_t *count, struct err *err)
{
    const char *file = subscriptions_file(m);
    *count = 0;
    if (m->fd < 0)
        return 0;
    struct name_list list = {.arena = arena};
    struct slice text, line;
    if (file_read_name(arena, m->fd, file, SUBSCRIPTIONS_LIMIT, &text, err) < 0)
        return -1;
    bool tabs = text.len > 4 && memcmp(text.ptr, "V\t2\n", 4) == 0;
    if (tabs)
        text = slice_make(text.ptr + 4, text.len - 4);
    while (slice_cut(&text, '\n', &line)) {
        struct buf name = {0};
        if (line.len == 0)
            continue;
        if (imap_utf7_to_utf8(line, &name)) {
            char *copy = arena_strdup(arena, buf_text(&name));
            for (char *at = copy; tabs && *at; at++)
                if (*at == '\t')
                    *at = MAILBOX_SEPARATOR;
            add_name(&list, copy);
        }
        buf_release(&name);
    }
    if (list.count > 0)
        qsort(list.names, list.count, sizeof(*list.names), compare_names);
    *names = list.names;
    *count = list.count;
    return 0;
}

static void
put_subscription(struct buf *out, const char *name)
{
    size_t from = out->len;
    imap_utf8_to_utf7(slice_from(name), out);
    for (size_t i = from; i < out->len; i++)
        if (out->ptr[i] == MAILBOX_SEPARATOR)
            out->ptr[i] = '\t';
    buf_append_byte(out, '\n');
}

int
mailbox_subscribe(struct mailboxes *m, const char *name, bool on, struct err *err)
{
    struct arena *arena = arena_new();
    struct buf out = {0};
    const char **names;
    size_t count;
    bool found = false;
    if (file_dotlock(m->fd, m->inbox ? ".subscriptions.lock" : "subscriptions.lock", err) < 0) {
        arena_free(&arena);
        return -1;
    }
    int result = mailbox_subscriptions(m, arena, &names, &count, err);
    buf_append_text(&out, "V\t2\n\n");
    for (size_t i = 0; result == 0 && i < count; i++) {
        bool same = strcmp(names[i], name) == 0;
        found = found || same;
        if (!same || on)
            put_subscription(&out, names[i]);
    }
    if (on && !found)
        put_subscription(&out, name);
    if (result == 0 && found != on)
        result = file_replace(m->fd, subscriptions_file(m), ".subscriptions.tmp", buf_slice(&out), NULL, err);
    unlinkat(m->fd, m->inbox ? ".subscriptions.lock" : "subscriptions.lock", 0);
    buf_release(&out);
    arena_free(&arena);
    return result;
}

const char *
mailbox_special_use(const char *name)
{
    static const struct {
        const char *name, *use;
    } uses[] = {{"Drafts", "\\Drafts"},     {"Sent", "\\Sent"},           {"Sent Messages", "\\Sent"},
                {"Trash", "\\Trash"},       {"Junk", "\\Junk"},           {"Spam", "\\Junk"},
                {"Archive", "\\Archive"},   {"INBOX.Drafts", "\\Drafts"}, {"INBOX.Sent", "\\Sent"},
                {"INBOX.Trash", "\\Trash"}, {"INBOX.Junk", "\\Junk"}};
    for (size_t i = 0; i < ARRAY_LEN(uses); i++)
        if (strcmp(name, uses[i].name) == 0)
            return uses[i].use;
    return NULL;
}
