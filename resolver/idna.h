/* SPDX-License-Identifier: Apache-2.0 */
/* resolver/idna.h: domain names in UTF-8, as the DNS has them (IDNA 2008 by way of UTS 46). */
#ifndef RESOLVER_IDNA_H
#define RESOLVER_IDNA_H

#include "lib/base/arena.h"
#include "lib/base/err.h"

/* To be called before the sandbox. as_2003: characters that IDNA 2003 mapped to others (enable_idna2003_compatibility). */
int idna_prepare(bool as_2003, struct err *) MUST_USE;

/* The ASCII form; the name itself if it is ASCII. NULL: there is none. */
const char *idna_to_ascii(struct arena *, const char *name);

#endif
