/* SPDX-License-Identifier: Apache-2.0 */
/* lib/mail/image.h: a message as one run of bytes, as it stands in a journal segment.
 *
 *   header   64 bytes, little-endian (struct image_header below)
 *   envelope as msg.h encodes type_envelope; NULs may follow (in large images the space was set apart before its
 *            length was known)
 *   content  in wire form: lines ended by CRLF, dot-stuffed (RFC 5321 section 4.5.2), then ".\r\n", so that relaying
 *            sends content and end of data with no transformation
 *
 * Complete if and only if the lengths and the keyed checksums agree. The key is random for each generation of a
 * segment, so neither stale bytes of a recycled segment nor an image forged inside somebody's mail passes. */
#ifndef LIB_MAIL_IMAGE_H
#define LIB_MAIL_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/siphash.h"

enum {
    IMAGE_MAGIC = 0x474d4950, /* "PIMG" */
    IMAGE_ALIGN = 512,
    IMAGE_HEADER_SIZE = 64,
    IMAGE_END_SIZE = 3,              /* the final dot line */
    IMAGE_ENVELOPE_LIMIT = 64 << 20, /* more is not written, and not believed */
};

/* On disk in this order, little-endian. */
struct image_header {
    uint32_t magic;
    uint32_t generation; /* of the segment */
    uint64_t offset;     /* where in the segment the image stands: it can't be taken for one elsewhere */
    uint64_t length;     /* all of it: header, envelope, content, final dot line */
    uint32_t envelope_length;
    uint32_t flags;          /* 0 */
    uint64_t content_length; /* without the final dot line */
    uint64_t content_sum;    /* siphash of the content with the final dot line */
    uint64_t envelope_sum;   /* siphash of the envelope */
    uint64_t header_sum;     /* siphash of the 56 bytes before */
};

/* Sets header_sum too. */
void image_header_encode(struct image_header *, const struct siphash_key *, unsigned char bytes[IMAGE_HEADER_SIZE]);

/* -1 (ERR_SYNTAX) if magic, generation, offset, sizes or header_sum don't agree; limit: bytes there are from offset on.
 * key NULL: whoever reads does not know it, and was told by one who did: generation and header_sum are not looked at. */
int image_header_decode(const unsigned char bytes[IMAGE_HEADER_SIZE], const struct siphash_key *key,
                        uint32_t generation, uint64_t offset, uint64_t limit, struct image_header *,
                        struct err *) MUST_USE;

#endif
