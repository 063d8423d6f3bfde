/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/list.h"

#include "lib/base/text.h"

static bool
is_separator(char c)
{
    return text_is_space(c) || c == ',';
}

size_t
list_find_close(struct slice text)
{
    unsigned level = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '{')
            level++;
        else if (text.ptr[i] == '}' && --level == 0)
            return i;
    }
    return text.len;
}

int
list_next(struct slice *rest, struct slice *item, bool *braced, struct err *err)
{
    while (rest->len > 0 && is_separator(*rest->ptr))
        *rest = slice_make(rest->ptr + 1, rest->len - 1);
    if (braced)
        *braced = rest->len > 0 && *rest->ptr == '{';
    if (rest->len == 0)
        return 0;
    if (*rest->ptr != '{')
        return slice_word(rest, ", \t\r\n\v\f", item) ? 1 : 0;

    size_t close = list_find_close(*rest);
    if (close == rest->len)
        return err_set(err, ERR_SYNTAX, "missing '}' in \"%.*s\"", SLICE_ARG(*rest));
    if (close + 1 < rest->len && !is_separator(rest->ptr[close + 1]))
        return err_set(err, ERR_SYNTAX, "syntax error after '}' in \"%.*s\"", SLICE_ARG(*rest));
    *item = slice_trim(slice_make(rest->ptr + 1, close - 1));
    *rest = slice_make(rest->ptr + close + 1, rest->len - close - 1);
    return 1;
}
