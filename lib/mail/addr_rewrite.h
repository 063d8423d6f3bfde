/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/addr_rewrite.h: all that cleanup(8) does to an address, in this order: its canonical form, sender_ or
 * recipient_canonical_maps, canonical_maps, masquerading; and for recipients of the envelope virtual aliases, and copies.
 * `postfix trace-address` goes the same way.
 *
 * What can't be decided because a table fails is ERR_TEMP: the message is not accepted. */
#ifndef LIB_MAIL_ADDR_REWRITE_H
#define LIB_MAIL_ADDR_REWRITE_H

#include "lib/conf/settings_cleanup.h"
#include "lib/mail/addr_map.h"

struct addr_rewriter;

/* What an address is; also the classes of canonical and masquerade. */
enum addr_role {
    ADDR_ENVELOPE_SENDER = 1,
    ADDR_ENVELOPE_RECIPIENT = 2,
    ADDR_HEADER_SENDER = 4,
    ADDR_HEADER_RECIPIENT = 8,
};

/* The settings are kept. Lives in the arena. */
struct addr_rewriter *addr_rewriter_new(struct arena *, const struct conf *, const struct cleanup_settings *,
                                        struct err *) MUST_USE;
const struct addr_map_rules *addr_rewriter_rules(const struct addr_rewriter *);

/* Is there any table or masquerading for this role? If not, only completion is to be done. */
bool addr_rewriter_has_maps(const struct addr_rewriter *, enum addr_role);

/* Canonical tables and masquerading for an address that is complete. *result may be the same pointer. warned (may be
 * NULL) is set to what is to be logged ("unreasonable canonical_maps map nesting for a@b"). */
int may_wait addr_rewriter_map(struct arena *, const struct addr_rewriter *, const char *address, enum addr_role,
                               const char **result, const char **warned, struct err *) MUST_USE;

/* Virtual aliases: all that a recipient becomes, itself if no table knows it. -1 with ERR_PERM: the expansion makes no
 * sense (it nests or grows beyond its limits). */
int may_wait addr_rewriter_expand(struct arena *, const struct addr_rewriter *, const char *recipient,
                                  const char *const **results, unsigned *count, struct err *) MUST_USE;

/* The address that gets a copy because of the sender (ADDR_ENVELOPE_SENDER) or of the recipient; NULL: nobody. */
int may_wait addr_rewriter_bcc(struct arena *, const struct addr_rewriter *, const char *address, enum addr_role,
                               const char **copy_to, struct err *) MUST_USE;

bool addr_rewriter_has_aliases(const struct addr_rewriter *);

#endif
