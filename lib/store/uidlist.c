/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/uidlist.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/map.h"
#include "lib/store/file.h"

#define LIST      "dovecot-uidlist"
#define LIST_LOCK "dovecot-uidlist.lock"
#define LIST_TEMP "dovecot-uidlist.tmp"

enum { LIST_LIMIT = 256 << 20, HEAD_SIZE = 512 };

struct slice
uidlist_base_name(struct slice name)
{
    const char *colon = memchr(name.ptr, ':', name.len);
    return colon ? slice_make(name.ptr, (size_t)(colon - name.ptr)) : name;
}

/* ---- reading ---- */

static bool
number(struct slice text, uint64_t max, uint64_t *out)
{
    unsigned long long n;
    if (slice_to_u64(text, max, &n) < 0)
        return false;
    *out = n;
    return true;
}

/* "3 V.. N.. G..": false if it is no header of this form. */
static bool
parse_header(struct slice line, struct uidlist *list)
{
    struct slice word;
    uint64_t n;
    if (!slice_word(&line, " ", &word) || !slice_equal_text(word, "3"))
        return false;
    while (slice_word(&line, " ", &word)) {
        struct slice value = slice_make(word.ptr + 1, word.len - 1);
        if (word.ptr[0] == 'V' && number(value, UINT32_MAX, &n))
            list->uid_validity = (uint32_t)n;
        else if (word.ptr[0] == 'N' && number(value, UINT32_MAX, &n))
            list->next_uid = (uint32_t)n;
        else if (word.ptr[0] == 'G' && value.len == 32)
            memcpy(list->guid, value.ptr, 32);
    }
    return list->uid_validity > 0 && list->next_uid > 0;
}

static bool
parse_entry(struct arena *arena, struct slice line, struct uidlist_entry *entry)
{
    struct slice word;
    struct buf extra = {0};
    uint64_t n;
    const char *colon = memchr(line.ptr, ':', line.len);
    if (!colon)
        return false;
    struct slice head = slice_make(line.ptr, (size_t)(colon - line.ptr));
    entry->name = uidlist_base_name(slice_make(colon + 1, (size_t)(line.ptr + line.len - colon - 1)));
    if (entry->name.len == 0 || !slice_word(&head, " ", &word) || !number(word, UINT32_MAX, &n) || n == 0)
        return false;
    entry->uid = (uint32_t)n;
    while (slice_word(&head, " ", &word)) {
        if (word.ptr[0] == 'W' && number(slice_make(word.ptr + 1, word.len - 1), INT64_MAX, &n)) {
            entry->wire_size = n;
        } else {
            if (extra.len > 0)
                buf_append_byte(&extra, ' ');
            buf_append_slice(&extra, word);
        }
    }
    entry->extra = arena_slice(arena, buf_slice(&extra));
    buf_release(&extra);
    return true;
}

void
uidlist_parse(struct arena *arena, struct slice text, struct uidlist *list)
{
    struct slice line;
    size_t lines = 0;
    uint32_t last = 0;

    *list = (struct uidlist){0};
    for (size_t i = 0; i < text.len; i++)
        lines += text.ptr[i] == '\n';
    list->entries = arena_array(arena, lines + 1, sizeof(*list->entries));
    if (!slice_cut(&text, '\n', &line) || !parse_header(line, list)) {
        *list = (struct uidlist){.entries = list->entries};
        return;
    }
    while (slice_cut(&text, '\n', &line)) {
        struct uidlist_entry *entry = &list->entries[list->count];
        *entry = (struct uidlist_entry){0};
        if (!parse_entry(arena, line, entry) || entry->uid <= last)
            continue;
        last = entry->uid;
        list->count++;
    }
    if (list->next_uid <= last)
        list->next_uid = last < UINT32_MAX ? last + 1 : last;
}

static void
set_stamp(struct uidlist *list, const struct stat *st)
{
    list->stamp[0] = (long long)st->st_ino;
    list->stamp[1] = st->st_size;
    list->stamp[2] = st->st_mtim.tv_sec * 1000000000LL + st->st_mtim.tv_nsec;
}

