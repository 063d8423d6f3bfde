/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/json.h"

#include <string.h>

#include "lib/base/text.h"

/* The length of the UTF-8 character that text begins with; 0 if it is none. */
static size_t
utf8_length(const char *text)
{
    size_t left = strlen(text);
    for (size_t len = 1; len <= 4 && len <= left; len++)
        if (text_is_utf8(slice_make(text, len)))
            return len;
    return 0;
}

void
json_text(struct buf *out, const char *text)
{
    buf_append_byte(out, '"');
    while (*text) {
        size_t len = utf8_length(text);
        if (len == 0)
            buf_append_text(out, "\xEF\xBF\xBD");
        else if (*text == '"' || *text == '\\')
            buf_printf(out, "\\%c", *text);
        else if ((unsigned char)*text < ' ' || *text == 127)
            buf_printf(out, "\\u%04x", (unsigned)(unsigned char)*text);
        else
            buf_append(out, text, len);
        text += len > 0 ? len : 1;
    }
    buf_append_byte(out, '"');
}

void
json_begin(struct buf *out)
{
    buf_append_byte(out, '{');
}

void
json_name(struct buf *out, const char *name)
{
    if (out->len > 0 && out->ptr[out->len - 1] != '{')
        buf_append_text(out, ", ");
    json_text(out, name);
    buf_append_text(out, ": ");
}

void
json_member(struct buf *out, const char *name, const char *text)
{
    json_name(out, name);
    json_text(out, text);
}

void
json_end(struct buf *out)
{
    buf_append_text(out, "}\n");
}
