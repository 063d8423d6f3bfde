/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/quota.h"

#include <string.h>

#include "lib/base/log.h"

static bool
counts(const char *mailbox)
{
    return strcmp(mailbox, "Trash") != 0;
}

int
quota_load(struct mailboxes *m, struct maildir_quota *quota, bool *present, struct err *err)
{
    struct store_fault fault;
    *quota = (struct maildir_quota){0};
    if (maildir_quota_load(mailboxes_fd(m), quota, present, true, &fault) < 0)
        return err_set(err, ERR_IO, "%s", fault.text);
    return 0;
}

static bool
fits_in(int64_t limit, int64_t used, uint64_t more)
{
    return limit == 0 || (used <= limit && more <= (uint64_t)(limit - used));
}

int
quota_has_room(struct mailboxes *m, const char *mailbox, uint64_t bytes, uint64_t count, bool *fits, struct err *err)
{
    struct maildir_quota quota;
    bool present;
    *fits = true;
    if (!counts(mailbox))
        return 0;
    if (quota_load(m, &quota, &present, err) < 0)
        return -1;
    if (present)
        *fits = fits_in(quota.bytes_limit, quota.bytes, bytes) && fits_in(quota.count_limit, quota.count, count);
    return 0;
}

void
quota_note(struct mailboxes *m, const char *mailbox, int64_t bytes, int64_t count)
{
    struct store_fault fault;
    if (count != 0 && counts(mailbox) && maildir_quota_add(mailboxes_fd(m), bytes, count, &fault) < 0)
        log_warning("%s", fault.text);
}

int64_t
quota_size(struct folder *folder, struct folder_message *message)
{
    int64_t size = maildir_name_size(folder_message_file(folder, message));
    return size >= 0 ? size : (int64_t)message->wire_size;
}
