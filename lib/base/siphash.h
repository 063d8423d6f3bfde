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

/* A key from the system's random numbers; fatal if there are none. */
struct siphash_key siphash_random_key(void);

#endif
