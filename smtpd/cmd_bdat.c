/* SPDX-License-Identifier: Apache-2.0 */
/* BDAT: RFC 3030. The bytes of a chunk follow the command whatever we think of it, so they are always read: what comes
 * after a refused chunk is never taken for a command. */
#include "lib/run/loop.h"
#include "smtpd/content.h"
#include "smtpd/restrict.h"
#include "smtpd/session.h"

/* Reads count bytes; keep: they are content. */
static int may_wait
read_chunk(struct session *s, struct transaction *t, uint64_t count, struct err *err)
{
    struct slice bytes;

    while (count > 0) {
        session_set_deadline(s);
        stream_set_bulk(s->stream, t && t->submission);
        if (stream_peek(s->stream, &bytes, err) < 0)
            return -1;
        if (bytes.len > count)
            bytes.len = (size_t)count;
        count -= bytes.len;
        if (t && t->problem == CONTENT_FINE) {
            size_t before = t->content.len;
            wire_encode(&t->wire, bytes, &t->content);
            stream_take(s->stream, bytes.len);
            content_added(s, before);
        } else {
            stream_take(s->stream, bytes.len);
        }
    }
    stream_set_bulk(s->stream, false);
    return 0;
}

static struct smtp_reply may_wait
end(struct session *s, struct transaction *t)
{
    size_t before = t->content.len;

    wire_encode_end(&t->wire, &t->content);
    content_added(s, before);
    return content_end(s);
}

/* What is wrong with a chunk here, if anything. */
static int may_wait
check_chunk(struct session *s, struct smtp_reply *refusal)
{
    struct transaction *t = s->transaction;

    if (!t || !(session_state(s) & (IN_RCPT | IN_BDAT))) {
        *refusal = t && t->refused ? smtp_reply(s->cmd, 554, "5.5.1", "Error: no valid recipients")
                                   : smtp_reply(s->cmd, 503, "5.5.1", "Error: need RCPT command");
        return -1;
    }
    return t->in_bdat ? 0 : access_check_data(s, refusal);
}

struct smtp_reply may_wait
cmd_bdat(struct session *s, struct slice args)
{
    struct transaction *t = s->transaction;
    struct smtp_reply refusal;
    uint64_t count;
    bool last;

    if (smtp_parse_bdat(args, &count, &last) < 0)
        return smtp_reply_close(s->cmd, 521, "5.5.4", "Syntax: BDAT count [LAST]");
    bool refused = check_chunk(s, &refusal) < 0;
    bool failed_before = !refused && t->problem != CONTENT_FINE;
    if (!refused && !t->in_bdat) {
        t->in_bdat = true;
        content_begin(s);
    }
    if (read_chunk(s, refused ? NULL : t, count, &s->err) < 0)
        return session_input_failed(s, &s->err);
    if (refused)
        return refusal;
    if (last)
        return end(s, t);
    if (failed_before)
        return smtp_reply(s->cmd, 551, "5.0.0", "Discarded %llu bytes after earlier error", (unsigned long long)count);
    if (t->problem != CONTENT_FINE)
        return content_problem_reply(s);
    return smtp_reply(s->cmd, 250, "2.0.0", "Ok: %llu bytes", (unsigned long long)count);
}
