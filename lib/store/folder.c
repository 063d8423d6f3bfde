/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/folder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/store/file.h"
#include "lib/store/folder_private.h"

enum { KEYWORD_LEN = 200, LARGE_BLOCK = 4 << 20 };

/* ---- opening and closing ---- */

static const struct folder_kind *
kind_at(const char *path, enum folder_make make, struct err *err)
{
    struct stat st;
    if (stat(path, &st) == 0)
        return S_ISDIR(st.st_mode) ? &folder_maildir : &folder_mbox;
    if (errno == ENOENT)
        return make == FOLDER_MBOX ? &folder_mbox : &folder_maildir;
    err_errno(err, "%s", path);
    return NULL;
}

struct folder *
folder_open(const char *path, enum folder_make make, struct err *err)
{
    const struct folder_kind *kind = kind_at(path, make, err);
    struct folder *folder = kind ? calloc(1, kind->folder_size) : NULL;
    if (!kind)
        return NULL;
    if (!folder || !(folder->path = strdup(path)))
        fatal("out of memory");
    folder->kind = kind;
    if (kind->open(folder, make != FOLDER_EXISTING, err) < 0) {
        err_context(err, "%s", path);
        folder_close(&folder);
        return NULL;
    }
    return folder;
}

static void
release_block(struct folder *folder)
{
    if (folder->block)
        munmap(folder->block, folder->block_size);
    folder->block = NULL;
}

static void
free_message(struct folder *folder, struct folder_message *message)
{
    folder->kind->release_message(message);
    if (!message->is_in_block)
        free(message);
}

void
folder_close(struct folder **pointer)
{
    struct folder *folder = *pointer;
    if (!folder)
        return;
    folder_index_release(folder);
    folder->kind->close(folder);
    for (size_t i = 0; i < folder->count; i++)
        free_message(folder, folder->messages[i]);
    free(folder->messages);
    release_block(folder);
    uid_list_release(&folder->uids);
    for (unsigned i = 0; i < FOLDER_KEYWORDS; i++)
        free(folder->keywords[i]);
    free(folder->path);
    free(folder);
    *pointer = NULL;
}

void
folder_begin_uids(struct folder *folder, uint32_t uid_validity)
{
    if (folder->uid_validity == 0 && folder->kind->begin_uids)
        folder->kind->begin_uids(folder, uid_validity);
}

/* ---- the list in memory ---- */

struct folder_message *
folder_message_new(struct folder *folder, uint32_t uid)
{
    struct folder_message *message = calloc(1, folder->kind->message_size);
    if (!message)
        fatal("out of memory");
    message->uid = uid;
    return message;
}

void
folder_reserve(struct folder *folder, size_t count)
{
    check(folder->count == 0);
    release_block(folder);
    free(folder->messages);
    folder->size = count + 64;
    folder->messages = calloc(folder->size, sizeof(*folder->messages));
    folder->block_size = (count + 1) * folder->kind->message_size;
    folder->block = mmap(NULL, folder->block_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!folder->messages || folder->block == MAP_FAILED)
        fatal("out of memory");
    if (folder->block_size >= LARGE_BLOCK) /* a page fault costs more than the messages of a page */
        (void)madvise(folder->block, folder->block_size, MADV_HUGEPAGE);
}

struct folder_message *
folder_message_of_block(struct folder *folder, size_t number)
{
    struct folder_message *message = (void *)((char *)folder->block + number * folder->kind->message_size);
    message->is_in_block = true;
    return message;
}

