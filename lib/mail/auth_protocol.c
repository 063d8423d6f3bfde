/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/auth_protocol.h"

void
auth_escape(struct slice text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++)
        switch (text.ptr[i]) {
        case '\001': buf_append(out, "\0011", 2); break;
        case '\t': buf_append(out, "\001t", 2); break;
        case '\r': buf_append(out, "\001r", 2); break;
        case '\n': buf_append(out, "\001n", 2); break;
        case '\0': buf_append(out, "\0010", 2); break;
        default: buf_append_byte(out, text.ptr[i]);
        }
}

void
auth_unescape(struct slice text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '\001' || i + 1 == text.len) {
            buf_append_byte(out, text.ptr[i]);
            continue;
        }
        switch (text.ptr[++i]) {
        case '1': buf_append_byte(out, '\001'); break;
        case 't': buf_append_byte(out, '\t'); break;
        case 'r': buf_append_byte(out, '\r'); break;
        case 'n': buf_append_byte(out, '\n'); break;
        case '0': break;
        default: buf_append_byte(out, text.ptr[i]);
        }
    }
}
