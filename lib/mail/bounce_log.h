/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/bounce_log.h: the logs in defer/ and bounce/ that tell why recipients of a message were not reached; named by
 * its queue id, in Postfix's format (queue_file(5)). defer/ID holds the last attempt only. */
#ifndef LIB_MAIL_BOUNCE_LOG_H
#define LIB_MAIL_BOUNCE_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

/* Texts are never NULL. recipient and original are raw addresses; "" is the null address. */
struct bounce_log_entry {
    const char *recipient, *original; /* original: "" if it is not known */
    int64_t offset;                   /* of the R record; 0: not known */
    const char *dsn_original;         /* "rfc822;user@example.com" */
    int64_t notify;
    const char *status, *action;       /* "4.4.1", "delayed" */
    const char *diag_type, *diag_text; /* "smtp", the reply */
    const char *mta_type, *mta_name;   /* "dns", the host */
    const char *reason;
};

/* Appends the entry's text. with_old_form: a line "<rcpt>: reason" stands first (backwards_bounce_logfile_compatibility). */
void bounce_log_format(const struct bounce_log_entry *, bool with_old_form, struct buf *out);

/* All entries of a log; texts are copied to the arena. Malformed lines and names that are not known are passed over;
 * an entry without a recipient is left out. What lacks gets `status` and `action` ("4.0.0", "delayed"). */
struct bounce_log_entry *bounce_log_parse(struct arena *, struct slice text, const char *status, const char *action,
                                          size_t *count);

/* Writes the log anew, durably, in place of one that is there. path is relative to dir_fd; directories are not made. Blocks. */
int bounce_log_write(int dir_fd, const char *path, const struct bounce_log_entry *, size_t count, bool with_old_form,
                     struct err *) MUST_USE;

/* The same, behind what is there. */
int bounce_log_append(int dir_fd, const char *path, const struct bounce_log_entry *, size_t count, bool with_old_form,
                      struct err *) MUST_USE;

/* Reads the log at path: no such file is an empty log. Blocks. */
int bounce_log_read(int dir_fd, const char *path, struct arena *, const char *status, const char *action,
                    struct bounce_log_entry **, size_t *count, struct err *) MUST_USE;

#endif
