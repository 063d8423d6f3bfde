/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/siphash.h: SipHash, a fast keyed hash that who does not know the key can't steer (Aumasson and Bernstein,
 * 2012). Used for hash tables, and with a key of its own for each journal segment. */
#ifndef LIB_BASE_SIPHASH_H
#define LIB_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
    uint64_t k0, k1;
};

/* SipHash-1-3 of the bytes. */
uint64_t siphash(const struct siphash_key *, const void *bytes, size_t len);

/* The same of bytes that come in pieces: begin, add any number of times, end. */
struct siphash_state {
    uint64_t v0, v1, v2, v3;
    uint64_t total;        /* bytes so far */
    unsigned char tail[8]; /* the last total % 8 of them */
};
void siphash_begin(struct siphash_state *, const struct siphash_key *);
void siphash_add(struct siphash_state *, const void *bytes, size_t len);
uint64_t siphash_end(struct siphash_state *);

/* A key from the system's random numbers; fatal if there are none. */
struct siphash_key siphash_random_key(void);

#endif
