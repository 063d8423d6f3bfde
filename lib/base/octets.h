/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/octets.h: sixteen bytes at a time, in whatever registers the machine has for that: for what looks at every byte of large
 * contents. Compare two of them, or one with a byte, and combine the results with & | ^ ~: each byte of a result is 0 or -1. */
#ifndef LIB_BASE_OCTETS_H
#define LIB_BASE_OCTETS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { OCTETS = 16 };

typedef unsigned char octets __attribute__((vector_size(16)));
typedef signed char octets_marks __attribute__((vector_size(16))); /* what a comparison gives */

/* From any address. */
static inline octets
octets_load(const char *at)
{
    octets bytes;

    memcpy(&bytes, at, sizeof(bytes));
    return bytes;
}

static inline bool
octets_any(octets_marks marks)
{
    uint64_t halves[2];

    memcpy(halves, &marks, sizeof(halves));
    return (halves[0] | halves[1]) != 0;
}

#endif
