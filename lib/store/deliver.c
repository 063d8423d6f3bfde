/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/deliver.h"

#include <string.h>
#include <unistd.h>

static int
begin_mbox(struct store_letter *s, const struct store_target *target, struct letter *letter, struct store_fault *fault)
{
    unsigned options = MBOX_CREATE | (target->devices ? MBOX_DEVICES : 0u) |
                       (target->dotlock_may_fail ? MBOX_DOTLOCK_TRY : 0u) |
                       (target->leave_marked ? MBOX_LEAVE_MARKED : 0u);
    int result;

    if (mbox_open(&s->mbox, target->path, options, &target->locking, fault) < 0)
        return -1;
    if (target->strict_owner && S_ISREG(s->mbox.file.st.st_mode) && s->mbox.file.st.st_uid != geteuid())
        result = fault_set(fault, "4.2.0", "destination %s is not owned by recipient", target->path);
    else
        result = mbox_write(&s->mbox, letter, LETTER_MBOX, target->limit, &s->position, fault);
    if (result < 0)
        mbox_close(&s->mbox);
    return result;
}

int
store_begin(struct store_letter *s, const struct store_target *target, struct letter *letter, struct store_fault *fault)
{
    size_t len = strlen(target->path);
    int result;

    *s = (struct store_letter){.position = -1, .is_maildir = len > 0 && target->path[len - 1] == '/'};
    if (!s->is_maildir) {
        result = begin_mbox(s, target, letter, fault);
    } else {
        result = maildir_begin(&s->maildir, target->path, letter, target->maildir, target->limit, fault);
        if (result < 0)
            maildir_end(&s->maildir);
    }
    s->written = result == 0;
    return result;
}

int
store_publish(struct store_letter *s, bool synced, struct store_fault *fault)
{
    return s->is_maildir ? maildir_publish(&s->maildir, synced, fault) : 0;
}

int
store_settle(struct store_letter *s, bool synced, struct store_fault *fault)
{
    if (s->is_maildir)
        return maildir_settle(&s->maildir, synced, fault);
    int result = mbox_settle(&s->mbox, s->position, synced, fault);
    mbox_close(&s->mbox);
    s->written = false;
    return result;
}

/* An mbox that was written and not settled is closed with its mark: who comes next cuts it. */
void
store_end(struct store_letter *s)
{
    if (s->written && s->is_maildir)
        maildir_end(&s->maildir);
    else if (s->written)
        mbox_close(&s->mbox);
    s->written = false;
}

int
store_descriptor(const struct store_letter *s)
{
    return s->is_maildir ? s->maildir.fd : s->mbox.file.fd;
}

int
store_deliver(const struct store_target *target, struct letter *letter, off_t *position, struct store_fault *fault)
{
    struct store_letter s;
    int result = store_begin(&s, target, letter, fault);

    if (result == 0)
        result = store_publish(&s, false, fault);
    if (result == 0)
        result = store_settle(&s, false, fault);
    if (position)
        *position = s.position;
    store_end(&s);
    return result;
}
