/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/siphash.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/check.h"

struct state {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t
rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static inline void
sip_round(struct state *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 = rotate(s->v2, 32);
}

static inline void
compress(struct state *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

uint64_t
siphash(const struct siphash_key *key, const void *bytes, size_t len)
{
    struct state s = {
        .v0 = key->k0 ^ 0x736f6d6570736575,
        .v1 = key->k1 ^ 0x646f72616e646f6d,
        .v2 = key->k0 ^ 0x6c7967656e657261,
        .v3 = key->k1 ^ 0x7465646279746573,
    };
    const char *at = bytes;
    uint64_t word;
    for (size_t left = len; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        compress(&s, le64toh(word));
    }
    word = 0;
    if (len & 7)
        memcpy(&word, at, len & 7);
    compress(&s, le64toh(word) | (uint64_t)len << 56);
    s.v2 ^= 0xff;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

struct siphash_key
siphash_random_key(void)
{
    struct siphash_key key;
    ssize_t n;
    do
        n = getrandom(&key, sizeof(key), 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(key))
        fatal("no random numbers from the system: %s", strerror(errno));
    return key;
}