size_t
folder_lower_bound(const struct folder *folder, uint32_t uid)
{
    size_t low = 0, high = folder->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (folder->messages[middle]->uid < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void
folder_insert(struct folder *folder, struct folder_message *message)
{
    if (folder->count == folder->size) {
        folder->size = folder->size ? 2 * folder->size : 64;
        folder->messages = realloc(folder->messages, folder->size * sizeof(*folder->messages));
        if (!folder->messages)
            fatal("out of memory");
    }
    bool is_last = folder->count == 0 || folder->messages[folder->count - 1]->uid < message->uid;
    size_t at = is_last ? folder->count : folder_lower_bound(folder, message->uid);
    memmove(folder->messages + at + 1, folder->messages + at, (folder->count - at) * sizeof(*folder->messages));
    folder->messages[at] = message;
    folder->count++;
    uid_list_release(&folder->uids);
    folder_message_changed(folder, message);
}

void
folder_message_changed(struct folder *folder, struct folder_message *message)
{
    message->change = ++folder->change;
    folder_index_changed(folder, message);
}

void
folder_clear_seen(struct folder *folder)
{
    for (size_t i = 0; i < folder->count; i++)
        folder->messages[i]->seen_now = false;
}

bool
folder_is_any_unseen(const struct folder *folder)
{
    for (size_t i = 0; i < folder->count; i++)
        if (!folder->messages[i]->seen_now)
            return true;
    return false;
}

void
folder_drop_unseen(struct folder *folder, void (*leaving)(struct folder *, struct folder_message *))
{
    size_t kept = 0;
    for (size_t i = 0; i < folder->count; i++) {
        struct folder_message *message = folder->messages[i];
        if (message->seen_now) {
            folder->messages[kept++] = message;
            continue;
        }
        if (leaving)
            leaving(folder, message);
        folder_index_gone(folder, message->uid);
        free_message(folder, message);
        folder->change++;
        uid_list_release(&folder->uids);
    }
    folder->count = kept;
}

size_t
folder_count(const struct folder *folder)
{
    return folder->count;
}

struct folder_message *
folder_at(const struct folder *folder, size_t index)
{
    check(index < folder->count);
    return folder->messages[index];
}

struct folder_message *
folder_find(const struct folder *folder, uint32_t uid)
{
    size_t at = folder_lower_bound(folder, uid);
    return at < folder->count && folder->messages[at]->uid == uid ? folder->messages[at] : NULL;
}

uint32_t
folder_first_unseen(struct folder *folder)
{
    if (folder->unseen.change == folder->change && folder->change > 0)
        return folder->unseen.uid;
    size_t i = 0;
    while (i < folder->count && (folder->messages[i]->flags & FLAG_SEEN))
        i++;
    folder->unseen.uid = i < folder->count ? folder->messages[i]->uid : 0;
    folder->unseen.change = folder->change;
    return folder->unseen.uid;
}

struct uid_list *
folder_uid_list(struct folder *folder)
{
    if (!folder->uids) {
        struct uid_list *list = malloc(sizeof(*list) + folder->count * sizeof(list->uids[0]));
        if (!list)
            fatal("out of memory");
        list->users = 1;
        list->count = folder->count;
        for (size_t i = 0; i < folder->count; i++)
            list->uids[i] = folder->messages[i]->uid;
        folder->uids = list;
    }
    folder->uids->users++;
    return folder->uids;
}

void
uid_list_release(struct uid_list **list)
{
    if (*list && --(*list)->users == 0)
        free(*list);
    *list = NULL;
}

uint32_t
folder_uid_validity(const struct folder *folder)
{
    return folder->uid_validity;
}

uint32_t
folder_next_uid(const struct folder *folder)
{
    return folder->next_uid;
}

uint64_t
folder_change(const struct folder *folder)
{
    return folder->change;
}

int
folder_fd(const struct folder *folder)
{
    return folder->kind->fd(folder);
}

const char *
folder_guid(const struct folder *folder)
{
    return folder->guid;
}

/* ---- looking ---- */

bool
folder_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* What changed within the clock's grain of our look may have changed after it too. */
bool
folder_is_settled(struct timespec stamp, struct timespec now)
{
    long long age = (now.tv_sec - stamp.tv_sec) * 1000000000LL + now.tv_nsec - stamp.tv_nsec;
    return age > 20000000;
}

int
folder_sync(struct folder *folder, struct err *err)
{
    if (folder->kind->sync(folder, err) < 0)
        return err_context(err, "%s", folder->path);
    folder_index_follow(folder);
    return 0;
}

int
folder_take_new(struct folder *folder, uint32_t *moved, struct err *err)
{
    *moved = 0;
    return folder->kind->take_new(folder, moved, err);
}

/* ---- keywords ---- */

int
folder_find_keyword(const struct folder *folder, struct slice name)
{
    for (unsigned i = 0; i < FOLDER_KEYWORDS; i++)
        if (folder->keywords[i] && slice_equal_text_fold(name, folder->keywords[i]))
            return (int)i;
    return -1;
}

void
folder_name_keyword(struct folder *folder, unsigned number, struct slice name)
{
    free(folder->keywords[number]);
    folder->keywords[number] = strndup(name.ptr, name.len);
    if (!folder->keywords[number])
        fatal("out of memory");
}

int
folder_keyword_number(struct folder *folder, struct slice name, bool create, struct err *err)
{
    int number = folder_find_keyword(folder, name);
    if (number >= 0)
        return number;
    if (!create)
        return err_set(err, ERR_PERM, "no such keyword");
    if (name.len == 0 || name.len > KEYWORD_LEN)
        return err_set(err, ERR_PERM, "a keyword of that length is not possible");
    return folder->kind->add_keyword(folder, name, err);
}

const char *
folder_keyword(const struct folder *folder, unsigned number)
{
    return number < FOLDER_KEYWORDS ? folder->keywords[number] : NULL;
}

/* One for which the other folder has no room is left out; any other failure is one. */
static int
translate_keywords(struct folder *from, struct folder *to, uint32_t keywords, uint32_t *result, struct err *err)
{
    *result = 0;
    for (unsigned i = 0; i < FOLDER_KEYWORDS; i++) {
        if (!(keywords & (1U << i)) || !folder_keyword(from, i))
            continue;
        int number = folder_keyword_number(to, slice_from(folder_keyword(from, i)), true, err);
        if (number >= 0)
            *result |= 1U << number;
        else if (err->kind == ERR_PERM)
            log_warning("keyword %s: %s", folder_keyword(from, i), err->text);
        else
            return -1;
    }
    return 0;
}

/* ---- one message ---- */

int
folder_load(int fd, off_t from, size_t size, struct folder_content *content, struct err *err)
{
    size_t len = 0;
    char *bytes = malloc(size + 1);
    if (!bytes)
        fatal("out of memory");
    while (len < size) {
        ssize_t n = pread(fd, bytes + len, size - len, from + (off_t)len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            free(bytes);
            return err_errno(err, "read");
        }
        if (n == 0)
            break;
        len += (size_t)n;
    }
    *content = (struct folder_content){.bytes = slice_make(bytes, len)};
    return 0;
}

int
folder_read(struct folder *folder, struct folder_message *message, struct folder_content *content, struct err *err)
{
    return folder->kind->read(folder, message, content, err);
}

void
folder_content_release(struct folder_content *content)
{
    if (content->mapped)
        munmap(content->mapped, content->mapped_len);
    else
        free((void *)(uintptr_t)content->bytes.ptr);
    *content = (struct folder_content){0};
}

static uint64_t
wire_size_of(struct slice bytes)
{
    uint64_t bare = 0;
    const char *at = bytes.ptr, *end = bytes.ptr + bytes.len;
    while (at < end && (at = memchr(at, '\n', (size_t)(end - at)))) {
        bare += at == bytes.ptr || at[-1] != '\r';
        at++;
    }
    return bytes.len + bare;
}

void
folder_learn_size(struct folder *folder, struct folder_message *message, uint64_t size)
{
    if (message->wire_size)
        return;
    message->wire_size = size;
    folder_index_learned(folder, message);
    folder->sizes_counted = true;
}

const char *
folder_message_file(struct folder *folder, struct folder_message *message)
{
    return message->file ? message->file : folder->kind->file ? folder->kind->file(folder, message) : "";
}

uint64_t
folder_message_size(struct folder *folder, struct folder_message *message, struct err *err)
{
    struct folder_content content;
    uint32_t uid = message->uid;
    if (message->wire_size)
        return message->wire_size;
    if (folder_read(folder, message, &content, err) < 0)
        return 0;
    uint64_t size = wire_size_of(content.bytes);
    folder_content_release(&content);
    message = folder_find(folder, uid);
    if (message) {
        message->wire_size = size;
        folder_index_learned(folder, message);
    }
    folder->sizes_counted = true;
    return size;
}

time_t
folder_message_time(struct folder *folder, struct folder_message *message)
{
    uint32_t uid = message->uid, validity = folder_uid_validity(folder);
    if (message->arrived)
        return message->arrived;
    time_t arrived = folder->kind->time(folder, message); /* may look through the folder */
    message = folder_uid_validity(folder) == validity ? folder_find(folder, uid) : NULL;
    if (message) {
        message->arrived = arrived;
        folder_index_learned(folder, message);
    }
    return arrived;
}

int
folder_set_flags(struct folder *folder, struct folder_message *message, unsigned flags, uint32_t keywords, bool *gone,
                 struct err *err)
{
    *gone = false;
    folder->flags_set = true;
    return folder->kind->set_flags(folder, message, flags, keywords, gone, err);
}

int
folder_settle_flags(struct folder *folder, struct err *err)
{
    int result = folder->flags_set ? folder->kind->settle(folder, err) : 0;
    folder->flags_set = false;
    folder_index_follow(folder);
    return result;
}

int
folder_expunge(struct folder *folder, struct folder_message *message, struct err *err)
{
    return folder->kind->expunge(folder, message, err);
}

/* ---- adding ---- */

int
folder_append_begin(struct folder *folder, struct folder_append *append, struct err *err)
{
    *append = (struct folder_append){.fd = -1};
    return folder->kind->append_begin(folder, append, err);
}

/* CRLF to LF, also where CR and LF come in different pieces; a CR that stands alone stays. */
int
folder_append_write(struct folder *folder, struct folder_append *append, struct slice bytes, struct err *err)
{
    char out[2048];
    size_t n = 0;
    (void)folder;
    for (size_t i = 0; i < bytes.len; i++) {
        char c = bytes.ptr[i];
        if (append->after_cr && c != '\n')
            out[n++] = '\r';
        append->wire_size += c == '\n' && !append->after_cr ? 2 : 1;
        append->after_cr = c == '\r';
        if (!append->after_cr)
            out[n++] = c;
        if (n + 2 > sizeof(out)) {
            if (file_write_all(append->fd, out, n) < 0)
                return err_errno(err, "write tmp/%s", append->name);
            append->size += n;
            n = 0;
        }
    }
    if (n > 0 && file_write_all(append->fd, out, n) < 0)
        return err_errno(err, "write tmp/%s", append->name);
    append->size += n;
    return 0;
}

void
folder_append_abort(struct folder *folder, struct folder_append *append)
{
    if (append->fd < 0)
        return;
    close(append->fd);
    append->fd = -1;
    folder->kind->append_abort(folder, append);
}

int
folder_append_finish(struct folder *folder, struct folder_append *append, unsigned flags, uint32_t keywords,
                     time_t arrived, struct arena *arena, const char **name, struct err *err)
{
    if (append->after_cr) { /* the message ends in a CR that stands alone */
        if (file_write_all(append->fd, "\r", 1) < 0) {
            err_errno(err, "write tmp/%s", append->name);
            folder_append_abort(folder, append);
            return -1;
        }
        append->size++;
        append->after_cr = false;
    }
    return folder->kind->append_finish(folder, append, flags, keywords, arrived, arena, name, err);
}

static int
copy_bytes(struct folder *from, struct folder_message *message, struct folder *to, struct folder_append *append,
           struct err *err)
{
    struct folder_content content;
    if (folder_read(from, message, &content, err) < 0)
        return -1;
    int result = folder_append_begin(to, append, err);
    if (result == 0 && file_write_all(append->fd, content.bytes.ptr, content.bytes.len) < 0) {
        result = err_errno(err, "write tmp/%s", append->name);
        folder_append_abort(to, append);
    }
    append->size = content.bytes.len;
    append->wire_size = wire_size_of(content.bytes);
    folder_content_release(&content);
    return result;
}

int
folder_copy(struct folder *from, struct folder_message *message, struct folder *to, bool move, struct arena *arena,
            const char **name, struct err *err)
{
    struct folder_append append;
    uint32_t uid = message->uid, keywords;
    unsigned flags = message->flags;
    time_t arrived = folder_message_time(from, message);

    if (translate_keywords(from, to, message->keywords, &keywords, err) < 0)
        return -1;
    if (from->kind == to->kind && from->kind->link &&
        from->kind->link(from, message, to, flags, keywords, move, arena, name) == 0)
        return 0;
    if (copy_bytes(from, message, to, &append, err) < 0 ||
        folder_append_finish(to, &append, flags, keywords, arrived, arena, name, err) < 0)
        return -1;
    if (!move)
        return 0;
    if (folder_settle(to, err) < 0) {
        folder_take_back(to, *name);
        return -1;
    }
    message = folder_find(from, uid);
    return message ? folder_expunge(from, message, err) : 0;
}

void
folder_take_back(struct folder *folder, const char *name)
{
    folder->kind->take_back(folder, name);
    folder_index_follow(folder);
}

int
folder_settle(struct folder *folder, struct err *err)
{
    return folder->kind->settle(folder, err) < 0 ? -1 : folder_sync(folder, err);
}

uint32_t
folder_uid_of(const struct folder *folder, const char *name)
{
    return folder->kind->uid_of(folder, name);
}
