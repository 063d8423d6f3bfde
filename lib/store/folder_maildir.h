/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/folder_maildir.h: what the files share that make up an open Maildir folder: folder_maildir.c the look at the
 * directories and the UIDs, folder_maildir_message.c what is done with one message, folder_maildir_keywords.c names of keywords,
 * folder_maildir_index.c a folder that need not be looked through. */
#ifndef LIB_STORE_FOLDER_MAILDIR_H
#define LIB_STORE_FOLDER_MAILDIR_H

#include <time.h>

#include "lib/store/folder_private.h"
#include "lib/store/uidlist.h"

struct maildir {
    struct folder folder;
    int fd, cur_fd, new_fd, tmp_fd;
    struct map *by_name; /* base name to folder_message */
    struct uidlist
        list; /* as it was read or written last; before is_list_read only what its first line says, and its stamp */
    struct arena *list_arena;
    struct map *list_by_name;
    bool is_list_read; /* then all messages have their names */
    bool is_scanned, is_settled;
    bool may_have_new; /* false: no message lies in new */
    bool is_list_unsure; /* a write of it failed: what lies on the disk may be the old one or the new one */
    struct index_stamp cur_stamp, new_stamp;
};

struct maildir_message {
    struct folder_message message;
    struct slice extra; /* of the UID list */
};

static inline struct maildir *
maildir_of(const struct folder *folder)
{
    return (struct maildir *)(uintptr_t)folder;
}

void maildir_parse_name(const char *file, unsigned *flags, uint32_t *keywords);
void maildir_format_name(struct slice base, unsigned flags, uint32_t keywords, char *out, size_t size);
int maildir_dir_fd(const struct folder *, const struct folder_message *);
/* Also in the map of names. */
void maildir_renamed(struct folder *, struct folder_message *, const char *file, bool is_new);
void maildir_forget_all(struct folder *); /* all messages leave the list, to be found anew */

/* A message's file is known only from here on. False: nobody knows it without a look through the folder. */
bool maildir_has_name(struct folder *, struct folder_message *) MUST_USE;
void maildir_name_all(struct folder *); /* before it is looked through */
const char *maildir_file(struct folder *, struct folder_message *);

void maildir_stamp(int dir_fd, struct index_stamp *);
bool maildir_same_stamp(const struct index_stamp *, const struct index_stamp *);
bool maildir_is_settled(const struct index_stamp *, struct timespec now);

/* The first look. False: the index can't be used for it. */
bool maildir_open_from_index(struct folder *, const struct index_stamp *cur, const struct index_stamp *new);
bool maildir_snapshot(const struct folder *, struct index_snapshot *);
void maildir_index_name(const struct folder *, const struct folder_message *, struct index_name *);

int maildir_sync_anew(struct folder *, struct err *) MUST_USE; /* folder_sync() that looks in any case */

int maildir_keywords_read(struct folder *, struct err *) MUST_USE;
int maildir_add_keyword(struct folder *, struct slice name, struct err *);

int maildir_set_flags(struct folder *, struct folder_message *, unsigned flags, uint32_t keywords, bool *gone,
                      struct err *);
int maildir_expunge(struct folder *, struct folder_message *, struct err *);
int maildir_read(struct folder *, struct folder_message *, struct folder_content *, struct err *);
time_t maildir_time(struct folder *, struct folder_message *);
int maildir_append_begin(struct folder *, struct folder_append *, struct err *);
void maildir_append_abort(struct folder *, struct folder_append *);
int maildir_append_finish(struct folder *, struct folder_append *, unsigned flags, uint32_t keywords, time_t arrived,
                          struct arena *, const char **name, struct err *);
int folder_maildir_settle(struct folder *, struct err *);
uint32_t maildir_uid_of(const struct folder *, const char *name);
void maildir_take_back(struct folder *, const char *name);
int maildir_link(struct folder *from, struct folder_message *, struct folder *to, unsigned flags, uint32_t keywords,
                 bool move, struct arena *, const char **name);

#endif
