/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/siphash.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/check.h"

static inline uint64_t
rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static inline void
sip_round(struct siphash_state *s)
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
compress(struct siphash_state *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

void
siphash_begin(struct siphash_state *s, const struct siphash_key *key)
{
    s->v0 = key->k0 ^ 0x736f6d6570736575;
    s->v1 = key->k1 ^ 0x646f72616e646f6d;
    s->v2 = key->k0 ^ 0x6c7967656e657261;
    s->v3 = key->k1 ^ 0x7465646279746573;
    s->total = 0;
}

/* Whole words of the bytes; the state is kept in a local copy, so that it stays in registers. */
static void
add_words(struct siphash_state *state, const unsigned char *at, size_t words)
{
    struct siphash_state s = *state;
    uint64_t word;

    for (; words > 0; words--, at += 8) {
        memcpy(&word, at, 8);
        compress(&s, le64toh(word));
    }
    *state = s;
}

void
siphash_add(struct siphash_state *s, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    size_t held = s->total & 7;

    if (len == 0)
        return;
    s->total += len;
    if (held) {
        size_t n = len < 8 - held ? len : 8 - held;

        memcpy(s->tail + held, at, n);
        at += n;
        len -= n;
        if (held + n < 8)
            return;
        add_words(s, s->tail, 1);
    }
    add_words(s, at, len / 8);
    memcpy(s->tail, at + len / 8 * 8, len & 7);
}

uint64_t
siphash_end(struct siphash_state *s)
{
    uint64_t word = 0;

    memcpy(&word, s->tail, s->total & 7);
    compress(s, le64toh(word) | s->total << 56);
    s->v2 ^= 0xff;
    sip_round(s);
    sip_round(s);
    sip_round(s);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

uint64_t
siphash(const struct siphash_key *key, const void *bytes, size_t len)
{
    struct siphash_state s;

    siphash_begin(&s, key);
    siphash_add(&s, bytes, len);
    return siphash_end(&s);
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
