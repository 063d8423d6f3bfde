/* SPDX-License-Identifier: Apache-2.0 */
/* What is done with one message of a Maildir folder: read, flag, remove, add, copy. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/store/file.h"
#include "lib/store/folder_maildir.h"

enum {
    MAP_FROM = 256 << 10, /* files of this size on are mapped, smaller ones read */
    RENAME_TRIES = 5,     /* while another program renames the same file */
    NAME_SIZE = 512,
};

/* ---- reading ---- */

/* Another program has renamed the message's file: looks for it. NULL: it is gone, or all is numbered anew, and the number another's. */
static int
find_again(struct folder *folder, uint32_t validity, uint32_t uid, struct folder_message **message, struct err *err)
{
    if (maildir_sync_anew(folder, err) < 0)
        return -1;
    *message = folder_uid_validity(folder) == validity ? folder_find(folder, uid) : NULL;
    return 0;
}

static int
open_message(struct folder *folder, struct folder_message *message, struct err *err)
{
    uint32_t uid = message->uid, validity = folder_uid_validity(folder);
    for (unsigned tries = 0; message && tries < RENAME_TRIES; tries++) {
        if (maildir_has_name(folder, message)) {
            int fd =
                openat(maildir_dir_fd(folder, message), message->file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
            if (fd >= 0)
                return fd;
            if (errno != ENOENT)
                return err_errno(err, "open %s", message->file);
        }
        if (find_again(folder, validity, uid, &message, err) < 0)
            return -1;
    }
    return err_set(err, ERR_PERM, "the message is gone");
}

int
maildir_read(struct folder *folder, struct folder_message *message, struct folder_content *content, struct err *err)
{
    struct stat st;
    int fd = open_message(folder, message, err);
    if (fd < 0)
        return -1;
    int result = fstat(fd, &st) < 0 ? err_errno(err, "stat") : 0;
    if (result == 0 && !S_ISREG(st.st_mode))
        result = err_set(err, ERR_PERM, "not a regular file");
    if (result == 0 && st.st_size >= MAP_FROM) {
        void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (at == MAP_FAILED)
            result = err_errno(err, "map");
        else
            *content = (struct folder_content){slice_make(at, (size_t)st.st_size), at, (size_t)st.st_size};
    } else if (result == 0) {
        result = folder_load(fd, 0, (size_t)st.st_size, content, err);
    }
    close(fd);
    return result;
}

time_t
maildir_time(struct folder *folder, struct folder_message *message)
{
    struct stat st;
    struct err err;
    uint32_t uid = message->uid, validity = folder_uid_validity(folder);
    time_t named = 0; /* of one that goes meanwhile */
    for (unsigned tries = 0; message && tries < RENAME_TRIES; tries++) {
        if (maildir_has_name(folder, message)) {
            if (fstatat(maildir_dir_fd(folder, message), message->file, &st, AT_SYMLINK_NOFOLLOW) == 0)
                return st.st_mtime;
            named = (time_t)strtoll(message->file, NULL, 10);
            if (errno != ENOENT)
                break;
        }
        if (find_again(folder, validity, uid, &message, &err) < 0)
            break;
    }
    return named;
}

/* ---- changing ---- */

/* What became of a set that another program changed from old to now, when it was to become wanted. */
static uint32_t
merge_bits(uint32_t old, uint32_t wanted, uint32_t now)
{
    return (now & ~(old & ~wanted)) | (wanted & ~old);
}

int
maildir_set_flags(struct folder *folder, struct folder_message *message, unsigned flags, uint32_t keywords, bool *gone,
                  struct err *err)
{
    char name[NAME_SIZE];
    uint32_t uid = message->uid, validity = folder_uid_validity(folder);
    uint32_t old_flags = message->flags, old_keywords = message->keywords;
    for (unsigned tries = 0; tries < RENAME_TRIES; tries++) {
        if (maildir_has_name(folder, message)) {
            if (message->name.len + 80 > sizeof(name))
                return err_set(err, ERR_PERM, "the file's name is too long");
            maildir_format_name(message->name, flags, keywords, name, sizeof(name));
            if (renameat(maildir_dir_fd(folder, message), message->file, maildir_of(folder)->cur_fd, name) == 0) {
                maildir_renamed(folder, message, name, false);
                message->flags = flags;
                message->keywords = keywords;
                folder_message_changed(folder, message);
                return 0;
            }
            if (errno != ENOENT)
                return err_errno(err, "rename %s", message->file);
        }
        if (find_again(folder, validity, uid, &message, err) < 0)
            return -1;
        if (!message) {
            *gone = true;
            return 0;
        }
        flags = merge_bits(old_flags, flags, message->flags);
        keywords = merge_bits(old_keywords, keywords, message->keywords);
        old_flags = message->flags;
        old_keywords = message->keywords;
    }
    return err_set(err, ERR_TEMP, "another program keeps renaming the message");
}

int
maildir_expunge(struct folder *folder, struct folder_message *message, struct err *err)
{
    uint32_t uid = message->uid, validity = folder_uid_validity(folder);
    bool was_deleted = message->flags & FLAG_DELETED;
    for (unsigned tries = 0; message && tries < RENAME_TRIES; tries++) {
        if (maildir_has_name(folder, message)) {
            if (unlinkat(maildir_dir_fd(folder, message), message->file, 0) == 0)
                return 0;
            if (errno != ENOENT)
                return err_errno(err, "remove %s", message->file);
        }
        if (find_again(folder, validity, uid, &message, err) < 0)
            return -1;
        if (message && was_deleted && !(message->flags & FLAG_DELETED))
            return 0; /* somebody wants it after all */
    }
    return 0;
}

/* ---- adding ---- */

/* A name that no message had (maildir(5)): time, microseconds and process, a random part, the host. */
static void
unique_name(char *name, size_t size)
{
    struct timespec now;
    char host[65] = "localhost", random[17];
    clock_gettime(CLOCK_REALTIME, &now);
    if (gethostname(host, sizeof(host) - 1) < 0)
        snprintf(host, sizeof(host), "localhost");
    for (char *at = host; *at; at++)
        if (*at == '/' || *at == ':' || *at == ',')
            *at = '_';
    file_random_hex(random, 16);
    snprintf(name, size, "%lld.M%06ldP%dR%s.%s", (long long)now.tv_sec, now.tv_nsec / 1000, (int)getpid(), random,
             host);
}

int
maildir_append_begin(struct folder *folder, struct folder_append *append, struct err *err)
{
    unique_name(append->name, sizeof(append->name));
    append->fd =
        openat(maildir_of(folder)->tmp_fd, append->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return append->fd < 0 ? err_errno(err, "create tmp/%s", append->name) : 0;
}

void
maildir_append_abort(struct folder *folder, struct folder_append *append)
{
    unlinkat(maildir_of(folder)->tmp_fd, append->name, 0);
}

int
folder_maildir_settle(struct folder *folder, struct err *err)
{
    if (fsync(maildir_of(folder)->cur_fd) < 0)
        return err_errno(err, "sync %s", folder->path);
    maildir_of(folder)->is_settled = false;
    return 0;
}

uint32_t
maildir_uid_of(const struct folder *folder, const char *name)
{
    const struct folder_message *message = map_get_text(maildir_of(folder)->by_name, name);
    return message ? message->uid : 0;
}

int
maildir_append_finish(struct folder *folder, struct folder_append *append, unsigned flags, uint32_t keywords,
                      time_t arrived, struct arena *arena, const char **given, struct err *err)
{
    char base[NAME_SIZE], name[NAME_SIZE];
    struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = arrived}};

    snprintf(base, sizeof(base), "%s,S=%llu,W=%llu", append->name, (unsigned long long)append->size,
             (unsigned long long)append->wire_size);
    maildir_format_name(slice_from(base), flags, keywords, name, sizeof(name));
    if ((arrived && futimens(append->fd, times) < 0) || fsync(append->fd) < 0)
        goto failed;
    close(append->fd);
    append->fd = -1;
    if (renameat(maildir_of(folder)->tmp_fd, append->name, maildir_of(folder)->cur_fd, name) < 0) {
        err_errno(err, "put %s in its place", name);
        unlinkat(maildir_of(folder)->tmp_fd, append->name, 0);
        return -1;
    }
    *given = arena_strdup(arena, base);
    return 0;
failed:
    err_errno(err, "write tmp/%s", append->name);
    folder_append_abort(folder, append);
    return -1;
}

