/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr/control.h: what others ask of qmgr on public/qmgr: cleanup announces messages, commands ask for the list of what is
 * in the journal or to have files made of it, and anybody may send trigger bytes. */
#ifndef QMGR_CONTROL_H
#define QMGR_CONTROL_H

#include "lib/run/net.h"

/* journal_fd: the directory journal/. */
void control_init(int journal_fd);

/* service.serve */
void control_serve(int fd, const struct net_addr *peer, unsigned socket);

#endif
