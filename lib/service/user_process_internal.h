/* SPDX-License-Identifier: Apache-2.0 */
/* lib/service/user_process_internal.h: what the files of user_process share.
 *
 * The starter and a user's process are joined by a socket of whole packets, each a letter, its message, and bytes:
 *   S msg_session, input of the client   starter: a new session, with its connection
 *   R user_told, msg_session, state      starter: a session that was parked, with its connection
 *   N user_told, msg_session, state      the same, and none of this process can be parked
 *   T                                    starter: the system stops
 *   P msg_parked, msg_session, state     user's process: keep this session, with its connection and the directories
 * The end of either direction says that nothing more will come that way. */
#ifndef LIB_SERVICE_USER_PROCESS_INTERNAL_H
#define LIB_SERVICE_USER_PROCESS_INTERNAL_H

#include "lib/mail/auth_ticket.h"
#include "lib/service/user_process.h"

enum {
    USER_PACKET_LIMIT = 96 << 10,
    USER_PACKET_FDS = 1 + USER_WATCHES,
};

#define USER_SEND_TIME SECONDS(5)

struct user_packet {
    char kind;
    struct slice bytes; /* behind the letter */
    int fds[USER_PACKET_FDS];
    unsigned fd_count;
};

extern const struct user_program *user_program;
extern const unsigned user_process_calls; /* system calls of a user's process: lib/run/sandbox.h */

/* Waits while the other side's buffer is full, for USER_SEND_TIME at most. kind and bytes are one packet. */
int may_wait user_packet_send(int channel, struct slice packet, const int *fds, unsigned fd_count,
                              struct err *) MUST_USE;

/* Reads one into room, which has USER_PACKET_LIMIT bytes, waiting if the channel is a blocking one; the descriptors are the
 * caller's. 0: there is none now; 1: read; -1: the other side has closed its end, or sends what makes no sense. */
int user_packet_read(int channel, char *room, struct user_packet *) MUST_USE;
void user_packet_close_fds(struct user_packet *);

/* ---- user_spawner.c ---- */

/* In prepare(), before anything that is not for everybody is read. True: this is a user's process, with its own loop, still with
 * the privileges of the start; *who and its end of the channel are filled. */
bool user_spawner_start(struct user_identity *who, int *channel);
/* channel: the user's process's end, which stays the caller's. */
int may_wait user_spawner_ask(const struct auth_ticket *, int channel, struct err *) MUST_USE;

/* ---- user_starter.c ---- */

/* What of a ticket says whom a process is for: user, ids, home, mail; with texts of its own. */
struct auth_ticket user_whom_copy(const struct auth_ticket *);
void user_whom_release(struct auth_ticket *);

/* Sends a packet with a connection, which stays the caller's, to the process of this user, which is started where there is none.
 * Of the ticket the user, the ids, home and mail count. for_change: see user_starter_woken(). */
int may_wait user_starter_send(const struct auth_ticket *, struct slice packet, int fd, bool for_change,
                               struct err *) MUST_USE;

/* Of the service: in a user's process there is nothing to serve and to drain. */
int user_starter_prepare(const struct conf *, struct sandbox *, struct err *) MUST_USE;
void user_starter_serve(int fd, const struct net_addr *, unsigned socket);
void may_wait user_starter_drain(void);

unsigned user_starter_children(void);
unsigned user_starter_woken(void); /* of them those that were started for a change in a mailbox */

/* ---- user_parking.c: sessions that idle ---- */

void user_parking_start(void);

/* A P packet from this user's process; takes its descriptors. false: it makes no sense. */
bool user_parking_add(const struct auth_ticket *who, struct user_packet *);

/* How many of this user's sessions are parked; and of all. */
unsigned user_parking_count(const char *user);

/* A user's process has ended. */
void user_parking_process_ended(void);

/* Waits until none is left, or the system stops: then they are told, and end. */
void may_wait user_parking_drain(void);

#endif
