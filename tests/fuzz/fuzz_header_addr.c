/* SPDX-License-Identifier: Apache-2.0 */
/* Headers with addresses: every address stands where it is said to, in order; exchanging each for itself leaves a text with
 * the same addresses; and what an address is quoted to is read as that address. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/mail/addr.h"
#include "lib/mail/header_addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ADDRESSES = 500 };

static unsigned
scan_all(struct arena *arena, struct slice text, struct header_addr *found)
{
    struct header_addr_scan scan = {.text = text};
    unsigned count = 0;

    while (count < ADDRESSES && header_addr_next(arena, &scan, &found[count])) {
        size_t before = count ? found[count - 1].end : 0;
        check(found[count].start >= before && found[count].end >= found[count].start && found[count].end <= text.len);
        for (const char *p = found[count].raw; *p; p++)
            check((unsigned char)*p >= ' ' && *p != 127);
        count++;
    }
    return count;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct slice text = slice_make(data, size);
    struct header_addr *found = arena_array(arena, ADDRESSES + 1, sizeof *found);
    struct header_addr *again = arena_array(arena, ADDRESSES + 1, sizeof *again);
    const char **same = arena_array(arena, ADDRESSES + 1, sizeof *same);
    unsigned count = scan_all(arena, text, found), usable = 0;
    struct buf out = {0};

    /* Only what quoting can say: a domain of odd bytes is judged elsewhere. */
    for (unsigned i = 0; i < count; i++) {
        struct slice local, domain;
        addr_split(found[i].raw, &local, &domain);
        bool plain = found[i].has_domain && local.len > 0 && (addr_is_hostname(domain) || addr_is_literal(domain));
        same[i] = plain ? found[i].raw : NULL;
        usable += plain;
    }
    header_addr_replace(arena, text, found, same, count, &out);
    if (usable == count && count < ADDRESSES) {
        check(scan_all(arena, buf_slice(&out), again) == count);
        for (unsigned i = 0; i < count; i++)
            check(strcmp(found[i].raw, again[i].raw) == 0);
    }
    buf_release(&out);
    arena_free(&arena);
    return 0;
}
