/* SPDX-License-Identifier: Apache-2.0 */
/* COMPRESS (RFC 4978). TLS, if any, ends in the front, so compression lies above it as it should. */
#include "imap/session.h"

struct imap_reply
cmd_compress(struct session *s)
{
    if (imap_space(&s->in) < 0)
        return imap_bad(s);
    if (!imap_keyword(&s->in, "DEFLATE"))
        return imap_no(s, "CANNOT", "Unknown way of compression.");
    if (imap_end(&s->in) < 0)
        return imap_bad(s);
    if (s->compressed)
        return imap_no(s, "COMPRESSIONACTIVE", "Compression is on already.");
    session_printf(s, "%s OK Compression begins.\r\n", s->tag);
    if (stream_start_deflate(s->stream, &s->in.err) < 0)
        return (struct imap_reply){IMAP_GONE, NULL, NULL};
    s->compressed = true;
    return (struct imap_reply){IMAP_SENT, NULL, NULL};
}
