/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/flush_note.h: what is deferred is told to flush(8), which lists it by destination. */
#ifndef QMGR_FLUSH_NOTE_H
#define QMGR_FLUSH_NOTE_H

#include "qmgr/message.h"

/* Names the message and the domains of its deferred recipients. Never waits; where there is no such service, or it does not keep
 * up, nobody is told: the message waits for its time as any other. Nothing is done if fast_flush_domains is empty. */
void flush_note(const struct message *);

#endif
