/* SPDX-License-Identifier: Apache-2.0 */
/* lib/store/fulltext.h: which messages may contain a piece of text: an index of trigrams (all runs of three bytes), one file for each
 * user, beside the index of index.h. It names candidates; the caller looks into them, so that a search finds what a scan
 * of all messages would find, and finds it with the few that have all trigrams of what is looked for.
 *
 * Text goes in as the scan sees it, folded already, so both agree on what is alike. A table of SQLite's FTS5 for each folder, whose
 * rows are UIDs and whose tokens are trigrams (a tokenizer of our own: FTS5's goes by characters, folds by other rules, ends at
 * a NUL, and would take each repetition in a message for a token). Beside it stands which UIDs are in it, and an
 * identity of each one's message: a number that is another message's now is not in it.
 *
 * The mail is the truth, and the file can be made anew from it at any time (fulltext_file.h: checksums, and when it is thrown away). All calls
 * block for as long as the disk does, and none waits for other tasks. After a failure (a full disk, a damaged page) the file
 * is thrown away, and nothing is in the index: the caller scans. */
#ifndef LIB_STORE_FULLTEXT_H
#define LIB_STORE_FULLTEXT_H

#include "lib/base/arena.h"
#include "lib/store/folder.h"
#include "lib/store/index.h"

struct fulltext;

/* In the directory of the user's index. form: says how texts are made of messages, and how they are folded; a file of another form is thrown
 * away. ERR_TEMP: another process has it open. */
struct fulltext *fulltext_open(const char *directory, const char *form, struct err *) MUST_USE;
void fulltext_close(struct fulltext **);
bool fulltext_is_usable(const struct fulltext *); /* false: it failed */
bool fulltext_exists(const char *directory);

/* Which UIDs of a folder are indexed, as it was when it was asked for. In an arena. */
struct fulltext_known {
    struct fulltext_run_bits *runs; /* by number */
    size_t count;
};
/* Takes the messages out that the folder has no more, or that are others now. Nothing is known after a failure. */
void fulltext_known(struct fulltext *, struct folder *, struct arena *, struct fulltext_known *);
bool fulltext_is_known(const struct fulltext_known *, uint32_t uid);
bool fulltext_has(struct fulltext *, struct folder *, uint32_t uid); /* by now */

/* UIDs of indexed messages that have all trigrams of the text (folded), ascending, in the arena. false: the text has none, or
 * the index failed: all messages may contain it. */
bool fulltext_find(struct fulltext *, struct folder *, struct slice text, struct arena *, uint32_t **uids,
                   size_t *count);

/* Adds a message: begin, each of its pieces of text (what is looked for never reaches from one into the next), end. One with
 * very many different trigrams stays out, and is always looked into. */
void fulltext_add_begin(struct fulltext *);
void fulltext_add_piece(struct fulltext *, struct slice folded);
void fulltext_add_end(struct fulltext *, struct folder *, uint32_t uid);

/* What was added becomes durable. */
void fulltext_flush(struct fulltext *);

/* The folder is going to be removed. */
void fulltext_forget(struct fulltext *, const struct index_key *);

#endif
