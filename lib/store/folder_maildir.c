/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/folder_maildir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/map.h"
#include "lib/store/file.h"

/* ---- names and flags ---- */

static const struct {
    char letter;
    unsigned flag;
} letters[] = {{'D', FLAG_DRAFT},    {'F', FLAG_FLAGGED}, {'P', FLAG_PASSED},
               {'R', FLAG_ANSWERED}, {'S', FLAG_SEEN},    {'T', FLAG_DELETED}};

void
maildir_parse_name(const char *file, unsigned *flags, uint32_t *keywords)
{
    const char *at = strstr(file, ":2,");
    *flags = 0;
    *keywords = 0;
    for (at = at ? at + 3 : ""; *at && *at != ','; at++) {
        if (*at >= 'a' && *at <= 'z')
            *keywords |= 1U << (*at - 'a');
        for (size_t i = 0; i < ARRAY_LEN(letters); i++)
            if (letters[i].letter == *at)
                *flags |= letters[i].flag;
    }
}

/* Letters in ASCII order, as the form demands. */
void
maildir_format_name(struct slice base, unsigned flags, uint32_t keywords, char *out, size_t size)
{
    int len = snprintf(out, size, "%.*s:2,", SLICE_ARG(base));
    check(len > 0 && (size_t)len + 40 < size);
    for (size_t i = 0; i < ARRAY_LEN(letters); i++)
        if (flags & letters[i].flag)
            out[len++] = letters[i].letter;
    for (unsigned i = 0; i < FOLDER_KEYWORDS; i++)
        if (keywords & (1U << i))
            out[len++] = (char)('a' + i);
    out[len] = '\0';
}

/* ",S=123" and ",W=130" in a name: what its maker counted. */
static uint64_t
size_in_name(struct slice name, char what)
{
    unsigned long long n;
    for (size_t i = 0; i + 3 < name.len; i++) {
        if (name.ptr[i] != ',' || name.ptr[i + 1] != what || name.ptr[i + 2] != '=')
            continue;
        size_t from = i + 3, to = from;
        while (to < name.len && name.ptr[to] >= '0' && name.ptr[to] <= '9')
            to++;
        if (slice_to_u64(slice_make(name.ptr + from, to - from), INT64_MAX, &n) == 0)
            return n;
    }
    return 0;
}

int
maildir_dir_fd(const struct folder *folder, const struct folder_message *message)
{
    return message->is_new ? maildir_of(folder)->new_fd : maildir_of(folder)->cur_fd;
}

/* ---- the list in memory ---- */

static void
release_message(struct folder_message *message)
{
    free(message->file);
}

static struct maildir_message *
own(struct folder_message *message)
{
    return (struct maildir_message *)message;
}

/* file is malloc()ed; it is the message's from now on. */
static struct folder_message *
message_new(struct folder *folder, uint32_t uid, char *file, bool is_new)
{
    struct folder_message *message = folder_message_new(folder, uid);
    message->file = file;
    message->is_new = is_new;
    maildir_of(folder)->may_have_new |= is_new;
    message->name = uidlist_base_name(slice_from(message->file));
    message->wire_size = size_in_name(message->name, 'W');
    maildir_parse_name(file, &message->flags, &message->keywords);
    own(message)->extra = slice_make("", 0);
    return message;
}

static void
insert(struct folder *folder, struct folder_message *message)
{
    folder_insert(folder, message);
    map_put(maildir_of(folder)->by_name, message->name, message);
}

static void
leaving(struct folder *folder, struct folder_message *message)
{
    if (message->file)
        map_remove(maildir_of(folder)->by_name, message->name);
}

void
maildir_forget_all(struct folder *folder)
{
    folder_clear_seen(folder);
    folder_drop_unseen(folder, leaving);
}

void
maildir_renamed(struct folder *folder, struct folder_message *message, const char *file, bool is_new)
{
    message->is_new = is_new;
    maildir_of(folder)->may_have_new |= is_new;
    if (strcmp(message->file, file) == 0)
        return;
    char *copy = strdup(file);
    if (!copy)
        fatal("out of memory");
    map_remove(maildir_of(folder)->by_name, message->name);
    free(message->file);
    message->file = copy;
    message->name = uidlist_base_name(slice_from(copy));
    map_put(maildir_of(folder)->by_name, message->name, message);
}

/* ---- looking through the directories ---- */

enum { LOOKS = 3 }; /* again, while another program numbers the messages anew */

struct newcomer {
    char *file;     /* NULL: became a message's */
    long long time; /* that its name begins with */
    bool is_new;
    const struct uidlist_entry *entry; /* NULL: the list does not know it */
};

