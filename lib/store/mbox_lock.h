/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/mbox_lock.h: one try at the locks of an open mailbox (mbox.h tells the rules). */
#ifndef LIB_STORE_MBOX_LOCK_H
#define LIB_STORE_MBOX_LOCK_H

#include "lib/store/mbox.h"

/* 1: all are held (mbox->held). 0: somebody else has one (fault says which); none is held. -1: fault. */
int mbox_lock_try(struct mbox *, unsigned kinds, bool shared, bool dotlock_may_fail, usec_t stale,
                  struct store_fault *) MUST_USE;
void mbox_unlock(struct mbox *);

#endif
