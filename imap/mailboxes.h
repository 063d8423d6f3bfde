/* SPDX-License-Identifier: Apache-2.0 */
/* imap/mailboxes.h: the user's mailboxes as names: Maildir++ (the Maildir itself is INBOX, "A.B" is the directory ".A.B" in it), or
 * mboxes (INBOX where mail is delivered, the others files in a directory of their own, "A.B" the file "A.B"); their list, subscriptions, and the folders that are open in this process.
 *
 * Names are UTF-8 here; on the wire and on the disk they are modified UTF-7. The hierarchy's separator is ".". */
#ifndef IMAP_MAILBOXES_H
#define IMAP_MAILBOXES_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/run/task.h"
#include "lib/store/folder.h"

enum { MAILBOX_NAME_LIMIT = 200, MAILBOX_DEPTH = 20, MAILBOX_SEPARATOR = '.' };

struct mailboxes;

/* mail: "maildir:/path" or "mbox:/path". Makes the Maildir if it is missing. others: the directory of other mboxes than INBOX. */
struct mailboxes *mailboxes_open(const char *mail, const char *others, struct err *) MUST_USE;

/* When no mailbox is open any more, and the process is about to end. */
void mailboxes_close(struct mailboxes **);

/* A folder that some session has selected, or works on. */
struct open_mailbox {
    struct open_mailbox *next;
    char *name;
    struct folder *folder;
    unsigned users;           /* sessions */
    struct task_cond changed; /* woken when something in it changed: for IDLE */
    uint64_t changes;         /* how often: who was at work then must not wait for the next */
    int watch;                /* of inotify; -1: not watched */
    int watch_new;
};

/* Is this a name that a mailbox can have? INBOX in any case becomes "INBOX". *name: in the arena. ERR_SYNTAX. */
int mailbox_name(struct arena *, struct slice wire, bool utf8, const char **name, struct err *) MUST_USE;
/* The name as it goes over the wire. */
void mailbox_put_name(struct buf *, const char *name, bool utf8);

/* The user's full-text index, opened when it is first asked for. It may fail whenever it is used; NULL: there is none for now. Good until
 * the caller waits: one that failed is freed when somebody asks again. */
struct fulltext *mailboxes_fulltext(struct mailboxes *);

int mailboxes_fd(const struct mailboxes *); /* of the Maildir */

bool mailbox_exists(struct mailboxes *, const char *name);
/* *err of kind ERR_PERM and "no such mailbox" if it does not exist. */
struct open_mailbox *mailbox_open(struct mailboxes *, const char *name, struct err *) MUST_USE;
void mailbox_close(struct mailboxes *, struct open_mailbox *);

int mailbox_create(struct mailboxes *, const char *name, struct err *) MUST_USE;
int mailbox_delete(struct mailboxes *, const char *name, struct err *) MUST_USE;
int mailbox_rename(struct mailboxes *, const char *from, const char *to, struct err *) MUST_USE;

/* All names, sorted, INBOX first; in the arena. */
int mailbox_list(struct mailboxes *, struct arena *, const char ***names, size_t *count, struct err *) MUST_USE;
bool mailbox_has_children(const char *const *names, size_t count, const char *name);

int mailbox_subscriptions(struct mailboxes *, struct arena *, const char ***names, size_t *count,
                          struct err *) MUST_USE;
int mailbox_subscribe(struct mailboxes *, const char *name, bool on, struct err *) MUST_USE;

/* "\\Sent", "\\Trash"...; NULL: none (RFC 6154), by the names that clients and Dovecot use. */
const char *mailbox_special_use(const char *name);

/* Something in it changed. */
void mailbox_changed(struct open_mailbox *);

/* Starts to watch the folder on the disk (inotify): mailbox_changed(). Without inotify nobody tells. */
void mailbox_watch(struct mailboxes *, struct open_mailbox *);

#endif