/* *fd -1: there is none. What is no file, but a file can be put in its place (a FIFO, a link to somewhere), is none. */
static int
open_list(int folder_fd, int *fd, struct stat *st, struct err *err)
{
    *fd = -1;
    if (fstatat(folder_fd, LIST, st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(err, "stat %s", LIST);
    if (S_ISDIR(st->st_mode))
        return err_set(err, ERR_PERM, "%s is a directory", LIST);
    if (!S_ISREG(st->st_mode))
        return 0;
    *fd = openat(folder_fd, LIST, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0)
        return errno == ENOENT || errno == ELOOP ? 0 : err_errno(err, "open %s", LIST);
    if (fstat(*fd, st) == 0 && S_ISREG(st->st_mode))
        return 0;
    close(*fd);
    *fd = -1;
    return err_set(err, ERR_TEMP, "%s is replaced just now", LIST);
}

int
uidlist_read(struct arena *arena, int folder_fd, struct uidlist *list, struct err *err)
{
    struct stat st;
    struct slice text;
    int fd;
    *list = (struct uidlist){0};
    if (open_list(folder_fd, &fd, &st, err) < 0)
        return -1;
    if (fd < 0)
        return 0;
    if (file_read_all(arena, fd, LIST_LIMIT, &text, err) < 0) {
        close(fd);
        return err_context(err, "read %s", LIST);
    }
    close(fd);
    uidlist_parse(arena, text, list);
    set_stamp(list, &st);
    return 0;
}

int
uidlist_read_head(int folder_fd, struct uidlist *list, struct err *err)
{
    char bytes[HEAD_SIZE];
    struct stat st;
    struct slice line;
    int fd;
    *list = (struct uidlist){0};
    if (open_list(folder_fd, &fd, &st, err) < 0)
        return -1;
    if (fd < 0)
        return 0;
    ssize_t len = pread(fd, bytes, sizeof(bytes), 0);
    int result = len < 0 ? err_errno(err, "read %s", LIST) : 0;
    close(fd);
    if (result < 0)
        return -1;
    struct slice text = slice_make(bytes, (size_t)len);
    if (!slice_cut(&text, '\n', &line) || !parse_header(line, list))
        *list = (struct uidlist){0};
    set_stamp(list, &st);
    return 0;
}

bool
uidlist_is_stale(int folder_fd, const struct uidlist *list)
{
    struct stat st;
    struct uidlist now = {0};
    if (fstatat(folder_fd, LIST, &st, AT_SYMLINK_NOFOLLOW) == 0)
        set_stamp(&now, &st);
    return memcmp(now.stamp, list->stamp, sizeof(now.stamp)) != 0;
}

/* ---- writing ---- */

int
uidlist_lock(int folder_fd, struct err *err)
{
    return file_dotlock(folder_fd, LIST_LOCK, err);
}

void
uidlist_unlock(int folder_fd)
{
    unlinkat(folder_fd, LIST_LOCK, 0);
}

static void
print_number(uint64_t number, struct buf *out)
{
    char digits[20];
    size_t at = sizeof(digits);
    do
        digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    buf_append(out, digits + at, sizeof(digits) - at);
}

static void
print_entry(const struct uidlist_entry *entry, struct buf *out)
{
    print_number(entry->uid, out);
    if (entry->wire_size > 0) {
        buf_append_text(out, " W");
        print_number(entry->wire_size, out);
    }
    if (entry->extra.len > 0) {
        buf_append_byte(out, ' ');
        buf_append_slice(out, entry->extra);
    }
    buf_append_text(out, " :");
    buf_append_slice(out, entry->name);
    buf_append_byte(out, '\n');
}

int
uidlist_write(int folder_fd, struct uidlist *list, struct err *err)
{
    struct buf out = {0};
    struct stat st;

    if (list->uid_validity == 0) {
        list->uid_validity = (uint32_t)time(NULL);
        list->next_uid = list->next_uid ? list->next_uid : 1;
    }
    if (list->guid[0] == '\0')
        file_random_hex(list->guid, 32);
    buf_printf(&out, "3 V%u N%u G%s\n", list->uid_validity, list->next_uid, list->guid);
    for (size_t i = 0; i < list->count; i++)
        print_entry(&list->entries[i], &out);
    int result = file_replace(folder_fd, LIST, LIST_TEMP, buf_slice(&out), &st, err);
    buf_release(&out);
    if (result == 0)
        set_stamp(list, &st);
    return result;
}
