/* SPDX-License-Identifier: Apache-2.0 */
/* A Maildir folder opened from the user's index: while neither its directories nor its list of UIDs changed since the index took them
 * in, its messages are those of the index, and nobody looks through anything. The names of their files come from there too, those of a
 * run of messages at a time, when a file is wanted; all of them before the folder is looked through after all. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/check.h"
#include "lib/base/map.h"
#include "lib/store/folder_maildir.h"

/* ---- stamps ---- */

#define NANOSECONDS INT64_C(1000000000)

void
maildir_stamp(int dir_fd, struct index_stamp *stamp)
{
    struct stat st;
    *stamp = (struct index_stamp){0};
    if (fstat(dir_fd, &st) == 0)
        *stamp = (struct index_stamp){.inode = (int64_t)st.st_ino,
                                      .first = st.st_mtim.tv_sec * NANOSECONDS + st.st_mtim.tv_nsec,
                                      .second = st.st_ctim.tv_sec * NANOSECONDS + st.st_ctim.tv_nsec};
}

bool
maildir_same_stamp(const struct index_stamp *a, const struct index_stamp *b)
{
    return a->inode == b->inode && a->first == b->first && a->second == b->second;
}

/* What changed within the clock's grain of our look may have changed after it too; file systems that know whole seconds have whole
 * ones in their stamps. */
bool
maildir_is_settled(const struct index_stamp *stamp, struct timespec now)
{
    int64_t age = now.tv_sec * NANOSECONDS + now.tv_nsec - stamp->second;
    return stamp->inode != 0 && age > (stamp->second % NANOSECONDS == 0 ? 2 * NANOSECONDS : NANOSECONDS / 50);
}

static void
list_stamp(const struct uidlist *list, struct index_stamp *stamp)
{
    *stamp = (struct index_stamp){.inode = list->stamp[0], .first = list->stamp[1], .second = list->stamp[2]};
}

bool
maildir_snapshot(const struct folder *folder, struct index_snapshot *snapshot)
{
    const struct maildir *m = maildir_of(folder);
    if (!m->is_scanned || !m->is_settled || m->is_list_unsure || m->list.stamp[0] == 0)
        return false;
    *snapshot = (struct index_snapshot){
        .cur = m->cur_stamp, .new = m->new_stamp, .next_uid = folder->next_uid, .count = (uint32_t)folder->count};
    list_stamp(&m->list, &snapshot->list);
    return true;
}

/* ---- messages ---- */

static void
take_messages(struct folder *folder, const struct index_message *known, size_t count)
{
    folder_reserve(folder, count);
    folder->change++;
    for (size_t i = 0; i < count; i++) {
        struct folder_message *message = folder_message_of_block(folder, i);
        message->uid = known[i].uid;
        message->flags = known[i].flags & ~(unsigned)INDEX_IS_NEW;
        message->is_new = known[i].flags & INDEX_IS_NEW;
        maildir_of(folder)->may_have_new |= message->is_new;
        message->keywords = known[i].keywords;
        message->change = folder->change;
        message->wire_size = known[i].size;
        message->arrived = known[i].arrived;
        message->modseq = known[i].modseq;
        message->saved = known[i].saved;
        ((struct maildir_message *)message)->extra = slice_make("", 0);
        folder->messages[i] = message;
    }
    folder->count = count;
}

bool
maildir_open_from_index(struct folder *folder, const struct index_stamp *cur, const struct index_stamp *new)
{
    struct maildir *m = maildir_of(folder);
    struct index_snapshot snapshot = {.cur = *cur, .new = *new};
    struct index_message *known;
    size_t count;
    if (m->is_list_unsure || folder->uid_validity == 0 || folder->count > 0 || uidlist_is_stale(m->fd, &m->list))
        return false;
    list_stamp(&m->list, &snapshot.list);
    if (!folder_index_take(folder, &snapshot, &known, &count))
        return false;
    take_messages(folder, known, count);
    free(known);
    folder->next_uid = snapshot.next_uid;
    m->cur_stamp = *cur;
    m->new_stamp = *new;
    m->is_scanned = m->is_settled = true;
    return true;
}

/* ---- names ---- */

/* A name that we would write for these flags ourselves need not be kept with them. */
void
maildir_index_name(const struct folder *folder, const struct folder_message *message, struct index_name *name)
{
    char ours[512];
    (void)folder;
    *name = (struct index_name){.kind = INDEX_NAME_NONE};
    if (!message->file || message->name.len + 80 > sizeof(ours))
        return;
    *name = (struct index_name){message->is_new ? INDEX_NAME_NEW : INDEX_NAME_CUR, slice_from(message->file)};
    maildir_format_name(message->name, message->flags, message->keywords, ours, sizeof(ours));
    if (!message->is_new && strcmp(ours, message->file) == 0)
        *name = (struct index_name){INDEX_NAME_BASE, message->name};
}

static void
take_name(void *ctx, uint32_t uid, const struct index_name *name)
{
    struct folder *folder = ctx;
    struct folder_message *message = folder_find(folder, uid);
    char file[512];
    if (!message || message->file || name->text.len + 80 > sizeof(file))
        return;
    if (name->kind == INDEX_NAME_BASE)
        maildir_format_name(name->text, message->flags, message->keywords, file, sizeof(file));
    message->file = strndup(name->kind == INDEX_NAME_BASE ? file : name->text.ptr,
                            name->kind == INDEX_NAME_BASE ? sizeof(file) : name->text.len);
    if (!message->file)
        fatal("out of memory");
    message->is_new = name->kind == INDEX_NAME_NEW;
    maildir_of(folder)->may_have_new |= message->is_new;
    message->name = uidlist_base_name(slice_from(message->file));
    map_put(maildir_of(folder)->by_name, message->name, message);
}

bool
maildir_has_name(struct folder *folder, struct folder_message *message)
{
    if (!message->file)
        (void)folder_index_names(folder, message->uid, take_name, folder);
    return message->file != NULL;
}

const char *
maildir_file(struct folder *folder, struct folder_message *message)
{
    return maildir_has_name(folder, message) ? message->file : "";
}

/* If the index can't tell (it was found damaged), the folder begins anew. */
void
maildir_name_all(struct folder *folder)
{
    for (size_t i = 0; i < folder->count; i++)
        if (!maildir_has_name(folder, folder->messages[i])) {
            maildir_forget_all(folder);
            folder->is_index_loaded = false;
            maildir_of(folder)->is_scanned = false;
            return;
        }
}
