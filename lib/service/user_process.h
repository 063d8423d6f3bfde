/* SPDX-License-Identifier: Apache-2.0 */
/* lib/service/user_process.h: a process for each user who has logged in: it serves all sessions of that user, as that user.
 *
 * Two sides of one program. The starter is a service of master.cf that runs as root; it takes sessions from a front
 * (msg_session with the connection's descriptor and the ticket that auth signed), believes the ticket alone, and hands the
 * session to the user's process, which it starts where there is none: by a spawner that was forked when it knew nothing yet
 * (user_spawner.c). The user's process gives up root for good, keeps the user's mail of all files (Landlock), and serves; it ends some
 * seconds after its last session. Between the two is a socket of whole packets: one for each session, and a byte for the end.
 *
 * A session that waits for its client can be parked: its process gives the connection back with a short state, and ends if
 * that was the last. The starter keeps both, and watches directories that the process had open. When the client says
 * something, or something changes in a directory, or the session has idled for too long, a process of the user, started anew if need
 * be, goes on with it. With TLS the connection is one to the front, which relays, and knows nothing of all this.
 *
 * Of new messages the client can be told without a process: how many there are follows from how many it knew and how many files
 * came into the directory of new ones. Whoever goes on with the session learns what its client was told, and has to keep to it.
 *
 * The starter parses nothing but the ticket and what our own front sends. Where the mail system runs as an ordinary user, only
 * that user's tickets are good. */
#ifndef LIB_SERVICE_USER_PROCESS_H
#define LIB_SERVICE_USER_PROCESS_H

#include <stdbool.h>

#include "lib/mail/messages.h"
#include "lib/run/net.h"
#include "lib/service/service.h"

/* What the client of a session was told while that was parked. */
struct user_told {
    uint32_t messages; /* new ones, beyond those that it knew */
    uint32_t bytes;    /* of the texts that said so */
};
enum { USER_NEWS_LIMIT = 100 };

/* What a program of this kind is made of. */
struct user_program {
    const char *program;  /* "imap-session" */
    const char *protocol; /* the ticket's service: "imap" */

    /* Settings. Before any process of a user is forked, so that all have them. */
    int (*prepare)(const struct conf *, struct err *);
    /* In the sandbox, in a task: open the user's mail. */
    int (*start)(struct err *);
    /* A session, as a task; owns fd. The message and its texts stay until it returns. input: bytes that the client sent
     * already. */
    void (*serve)(int fd, const struct msg_session *, struct slice input);
    /* The same for a session that was parked, with its state; the message has the tag that it was parked with. NULL: there are
     * none. */
    void (*resume)(int fd, const struct msg_session *, struct slice state, struct user_told);
    /* In the starter: the text that tells a client of a parked session that there are so many messages now, so many of them recent.
     * Gives its length. NULL: changes wake the session. */
    size_t (*news)(uint32_t messages, uint32_t recent, char text[USER_NEWS_LIMIT]);
    /* The system stops: tell the sessions. */
    void (*stop)(void);
    /* The last session has ended, and no more will come: what is open is closed in good order. NULL: nothing. */
    void (*end)(void);
    /* What a parked session is told when it idled for too long, and when the system stops. */
    const char *idle_text, *stop_text;
};

/* The user's process: who it is for. NULL texts in the starter. */
struct user_identity {
    const char *user, *home, *mail;
    uid_t uid;
    gid_t gid;
};
const struct user_identity *user_identity(void);

/* Parks a session; the descriptors stay the caller's, who closes them. -1: it can't be: go on serving it. */
enum { USER_WATCHES = 2, USER_WATCH_NEW = 1, USER_STATE_LIMIT = 64 << 10 };
struct user_parking {
    int fd;                        /* the connection, of which nothing is buffered here */
    usec_t due;                    /* loop_now() time at which it has idled for too long */
    int watches[USER_WATCHES];     /* directories (or files), open for reading: a change in one wakes the session */
    int64_t changed[USER_WATCHES]; /* when each changed last, as the session knows it: nanoseconds since 1970 */
    unsigned watch_count;
    bool
        tells_new; /* a file that comes into watches[USER_WATCH_NEW] is a new message, which the client can be told of meanwhile */
    uint32_t known, recent; /* then: messages that it knows, and how many of them are recent */
    bool new_is_recent;
    struct slice state; /* at most USER_STATE_LIMIT */
};
int may_wait user_process_park(const struct user_parking *, const struct msg_session *, struct err *) MUST_USE;

/* What main() of such a program calls and returns. */
int user_process_main(int argc, char **argv, const struct user_program *);

#endif
