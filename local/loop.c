/* SPDX-License-Identifier: Apache-2.0 */
/* Loop control: who finds himself in a Delivered-To header has had this message before. */
#include <string.h>

#include "lib/base/text.h"
#include "local/local.h"

enum { LINE_LIMIT = 8192 /* more than an address has */, HEADER_LIMIT = 1 << 20 };

static const char field[] = "delivered-to:";

static void
take_line(struct buf *line, struct map *found)
{
    struct slice text = buf_slice(line); /* what begins with a blank goes on with another field */

    if (!slice_starts_with_fold(text, field))
        return;
    text = slice_trim(slice_make(text.ptr + sizeof field - 1, text.len - (sizeof field - 1)));
    if (text.len == 0)
        return;
    text_lower_all((char *)text.ptr, text.len);
    (void)map_put(found, text, found);
}

/* Gathers the bytes up to a line's end. True: the header has ended. */
static bool
take_bytes(struct slice bytes, struct buf *line, struct map *found)
{
    while (bytes.len > 0) {
        const char *lf = memchr(bytes.ptr, '\n', bytes.len);
        size_t n = lf ? (size_t)(lf - bytes.ptr) : bytes.len;
        size_t room = line->len < LINE_LIMIT ? LINE_LIMIT - line->len : 0;

        buf_append(line, bytes.ptr, n < room ? n : room);
        if (!lf)
            return false;
        if (line->len == 0 || (line->len == 1 && *line->ptr == '\r'))
            return true;
        take_line(line, found);
        buf_clear(line);
        bytes = slice_make(lf + 1, bytes.len - n - 1);
    }
    return false;
}

int
loop_scan(struct source *source, struct map *found, struct err *err)
{
    struct buf line = {0};
    struct slice bytes;
    size_t total = 0;
    int more;

    source_rewind(source);
    while ((more = source_next_wire(source, &bytes, err)) > 0 && total < HEADER_LIMIT) {
        total += bytes.len;
        if (take_bytes(bytes, &line, found))
            break;
    }
    buf_release(&line);
    source_rewind(source);
    return more < 0 ? -1 : 0;
}
