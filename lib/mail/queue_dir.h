/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/queue_dir.h: the queue's directories: where a file lies, moving one, and going through all. Names and
 * hashing as Postfix has them (hash_queue_names, hash_queue_depth). All paths are relative to an open directory, the queue's.
 * All calls block for the disk. They are safe in threads of the pool. */
#ifndef LIB_MAIL_QUEUE_DIR_H
#define LIB_MAIL_QUEUE_DIR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"

struct conf;

/* Set up once; then only read. */
struct queue_dir {
    int fd;                   /* of the queue directory */
    const char *hashed_names; /* hash_queue_names */
    unsigned depth;           /* hash_queue_depth */
};

/* Opens path (AT_FDCWD and "." in a daemon) with the hashing that conf asks for; texts live in the arena. */
int queue_dir_open(struct queue_dir *, const char *path, const struct conf *, struct arena *, struct err *) MUST_USE;

bool queue_dir_is_hashed(const struct queue_dir *, const char *queue);

/* "deferred/4/4F1A2100001" */
char *queue_dir_path(const struct queue_dir *, struct arena *, const char *queue, const char *id);

/* Renames; makes hash directories that are missing. to_id NULL: the same. *found (may be NULL) gets false, with result
 * 0, if there is no such file. Not synced. */
int queue_dir_move(const struct queue_dir *, const char *from, const char *to, const char *id, const char *to_id,
                   bool *found, struct err *) MUST_USE;

/* Removes a file of the id, if there is one. */
int queue_dir_remove(const struct queue_dir *, const char *queue, const char *id, bool *found, struct err *) MUST_USE;

/* Makes the directories above path, below the queue directory. */
int queue_dir_make_parents(const struct queue_dir *, const char *path, struct err *) MUST_USE;

/* Goes through the files of a queue, subdirectories with names of one character included. Files that come or go
 * meanwhile may be seen or not. Names that are no queue ids are passed over. */
struct queue_walk;
struct queue_walk *queue_walk_new(const struct queue_dir *, const char *queue);
void queue_walk_free(struct queue_walk **);

/* The next id: 1; 0 at the end; -1: a directory can't be read (the walk goes on behind it with the next call). The id
 * stays valid until the next call. in_place: it lies where the hashing says. */
int queue_walk_next(struct queue_walk *, const char **id, bool *in_place, struct err *) MUST_USE;

/* The path of the file that was shown last, wherever it lies. */
char *queue_walk_path(const struct queue_walk *, struct arena *, const char *id);

/* Show files with any name but those that begin with a dot, too. */
void queue_walk_show_all(struct queue_walk *);

/* The queues that messages may be in, ended by NULL, in the order in which a message passes through them. */
extern const char *const queue_dir_all[];

#endif
