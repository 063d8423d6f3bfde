/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/folder_private.h: what is behind folder.h: folder.c is what all folders have in common (the list by UID, the
 * counter of changes, keywords, adding and copying); each kind of folder has its table of operations.
 *
 *   folder_maildir.c, folder_maildir_message.c, folder_maildir_keywords.c   Maildir
 *   folder_mbox.c and its kin                                               mbox */
#ifndef LIB_STORE_FOLDER_PRIVATE_H
#define LIB_STORE_FOLDER_PRIVATE_H

#include <sys/types.h>
#include <time.h>

#include "lib/store/folder.h"

struct folder_kind {
    /* The kind's own struct, with the struct folder at its start, zeroed. */
    size_t folder_size;
    /* The kind's own message, with the struct folder_message at its start, zeroed: folder_message_new(). */
    size_t message_size;

    int (*open)(struct folder *, bool create, struct err *); /* after -1 close is called too */
    void (*close)(struct folder *);                          /* the kind's own things */
    void (*release_message)(struct folder_message *);        /* the same of a message */
    void (*begin_uids)(struct folder *, uint32_t validity);  /* NULL: it takes them from its file */

    /* As folder.h says of folder_... */
    int (*fd)(const struct folder *);
    int (*sync)(struct folder *, struct err *);
    int (*take_new)(struct folder *, uint32_t *moved, struct err *);
    int (*set_flags)(struct folder *, struct folder_message *, unsigned flags, uint32_t keywords, bool *gone,
                     struct err *);
    int (*expunge)(struct folder *, struct folder_message *, struct err *);
    int (*read)(struct folder *, struct folder_message *, struct folder_content *, struct err *);
    time_t (*time)(struct folder *, struct folder_message *);
    int (*append_begin)(struct folder *, struct folder_append *, struct err *);
    void (*append_abort)(struct folder *, struct folder_append *); /* the descriptor is closed already */
    int (*append_finish)(struct folder *, struct folder_append *, unsigned flags, uint32_t keywords, time_t arrived,
                         struct arena *, const char **name, struct err *);
    void (*take_back)(struct folder *, const char *name);
    int (*settle)(struct folder *, struct err *);
    uint32_t (*uid_of)(const struct folder *, const char *name);

    /* A name that the folder has not, of a good length: its number. */
    int (*add_keyword)(struct folder *, struct slice name, struct err *);
    /* For the index; NULL: nothing of this kind. The name of a message's file, and how the folder was when it was looked through (false:
     * it may have changed since without a trace). */
    void (*index_name)(const struct folder *, const struct folder_message *, struct index_name *);
    bool (*snapshot)(const struct folder *, struct index_snapshot *);
    const char *(*file)(struct folder *, struct folder_message *); /* NULL: the message has it */
    /* For folder_identify(), of a file's name or (NULL: it goes by the name) of a message. */
    uint32_t (*identity)(const struct folder_message *);

    /* Between two folders of this kind, without copying bytes: 0 done, 1 it can't be done so. NULL: never. */
    int (*link)(struct folder *from, struct folder_message *, struct folder *to, unsigned flags, uint32_t keywords,
                bool move, struct arena *, const char **name);
};

extern const struct folder_kind folder_maildir, folder_mbox;

struct folder_uids {
    uint32_t *uids;
    size_t count, size;
};

struct folder {
    const struct folder_kind *kind;
    char *path;
    struct folder_message **messages; /* by UID */
    size_t count, size;
    uint64_t change;
    struct uid_list *uids; /* NULL: to be made anew when somebody asks */
    struct {
        uint64_t change; /* found as of this one */
        uint32_t uid;
    } unseen;
    uint32_t uid_validity, next_uid; /* 0: not known yet */
    char guid[33];
    bool sizes_counted; /* sizes were counted that the disk does not know */
    char *keywords[FOLDER_KEYWORDS];

    struct index *index; /* NULL: none; borrowed */
    struct index_key index_key;
    bool is_index_loaded;
    struct index_snapshot in_index; /* the snapshot that we wrote or took there; zeros: none */
    void *block;                    /* mmap()ed: messages with is_in_block */
    size_t block_size;
    bool flags_set;                   /* not settled yet */
    uint64_t highest_modseq;          /* 0: not known */
    struct folder_uids changed, gone; /* what the index has not yet */
};

/* Flags or keywords of it are others now. */
void folder_message_changed(struct folder *, struct folder_message *);

/* folder_index.c: what folder_index_follow() will bring into the index. Without an index they do nothing. changed: its flags,
 * or it is new; learned: its size or time. */
void folder_index_changed(struct folder *, struct folder_message *);
void folder_index_learned(struct folder *, const struct folder_message *);
void folder_index_gone(struct folder *, uint32_t uid);
void folder_index_follow(struct folder *);
void folder_index_release(struct folder *);

/* The messages of the index, malloc()ed, if it has a snapshot equal to this one but for its count and next_uid, which are filled in; the
 * folder goes on from them as if it had looked itself. */
bool folder_index_take(struct folder *, struct index_snapshot *, struct index_message **, size_t *count);
/* Names of files of messages round this one. False: the index can't tell. */
bool folder_index_names(struct folder *, uint32_t uid, index_take_name *take, void *ctx);

struct folder_message *folder_message_new(struct folder *, uint32_t uid);
void folder_reserve(struct folder *, size_t count); /* room for so many, all in one block, in an empty folder */
struct folder_message *folder_message_of_block(struct folder *, size_t number);
void folder_insert(struct folder *, struct folder_message *); /* at its place; counts as a change */

/* Takes out of the list what was not seen_now; leaving is called for each (may be NULL). */
void folder_clear_seen(struct folder *);
bool folder_is_any_unseen(const struct folder *);
void folder_drop_unseen(struct folder *, void (*leaving)(struct folder *, struct folder_message *));

int folder_find_keyword(const struct folder *, struct slice name); /* -1: the folder has not */
void folder_name_keyword(struct folder *, unsigned number, struct slice name);

/* The stamp of a file or directory, to see that it changed. One that is of the moment of the look proves nothing. */
bool folder_same_time(struct timespec, struct timespec);
bool folder_is_settled(struct timespec stamp, struct timespec now);

/* Reads so many bytes of an open file into memory (with room for one more); fewer if there are not so many. */
int folder_load(int fd, off_t from, size_t size, struct folder_content *, struct err *) MUST_USE;

#endif
