/* SPDX-License-Identifier: Apache-2.0 */
/* lib/imap/input.h: commands of an IMAP client, token by token (RFC 3501 section 9, RFC 9051, literals of RFC 7888).
 *
 * A command is read as it is parsed: where a line ends in a literal, the client is told to go on (unless it did not ask),
 * and the bytes and the next line are read. So functions may wait. They return 0, or -1 with input->err: ERR_SYNTAX for what
 * the client should be told with BAD, everything else means that the connection is over. After BAD, imap_skip_rest() reads
 * what is left of the command, so that its literals are not taken for commands.
 *
 * What a command may bring is limited: input->limit bytes in all, beside literals that are streamed. Results live in the
 * arena, which is the command's. */
#ifndef LIB_IMAP_INPUT_H
#define LIB_IMAP_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/run/stream.h"

enum { IMAP_LINE_LIMIT = 8192, IMAP_TAG_LIMIT = 64 };

struct imap_input {
    struct stream *stream;
    struct arena *arena;
    size_t limit; /* bytes that a command may have */
    bool utf8;    /* quoted strings may hold UTF-8 (UTF8=ACCEPT, IMAP4rev2) */
    /* Of the command under way. */
    size_t used;
    struct slice rest; /* of the line; in the arena */
    struct err err;
};

/* Reads the first line of the next command and takes tag and verb off it (the verb in upper case). */
int may_wait imap_command_begin(struct imap_input *, const char **tag, const char **verb);
void may_wait imap_skip_rest(struct imap_input *);

/* ---- tokens ---- */

bool imap_at(const struct imap_input *, char c); /* is this the next byte? */
bool imap_at_end(const struct imap_input *);
int imap_take(struct imap_input *, char c); /* takes it, or fails */
int imap_space(struct imap_input *);        /* one blank (more are forgiven) */
int imap_end(struct imap_input *);          /* nothing is left */

int imap_atom(struct imap_input *, const char **);        /* no specials, upper case as it comes */
bool imap_keyword(struct imap_input *, const char *word); /* takes the word if it is the next atom, in any case */
int imap_number(struct imap_input *, uint64_t max, uint64_t *);
int imap_nz_number(struct imap_input *, uint64_t max, uint64_t *);
int may_wait imap_astring(struct imap_input *, struct slice *); /* atom (with ]), quoted, literal */
int may_wait imap_string(struct imap_input *, struct slice *);  /* quoted or literal */
int may_wait imap_nstring(struct imap_input *, struct slice *, bool *is_nil);
int may_wait imap_list_mailbox(struct imap_input *, struct slice *); /* astring with % and * */
int imap_flag(struct imap_input *, struct slice *);                  /* "\Seen", "$Forwarded" */
int imap_date(struct imap_input *, int64_t *day);          /* "1-Feb-1994", with or without quotes: its begin, UTC */
int imap_date_time(struct imap_input *, int64_t *seconds); /* "17-Jul-1996 02:44:25 -0700" */

/* A literal that is streamed: takes its announcement, tells the client to go on; the caller then reads size bytes from the
 * stream, and calls imap_literal_done() for the line that follows. binary: it was a literal8. */
int may_wait imap_literal_begin(struct imap_input *, uint64_t max, uint64_t *size, bool *binary);
int may_wait imap_literal_done(struct imap_input *);
/* How large is the literal that is announced here? Nothing is taken. -1: none is. */
int imap_literal_size(const struct imap_input *, uint64_t *size) MUST_USE;

/* "1,3:5,*": ranges as they stand; UINT32_MAX stands for "*". In the arena. "$" gives is_saved. */
struct imap_range {
    uint32_t from, to; /* from <= to, once "*" is known; see imap_set_resolve() */
};
struct imap_set {
    struct imap_range *ranges;
    size_t count;
    bool is_saved;
};
int imap_set(struct imap_input *, struct imap_set *);
/* Puts max in place of "*", orders the ranges' ends, sorts and joins them. */
void imap_set_resolve(struct imap_set *, uint32_t max);
bool imap_set_has(const struct imap_set *, uint32_t number); /* after imap_set_resolve() */

int imap_fail(struct imap_input *, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
