/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/image.h"

#include <endian.h>
#include <string.h>

enum { SUMMED = IMAGE_HEADER_SIZE - 8 };

static unsigned char *
put32(unsigned char *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
    return at + sizeof(value);
}

static unsigned char *
put64(unsigned char *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof(value));
    return at + sizeof(value);
}

static uint32_t
get32(const unsigned char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static uint64_t
get64(const unsigned char *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

void
image_header_encode(struct image_header *h, const struct siphash_key *key, unsigned char bytes[IMAGE_HEADER_SIZE])
{
    unsigned char *at = bytes;

    at = put32(at, h->magic);
    at = put32(at, h->generation);
    at = put64(at, h->offset);
    at = put64(at, h->length);
    at = put32(at, h->envelope_length);
    at = put32(at, h->flags);
    at = put64(at, h->content_length);
    at = put64(at, h->content_sum);
    at = put64(at, h->envelope_sum);
    h->header_sum = siphash(key, bytes, SUMMED);
    put64(at, h->header_sum);
}

static void
decode(const unsigned char *bytes, struct image_header *h)
{
    h->magic = get32(bytes);
    h->generation = get32(bytes + 4);
    h->offset = get64(bytes + 8);
    h->length = get64(bytes + 16);
    h->envelope_length = get32(bytes + 24);
    h->flags = get32(bytes + 28);
    h->content_length = get64(bytes + 32);
    h->content_sum = get64(bytes + 40);
    h->envelope_sum = get64(bytes + 48);
    h->header_sum = get64(bytes + 56);
}

int
image_header_decode(const unsigned char bytes[IMAGE_HEADER_SIZE], const struct siphash_key *key, uint32_t generation,
                    uint64_t offset, uint64_t limit, struct image_header *h, struct err *err)
{
    uint64_t overhead;

    decode(bytes, h);
    if (h->magic != IMAGE_MAGIC || h->flags != 0)
        return err_set(err, ERR_SYNTAX, "no image here");
    if (key && (h->generation != generation || h->header_sum != siphash(key, bytes, SUMMED)))
        return err_set(err, ERR_SYNTAX, "not an image of this segment");
    overhead = (uint64_t)IMAGE_HEADER_SIZE + h->envelope_length + IMAGE_END_SIZE;
    if (h->offset != offset || h->length > limit || h->envelope_length > IMAGE_ENVELOPE_LIMIT || h->length < overhead ||
        h->content_length != h->length - overhead)
        return err_set(err, ERR_SYNTAX, "image with impossible sizes");
    return 0;
}
