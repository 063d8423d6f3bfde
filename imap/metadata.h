/* SPDX-License-Identifier: Apache-2.0 */
/* imap/metadata.h: annotations of mailboxes and of the user's whole mail (RFC 5464), in a file of their folder: "postern-metadata", an entry
 * a line: name, a blank, value, both with "%XX" for bytes that are not plain. The whole mail's is "postern-server-metadata" in the Maildir. */
#ifndef IMAP_METADATA_H
#define IMAP_METADATA_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

enum { METADATA_ENTRIES = 100, METADATA_VALUE = 32 * 1024, METADATA_NAME = 200 };

extern const char metadata_file[], metadata_server_file[];

struct metadata_entry {
    struct slice name, value; /* name in lower case */
};

struct metadata {
    struct metadata_entry *entries; /* METADATA_ENTRIES have room */
    size_t count;
};

/* All is in the arena. No file: no entries. */
int metadata_read(struct arena *, int folder_fd, const char *file, struct metadata *, struct err *) MUST_USE;
/* Replaces the file. */
int metadata_write(int folder_fd, const char *file, const struct metadata *, struct err *) MUST_USE;

const struct metadata_entry *metadata_find(const struct metadata *, struct slice name);
/* is_nil: removes it. -1: there is no room for one more. */
int metadata_set(struct metadata *, struct slice name, struct slice value, bool is_nil) MUST_USE;

/* "/private/..." or "/shared/...", no empty parts, no "*" or "%": in lower case, in the arena. */
bool metadata_name(struct arena *, struct slice given, struct slice *name);

/* For tests. */
void metadata_parse(struct arena *, struct slice text, struct metadata *);

#endif