/* Its flags may be others by now. */
void
maildir_take_back(struct folder *folder, const char *name)
{
    int fd = openat(maildir_of(folder)->cur_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    size_t len = strlen(name);
    struct dirent *entry;
    if (!dir && fd >= 0)
        close(fd);
    while (dir && (entry = readdir(dir)))
        if (strncmp(entry->d_name, name, len) == 0 && (entry->d_name[len] == ':' || entry->d_name[len] == '\0') &&
            unlinkat(maildir_of(folder)->cur_fd, entry->d_name, 0) < 0)
            log_warning("%s/cur/%s stays, though it was refused: %m", folder->path, entry->d_name);
    if (dir)
        closedir(dir);
    maildir_of(folder)->is_settled = false;
}

/* ",S=1,W=2" as far as it is known. */
static void
copy_name(struct folder *from, const struct folder_message *message, char *base, size_t size)
{
    char unique[128];
    struct stat st;
    unique_name(unique, sizeof(unique));
    if (fstatat(maildir_dir_fd(from, message), message->file, &st, AT_SYMLINK_NOFOLLOW) < 0)
        snprintf(base, size, "%s", unique);
    else if (message->wire_size)
        snprintf(base, size, "%s,S=%lld,W=%llu", unique, (long long)st.st_size, (unsigned long long)message->wire_size);
    else
        snprintf(base, size, "%s,S=%lld", unique, (long long)st.st_size);
}

int
maildir_link(struct folder *from, struct folder_message *message, struct folder *to, unsigned flags, uint32_t keywords,
             bool move, struct arena *arena, const char **given)
{
    char base[NAME_SIZE], name[NAME_SIZE];
    if (!maildir_has_name(from, message))
        return 1;
    int dir = maildir_dir_fd(from, message), target = maildir_of(to)->cur_fd;

    copy_name(from, message, base, sizeof(base));
    maildir_format_name(slice_from(base), flags, keywords, name, sizeof(name));
    if ((move ? renameat(dir, message->file, target, name) : linkat(dir, message->file, target, name, 0)) < 0)
        return 1;
    *given = arena_strdup(arena, base);
    return 0;
}
