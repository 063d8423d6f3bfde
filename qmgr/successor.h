/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/successor.h: the process that serves our socket after a reload, while we finish what we have in hand. */
#ifndef QMGR_SUCCESSOR_H
#define QMGR_SUCCESSOR_H

/* We have put something into incoming/ for it. Calls of the same moment are one. If we end before it is said, master says it. */
void successor_poke(void);

#endif
