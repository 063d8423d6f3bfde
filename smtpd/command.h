/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd/command.h: the table of commands that commands.def fills. */
#ifndef SMTPD_COMMAND_H
#define SMTPD_COMMAND_H

#include "lib/base/compiler.h"
#include "lib/base/slice.h"
#include "lib/smtp/reply.h"

struct session;

/* Where a session stands; a command says in which of these it is legal. */
enum {
    IN_NOTHING = 1, /* no transaction */
    IN_MAIL = 2,    /* a sender, no recipient */
    IN_RCPT = 4,    /* at least one recipient */
    IN_BDAT = 8,    /* chunks of a content have come */
    ANYWHERE = 15,
};

/* Flags. */
enum {
    CMD_PRE_TLS = 1, /* may be given before STARTTLS where TLS is a must */
    CMD_LAST = 2,    /* nothing may be pipelined behind it (RFC 2920 section 3.1) */
    CMD_JUNK = 4,    /* does not bring mail forward: too many are errors */
    CMD_NO_ARGS = 8, /* takes no arguments */
    CMD_BYTES = 16,  /* what follows it is no command */
};

struct command {
    const char *verb;
    const char *counter; /* its name in "disconnect from ... ehlo=1" */
    struct smtp_reply (*handler)(struct session *, struct slice args);
    unsigned states, flags;
    const char *syntax;
    const char *misplaced; /* the reply's text where it is not legal; empty if it is legal anywhere */
};

enum {
#define CMD(verb, counter, handler, states, flags, syntax, misplaced) COMMAND_##verb,
#include "smtpd/commands.def"
#undef CMD
    COMMAND_COUNT,
};

extern const struct command commands[COMMAND_COUNT];

/* NULL: there is no such command. */
const struct command *command_find(struct slice verb);

/* Handlers, one in each cmd_*.c. args are the rest of the line, and stay until the handler reads more input. */
#define CMD(verb, counter, handler, states, flags, syntax, misplaced) \
    struct smtp_reply may_wait handler(struct session *, struct slice args);
#include "smtpd/commands.def"
#undef CMD

#endif
