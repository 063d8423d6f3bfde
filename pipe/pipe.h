/* SPDX-License-Identifier: Apache-2.0 */
/* pipe/pipe.h: pipe(8): the delivery agent that gives mail to outside commands.
 *
 * The service's arguments in master.cf say what is run and as whom (attributes.c); a delivery's facts go into the command's
 * arguments (arguments.c) and in front of the content (content.c); lib/service/exec.h runs it. */
#ifndef PIPE_PIPE_H
#define PIPE_PIPE_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/conf/settings_pipe.h"
#include "lib/mail/agent.h"
#include "lib/service/exec.h"

/* flags= */
enum {
    PIPE_BLANK_LINE = 1 << 0,    /* B */
    PIPE_DELIVERED_TO = 1 << 1,  /* D */
    PIPE_FROM_LINE = 1 << 2,     /* F */
    PIPE_ORIGINAL_TO = 1 << 3,   /* O */
    PIPE_RETURN_PATH = 1 << 4,   /* R */
    PIPE_FINAL = 1 << 5,         /* X */
    PIPE_FOLD_DOMAIN = 1 << 6,   /* h */
    PIPE_QUOTE = 1 << 7,         /* q */
    PIPE_FOLD_LOCAL = 1 << 8,    /* u */
    PIPE_STUFF_DOTS = 1 << 9,    /* . */
    PIPE_QUOTE_FROM = 1 << 10,   /* > */
};

/* What master.cf says. Lives as long as the process. */
struct pipe_attributes {
    unsigned flags;
    struct exec_identity who;
    bool has_user;
    const char *chroot_dir, *directory; /* NULL: none */
    struct slice eol;
    const char *null_sender;
    int64_t size_limit; /* 0: none */
    char **argv;        /* with macros */
};

/* attributes.c: takes the service's arguments apart and checks them, macros included. */
int pipe_attributes_parse(char **args, const struct pipe_settings *, struct arena *, struct pipe_attributes *,
                          struct err *) MUST_USE;

/* arguments.c */
int pipe_macros_check(const char *argument, struct err *) MUST_USE;
/* -1: what the sender of the message chose for recipient i would be taken for an option: *dsn gets the status. */
int pipe_check_recipient(const struct pipe_attributes *, const struct pipe_settings *, const struct delivery *,
                         unsigned i, const char **dsn, struct err *) MUST_USE;
/* The command's arguments for this delivery, for the recipients that have no result yet. -1: the same, for all. */
int pipe_arguments(const struct pipe_attributes *, const struct pipe_settings *, const struct delivery *, char ***argv,
                   const char **dsn, struct err *) MUST_USE;

/* content.c: the message as the command gets it, in pieces. */
struct pipe_content {
    const struct pipe_attributes *attributes;
    const struct delivery *delivery;
    bool begun, at_line_start, ended;
    unsigned from_seen; /* bytes of "From " that this line has begun with and that are held back */
};
/* For exec_job.feed; ctx is a struct pipe_content. */
int pipe_content_feed(void *ctx, struct buf *out, struct err *) MUST_USE;
/* Does the header section have a Delivered-To with this address (external form)? Leaves the source at its start. -1: the content
 * can't be read. */
int pipe_content_is_loop(const struct delivery *, const char *address, bool *found, struct err *) MUST_USE;

#endif
