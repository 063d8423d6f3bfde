/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/footer.h"

#include <string.h>

#include "lib/base/log.h"
#include "lib/conf/expand.h"
#include "lib/run/loop.h"

static int
footer_value(void *ctx, struct slice name, struct slice *value, struct err *err)
{
    const struct session *s = ctx;
    char date[64];

    *value = slice_make(NULL, 0);
    if (slice_equal_text(name, "client_address"))
        *value = slice_from(s->peer.address);
    else if (slice_equal_text(name, "client_port"))
        *value = slice_from(s->peer.port ? arena_printf(s->cmd, "%u", s->peer.port) : "unknown");
    else if (slice_equal_text(name, "localtime")) {
        clock_format_syslog(loop_now_wall(), date, sizeof date);
        *value = slice_from(arena_strdup(s->cmd, date));
    } else if (slice_equal_text(name, "server_name"))
        *value = slice_from(s->server->set.myhostname);
    else
        log_warning("smtpd_reject_footer: unknown name \"%.*s\"", SLICE_ARG(name));
    (void)err;
    return 0;
}

/* NULL: there is none for this reply, or it can't be told. */
static const char *may_wait
find_template(struct session *s, struct smtp_reply reply)
{
    const struct server *server = s->server;
    const char *text = NULL;
    struct err err;

    if (server->reject_footers && !maps_is_empty(server->reject_footers) &&
        maps_find(server->reject_footers, s->cmd, slice_from(smtp_reply_line(s->cmd, reply)), &text, &err) < 0) {
        log_warning("%s", err.text);
        return NULL;
    }
    if (!text)
        text = server->set.smtpd_reject_footer;
    return *text ? text : NULL;
}

/* A backslash and "n" divide lines. */
static void
divide_lines(char *text)
{
    char *to = text;

    for (const char *from = text; *from; from++)
        if (from[0] == '\\' && from[1] == 'n') {
            *to++ = '\n';
            from++;
        } else {
            *to++ = *from;
        }
    *to = '\0';
}

struct smtp_reply may_wait
footer_add(struct session *s, struct smtp_reply reply)
{
    const char *template = find_template(s, reply), *between = "\n";
    const struct expand_source source = {.value = footer_value, .ctx = s, .final = true};
    struct buf text = {0};
    struct err err;

    if (!template)
        return reply;
    if (strncmp(template, "\\c", 2) == 0) {
        between = "";
        template += 2;
    }
    char *lines = arena_strdup(s->cmd, template); /* before names are put in: what they stand for has no lines */
    divide_lines(lines);
    if (expand_text(&source, slice_from(lines), &text, &err) < 0)
        log_warning("smtpd_reject_footer: %s", err.text);
    else
        reply.text = arena_printf(s->cmd, "%s%s%s", reply.text, between, buf_text(&text));
    buf_release(&text);
    return reply;
}
