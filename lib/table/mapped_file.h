/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/mapped_file.h: a file in memory, read only, which may be cut or damaged while we look at it.
 *
 * Reading behind the end of a file that somebody has cut raises SIGBUS. For mappings made here a handler puts an empty page in
 * that place and marks the mapping as damaged: the reader sees zeroes, which it checks as any other content, and the caller
 * asks is_damaged before it believes an answer. */
#ifndef LIB_TABLE_MAPPED_FILE_H
#define LIB_TABLE_MAPPED_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/compiler.h"
#include "lib/base/err.h"

struct mapped_file {
    const unsigned char *ptr;
    size_t size; /* bytes of the file when it was mapped */
    int fd;
    volatile bool is_damaged;
    struct mapped_file *next;
};

/* Takes fd (closed by release, also when this fails). random: pages are wanted one at a time. */
int mapped_file_init(struct mapped_file *, int fd, bool random, struct err *) MUST_USE;

/* The file may have grown: maps it anew. */
int mapped_file_grow(struct mapped_file *, struct err *) MUST_USE;
void mapped_file_release(struct mapped_file *);

#endif