struct scan {
    struct newcomer *found;
    size_t count, size;
};

static void
scan_release(struct scan *scan)
{
    for (size_t i = 0; i < scan->count; i++)
        free(scan->found[i].file);
    free(scan->found);
    *scan = (struct scan){0};
}

static void
add_newcomer(struct scan *scan, const char *file, bool is_new)
{
    if (scan->count == scan->size) {
        scan->size = scan->size ? 2 * scan->size : 32;
        scan->found = realloc(scan->found, scan->size * sizeof(*scan->found));
    }
    if (!scan->found || !(scan->found[scan->count].file = strdup(file)))
        fatal("out of memory");
    scan->found[scan->count].time = strtoll(file, NULL, 10);
    scan->found[scan->count++].is_new = is_new;
}

static void
found_known(struct folder *folder, struct folder_message *message, const char *file, bool is_new)
{
    unsigned flags;
    uint32_t keywords;
    message->seen_now = true;
    if (message->is_new == is_new && strcmp(message->file, file) == 0)
        return;
    maildir_renamed(folder, message, file, is_new);
    maildir_parse_name(file, &flags, &keywords);
    if (flags != message->flags || keywords != message->keywords)
        folder_message_changed(folder, message);
    else
        folder_index_learned(folder, message);
    message->flags = flags;
    message->keywords = keywords;
}

