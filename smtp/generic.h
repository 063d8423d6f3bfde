/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/generic.h: smtp_generic_maps (generic(5)): addresses of mail that leaves, in the envelope and in the headers that
 * hold addresses, become others. What is in the queue stays as it is. */
#ifndef SMTP_GENERIC_H
#define SMTP_GENERIC_H

#include "lib/base/buf.h"
#include "lib/conf/conf.h"
#include "lib/mail/source.h"

struct generic;

/* With the files of the start. Its tables are read as parameter ("smtp_generic_maps"). *result NULL: there are none. */
int generic_new(struct arena *, const struct conf *, const char *parameter, const char *maps, const char *propagate,
                struct generic **result, struct err *) MUST_USE;

/* An address of the envelope. -1: a table failed: defer. */
int may_wait generic_address(struct arena *, const struct generic *, const char *address, const char **result,
                             struct err *) MUST_USE;

/* Reads the header section of a source at its start and appends it, rewritten, to out, with what else came with it. The
 * pieces that the source gives next follow. -1 (then *unreadable): the
 * source can't be read, or a table failed. */
int may_wait generic_header(struct arena *, const struct generic *, struct source *, struct buf *out, bool *unreadable,
                            struct err *) MUST_USE;

#endif
