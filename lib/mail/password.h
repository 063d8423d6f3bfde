/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/password.h: passwords as they are stored, and how one that a user gives is compared with them. Nothing here waits; what
 * is slow by intent (hashing) belongs into a thread of the pool.
 *
 * A stored password is one of
 *   $y$...  $6$...  $2b$...          a hash of crypt(3); also behind {CRYPT} and the names that Dovecot has for its kinds
 *   {PLAIN}text                      the password itself, also {CLEARTEXT}; an empty one is nobody's
 *   {SCRAM-SHA-256}4096,salt,stored,server    and {SCRAM-SHA-1}, in base64, as Dovecot writes them
 * or several of these as lines (as `postfix user` stores them). */
#ifndef LIB_MAIL_PASSWORD_H
#define LIB_MAIL_PASSWORD_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/run/crypto.h"

/* What `postfix user` stores: a yescrypt hash and the SCRAM keys. NULL: no hash can be made. */
const char *password_record(struct arena *, struct slice password, struct err *) MUST_USE;

/* Does the password fit? *known: there was something in the record that it could be compared with. */
bool password_matches(const char *record, struct slice password, bool *known);

/* As long as password_matches() takes with this record (NULL: with one of ours), and always no: for users that do not exist. */
void password_pretend(const char *sample, struct slice password);

/* The keys for SCRAM (RFC 5802): stored, or made from a plain password, with a salt that secret makes of the user's name. digest:
 * "SHA1", "SHA256". */
struct scram_keys {
    char salt[64]; /* bytes */
    size_t salt_len;
    unsigned iterations;
    size_t size; /* of the digest */
    unsigned char stored[CRYPTO_DIGEST_MOST], server[CRYPTO_DIGEST_MOST];
};
bool password_scram_keys(const char *record, struct slice secret, struct slice user, const char *digest,
                         struct scram_keys *);

/* Keys that fit no password, but show the same salt whenever they are made for a user who does not exist, and need as much work as those
 * of this record (NULL: of one of ours), so that nobody can tell. */
void password_scram_pretend(const char *sample, struct slice secret, struct slice user, const char *digest,
                            struct scram_keys *);

/* The password itself, where the record holds it ({PLAIN}) and it is not empty; part of the record. */
bool password_plain(const char *record, struct slice *password);

/* How many slow hashes this process has computed. For tests: the same number whether a user exists. */
unsigned password_hash_count(void);

#endif