static int
scan_directory(struct folder *folder, int dir_fd, bool is_new, struct scan *scan, struct err *err)
{
    const struct dirent *entry;
    struct stat st;
    if (fstat(dir_fd, &st) == 0 && st.st_nlink == 0) /* which could be read, and is empty */
        return err_set(err, ERR_PERM, "%s was removed", folder->path);
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        err_errno(err, "open %s of %s", is_new ? "new" : "cur", folder->path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    while ((errno = 0, entry = readdir(dir))) {
        if (entry->d_name[0] == '.' || (entry->d_type != DT_REG && entry->d_type != DT_UNKNOWN))
            continue;
        struct folder_message *message =
            map_get(maildir_of(folder)->by_name, uidlist_base_name(slice_from(entry->d_name)));
        if (message)
            found_known(folder, message, entry->d_name, is_new);
        else
            add_newcomer(scan, entry->d_name, is_new);
    }
    int result = errno ? err_errno(err, "read %s", folder->path) : 0;
    closedir(dir);
    return result;
}

/* new before cur: what another program moves meanwhile is seen at least once. */
static int
scan_both(struct folder *folder, struct scan *scan, struct err *err)
{
    if (scan_directory(folder, maildir_of(folder)->new_fd, true, scan, err) < 0)
        return -1;
    return scan_directory(folder, maildir_of(folder)->cur_fd, false, scan, err);
}

/* ---- UIDs ---- */

static int
compare_newcomers(const void *a, const void *b)
{
    const struct newcomer *x = a, *y = b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return strcmp(x->file, y->file);
}

static void
take_list(struct folder *folder, const struct uidlist *list)
{
    maildir_of(folder)->list = *list;
    folder->uid_validity = list->uid_validity;
    folder->next_uid = list->next_uid;
    memcpy(folder->guid, list->guid, sizeof(folder->guid));
}

/* A list that another program has written: what it says of messages that we know, and by name of those that we don't. Under
 * another UIDVALIDITY we know none: the next look finds them under their new numbers. */
static int
read_list(struct folder *folder, struct err *err)
{
    struct arena *arena = arena_new();
    struct uidlist list;
    if (uidlist_read(arena, maildir_of(folder)->fd, &list, err) < 0) {
        arena_free(&arena);
        return -1;
    }
    if (maildir_of(folder)->list.uid_validity && list.uid_validity != maildir_of(folder)->list.uid_validity)
        maildir_forget_all(folder);
    if (maildir_of(folder)->list_arena)
        arena_free(&maildir_of(folder)->list_arena);
    maildir_of(folder)->list_arena = arena;
    maildir_of(folder)->is_list_read = true;
    take_list(folder, &list);
    map_free(&maildir_of(folder)->list_by_name, NULL);
    maildir_of(folder)->list_by_name = map_new();
    for (size_t i = 0; i < list.count; i++)
        map_put(maildir_of(folder)->list_by_name, list.entries[i].name, &list.entries[i]);
    for (size_t i = 0; i < folder->count; i++) {
        struct folder_message *message = folder->messages[i];
        const struct uidlist_entry *entry = map_get(maildir_of(folder)->list_by_name, message->name);
        own(message)->extra = entry ? entry->extra : slice_make("", 0);
        if (entry && !message->wire_size)
            message->wire_size = entry->wire_size;
    }
    return 0;
}

static int
compare_entries(const void *a, const void *b)
{
    const struct newcomer *x = a, *y = b;
    uint32_t s = x->entry ? x->entry->uid : 0, t = y->entry ? y->entry->uid : 0;
    return s < t ? -1 : s > t;
}

/* What the list knows comes in the order of its UIDs, so that each is the last when it is put in. */
static void
look_up(struct folder *folder, struct scan *scan)
{
    for (size_t i = 0; i < scan->count; i++)
        scan->found[i].entry =
            map_get(maildir_of(folder)->list_by_name, uidlist_base_name(slice_from(scan->found[i].file)));
    if (scan->count > 0)
        qsort(scan->found, scan->count, sizeof(*scan->found), compare_entries);
}

/* Messages that the list knows get their UID from it; the others stay in the scan. */
static void
take_listed(struct folder *folder, struct scan *scan)
{
    size_t left = 0;
    look_up(folder, scan);
    for (size_t i = 0; i < scan->count; i++) {
        struct newcomer *new = &scan->found[i];
        struct slice base = uidlist_base_name(slice_from(new->file));
        struct folder_message *known = map_get(maildir_of(folder)->by_name, base);
        const struct uidlist_entry *entry = new->entry;
        if (known) { /* seen in new and in cur */
            found_known(folder, known, new->file, new->is_new);
        } else if (entry && !folder_find(folder, entry->uid)) {
            struct folder_message *message = message_new(folder, entry->uid, new->file, new->is_new);
            own(message)->extra = entry->extra;
            if (!message->wire_size)
                message->wire_size = entry->wire_size;
            message->seen_now = true;
            insert(folder, message);
            continue;
        } else {
            scan->found[left++] = *new;
            continue;
        }
        free(new->file);
    }
    scan->count = left;
}

static int
compare_uids(const void *a, const void *b)
{
    const struct uidlist_entry *x = a, *y = b;
    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

/* Writes what we hold, and what the list has that came after our look: known_next is the next UID from before it. */
static int
write_list(struct folder *folder, uint32_t known_next, struct err *err)
{
    struct uidlist list = maildir_of(folder)->list;
    size_t n = 0;
    list.next_uid = folder->next_uid;
    list.entries = calloc(folder->count + list.count + 1, sizeof(*list.entries));
    if (!list.entries)
        fatal("out of memory");
    for (size_t i = 0; i < folder->count; i++) {
        const struct folder_message *m = folder->messages[i];
        list.entries[n++] = (struct uidlist_entry){m->uid, ((const struct maildir_message *)m)->extra,
                                                   size_in_name(m->name, 'W') ? 0 : m->wire_size, m->name};
    }
    for (size_t i = 0; i < maildir_of(folder)->list.count; i++)
        if (maildir_of(folder)->list.entries[i].uid >= known_next &&
            !map_get(maildir_of(folder)->by_name, maildir_of(folder)->list.entries[i].name) &&
            !folder_find(folder, maildir_of(folder)->list.entries[i].uid))
            list.entries[n++] = maildir_of(folder)->list.entries[i];
    if (n > folder->count)
        qsort(list.entries, n, sizeof(*list.entries), compare_uids);
    list.count = n;
    int result = uidlist_write(maildir_of(folder)->fd, &list, err);
    maildir_of(folder)->is_list_unsure = result < 0;
    free(list.entries);
    list.entries = maildir_of(folder)->list.entries;
    list.count = maildir_of(folder)->list.count;
    if (result == 0) {
        take_list(folder, &list);
        folder->sizes_counted = false;
    }
    return result;
}

/* Numbers that could not be written were given to nobody: the next look finds these messages once more. */
static void
take_numbers_back(struct folder *folder, uint32_t next_uid)
{
    for (size_t i = 0; i < folder->count; i++)
        folder->messages[i]->seen_now = folder->messages[i]->uid < next_uid;
    folder_drop_unseen(folder, leaving);
    folder->next_uid = next_uid;
    maildir_of(folder)->is_list_unsure = true;
}

/* 1: another program has numbered all anew since the look. */
static int
number_newcomers(struct folder *folder, struct scan *scan, uint32_t known_next, struct err *err)
{
    uint32_t validity = folder->uid_validity;
    if (uidlist_lock(maildir_of(folder)->fd, err) < 0)
        return -1;
    int result = uidlist_is_stale(maildir_of(folder)->fd, &maildir_of(folder)->list) ? read_list(folder, err) : 0;
    if (result == 0 && folder->uid_validity != validity)
        result = 1;
    if (result == 0) {
        take_listed(folder, scan);
        if (folder->next_uid == 0)
            folder->next_uid = 1;
        uint32_t next_uid = folder->next_uid;
        if (scan->count > 0)
            qsort(scan->found, scan->count, sizeof(*scan->found), compare_newcomers);
        for (size_t i = 0; i < scan->count; i++) {
            struct folder_message *known =
                map_get(maildir_of(folder)->by_name, uidlist_base_name(slice_from(scan->found[i].file)));
            if (known) {
                found_known(folder, known, scan->found[i].file, scan->found[i].is_new);
                continue;
            }
            struct folder_message *message =
                message_new(folder, folder->next_uid++, scan->found[i].file, scan->found[i].is_new);
            scan->found[i].file = NULL;
            message->seen_now = true;
            insert(folder, message);
        }
        result = write_list(folder, known_next, err);
        if (result < 0)
            take_numbers_back(folder, next_uid);
    }
    uidlist_unlock(maildir_of(folder)->fd);
    return result;
}

/* ---- looking ---- */

static bool
is_unchanged(const struct folder *folder, const struct index_stamp *cur, const struct index_stamp *new)
{
    const struct maildir *m = maildir_of(folder);
    return m->is_scanned && m->is_settled && !m->is_list_unsure && maildir_same_stamp(cur, &m->cur_stamp) &&
           maildir_same_stamp(new, &m->new_stamp) && !uidlist_is_stale(m->fd, &m->list);
}

/* 1: another program has numbered all anew meanwhile. */
static int
look_once(struct folder *folder, struct scan *scan, struct err *err)
{
    struct maildir *m = maildir_of(folder);
    if ((!m->is_list_read || uidlist_is_stale(m->fd, &m->list)) && read_list(folder, err) < 0)
        return -1;
    uint32_t validity = folder->uid_validity, known_next = folder->next_uid;
    folder_clear_seen(folder);
    if (scan_both(folder, scan, err) < 0)
        return -1;
    if (folder_is_any_unseen(folder)) { /* gone, or renamed while we looked: a second look tells */
        scan_release(scan);
        if (scan_both(folder, scan, err) < 0)
            return -1;
    }
    folder_drop_unseen(folder, leaving);
    if (uidlist_is_stale(m->fd, &m->list) && read_list(folder, err) < 0)
        return -1;
    if (folder->uid_validity != validity)
        return 1;
    take_listed(folder, scan);
    if (scan->count > 0 || folder->uid_validity == 0 || m->is_list_unsure)
        return number_newcomers(folder, scan, known_next, err);
    return 0;
}

static int
rescan(struct folder *folder, struct scan *scan, struct err *err)
{
    int result = look_once(folder, scan, err);
    for (unsigned tries = 0; result > 0 && tries < LOOKS; tries++) {
        scan_release(scan);
        result = look_once(folder, scan, err);
    }
    return result > 0 ? err_set(err, ERR_TEMP, "%s: another program numbers the messages anew", folder->path) : result;
}

/* Does a message have a keyword whose name another program has added since the list was read? */
static bool
has_unnamed_keyword(const struct folder *folder)
{
    uint32_t used = 0;
    for (size_t i = 0; i < folder->count; i++)
        used |= folder->messages[i]->keywords;
    for (unsigned i = 0; i < FOLDER_KEYWORDS; i++)
        if ((used & (1U << i)) && !folder_keyword(folder, i))
            return true;
    return false;
}

static int
maildir_sync(struct folder *folder, struct err *err)
{
    struct index_stamp cur, new;
    struct timespec now;
    struct scan scan = {0};

    maildir_stamp(maildir_of(folder)->cur_fd, &cur);
    maildir_stamp(maildir_of(folder)->new_fd, &new);
    if (is_unchanged(folder, &cur, &new) ||
        (!maildir_of(folder)->is_scanned && maildir_open_from_index(folder, &cur, &new)))
        return 0;
    clock_gettime(CLOCK_REALTIME_COARSE, &now); /* what files are stamped with */
    maildir_name_all(folder);
    int result = rescan(folder, &scan, err);
    scan_release(&scan);
    if (result < 0 || (has_unnamed_keyword(folder) && maildir_keywords_read(folder, err) < 0))
        return -1;
    maildir_of(folder)->cur_stamp = cur;
    maildir_of(folder)->new_stamp = new;
    maildir_of(folder)->is_settled = maildir_is_settled(&cur, now) && maildir_is_settled(&new, now);
    maildir_of(folder)->is_scanned = true;
    return 0;
}

static int
take_new(struct folder *folder, uint32_t *moved, struct err *err)
{
    char name[512];
    size_t left = 0;
    if (!maildir_of(folder)->may_have_new)
        return 0;
    for (size_t i = 0; i < folder->count; i++) {
        struct folder_message *message = folder->messages[i];
        if (!message->is_new)
            continue;
        left++;
        if (!maildir_has_name(folder, message) || message->name.len + 80 > sizeof(name))
            continue;
        maildir_format_name(message->name, message->flags, message->keywords, name, sizeof(name));
        if (renameat(maildir_of(folder)->new_fd, message->file, maildir_of(folder)->cur_fd, name) < 0) {
            if (errno == ENOENT)
                continue; /* somebody else was first */
            return err_errno(err, "rename new/%s", message->file);
        }
        maildir_renamed(folder, message, name, false);
        folder_index_learned(folder, message);
        if (!*moved)
            *moved = message->uid;
        left--;
    }
    maildir_of(folder)->may_have_new = left > 0;
    return 0;
}

int
maildir_sync_anew(struct folder *folder, struct err *err)
{
    maildir_of(folder)->is_settled = false;
    return folder_sync(folder, err);
}

/* ---- opening and closing ---- */

static int
open_directory(int at, const char *name, bool create, struct err *err)
{
    if (create && mkdirat(at, name, 0700) < 0 && errno != EEXIST)
        return err_errno(err, "make %s", name);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (at == AT_FDCWD ? 0 : O_NOFOLLOW));
    return fd < 0 ? err_errno(err, "open %s", name) : fd;
}

static int
maildir_open(struct folder *folder, bool create, struct err *err)
{
    struct maildir *m = maildir_of(folder);
    struct uidlist list;
    m->by_name = map_new();
    m->list_by_name = map_new();
    m->new_fd = m->cur_fd = m->tmp_fd = -1;
    m->fd = open_directory(AT_FDCWD, folder->path, create, err);
    if (m->fd < 0 || (m->new_fd = open_directory(m->fd, "new", create, err)) < 0 ||
        (m->cur_fd = open_directory(m->fd, "cur", create, err)) < 0 ||
        (m->tmp_fd = open_directory(m->fd, "tmp", create, err)) < 0 || uidlist_read_head(m->fd, &list, err) < 0)
        return -1;
    take_list(folder, &list);
    return maildir_keywords_read(folder, err);
}

/* Sizes that we counted are kept for the next who asks, if no index keeps them; not to do so is no harm. */
static void
save_sizes(struct folder *folder)
{
    struct err err;
    if (!folder->sizes_counted || folder->index || !maildir_of(folder)->is_list_read ||
        uidlist_lock(maildir_of(folder)->fd, &err) < 0)
        return;
    if (!uidlist_is_stale(maildir_of(folder)->fd, &maildir_of(folder)->list))
        (void)!write_list(folder, folder->next_uid, &err);
    uidlist_unlock(maildir_of(folder)->fd);
}

static void
maildir_close(struct folder *folder)
{
    struct maildir *m = maildir_of(folder);
    int fds[] = {m->new_fd, m->cur_fd, m->tmp_fd, m->fd};
    if (m->is_scanned)
        save_sizes(folder);
    map_free(&m->by_name, NULL);
    map_free(&m->list_by_name, NULL);
    if (m->list_arena)
        arena_free(&m->list_arena);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static void
begin_uids(struct folder *folder, uint32_t validity)
{
    maildir_of(folder)->list.uid_validity = folder->uid_validity = validity;
    maildir_of(folder)->is_list_read = true;   /* there is none, and looking for it would forget these numbers */
    maildir_of(folder)->is_list_unsure = true; /* the first look writes it */
}

static int
maildir_fd(const struct folder *folder)
{
    return maildir_of(folder)->fd;
}

const struct folder_kind folder_maildir = {
    .folder_size = sizeof(struct maildir),
    .message_size = sizeof(struct maildir_message),
    .open = maildir_open,
    .close = maildir_close,
    .release_message = release_message,
    .begin_uids = begin_uids,
    .fd = maildir_fd,
    .sync = maildir_sync,
    .take_new = take_new,
    .set_flags = maildir_set_flags,
    .expunge = maildir_expunge,
    .read = maildir_read,
    .time = maildir_time,
    .append_begin = maildir_append_begin,
    .append_abort = maildir_append_abort,
    .append_finish = maildir_append_finish,
    .take_back = maildir_take_back,
    .settle = folder_maildir_settle,
    .uid_of = maildir_uid_of,
    .add_keyword = maildir_add_keyword,
    .link = maildir_link,
    .index_name = maildir_index_name,
    .snapshot = maildir_snapshot,
    .file = maildir_file,
};
