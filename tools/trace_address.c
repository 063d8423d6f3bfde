/* SPDX-License-Identifier: Apache-2.0 */
/* postfix trace-address [--from SENDER] ADDRESS: the way of an address through rewriting, aliases, class and transport, with
 * each table that is asked. It runs the code that cleanup and trivial-rewrite run; nothing is sent. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/text.h"
#include "lib/conf/interfaces.h"
#include "lib/conf/settings_cleanup.h"
#include "lib/mail/addr.h"
#include "lib/mail/addr_form.h"
#include "lib/mail/addr_rewrite.h"
#include "lib/mail/resolve.h"
#include "lib/run/loop.h"
#include "lib/run/task.h"
#include "tools/postfix_command.h"

struct trace {
    struct control *c;
    struct arena *arena;
    const char *sender, *address;
    struct cleanup_settings settings;
    struct addr_rewriter *rewriter;
    struct routes *routes;
    struct rewrite_settings route_settings;
    struct interfaces own, proxy;
    unsigned indent;
    int status;
};

/* ---- printing ---- */

static void PRINTF_LIKE(2, 3)
tell(const struct trace *t, const char *fmt, ...)
{
    char line[2048];
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    text_printable(line, strlen(line), '?', true);
    printf("%*s%s\n", (int)t->indent, "", line);
}

/* " (/etc/postfix/main.cf, line 3)", or that it is the default. */
static const char *
place(const struct trace *t, const char *parameter)
{
    const char *where = conf_where(t->c->conf, t->arena, parameter);

    return where ? where : "default";
}

static void
on_look_up(void *ctx, const char *parameter, const struct table *table, struct slice key, const char *value)
{
    const struct trace *t = ctx;

    if (value)
        tell(t, "  %s: %s has \"%.*s\": \"%s\"  (%s)", parameter, table_name(table), SLICE_ARG(key), value,
             place(t, parameter));
    else
        tell(t, "  %s: %s has no \"%.*s\"", parameter, table_name(table), SLICE_ARG(key));
}

static int
failed(struct trace *t, const struct err *err)
{
    tell(t, "  error: %s; mail would be deferred", err->text);
    t->status = 1;
    return -1;
}

static void
tell_change(const struct trace *t, const char *step, const char *before, const char *after)
{
    if (strcmp(before, after) != 0)
        tell(t, "%s: <%s> becomes <%s>", step, before, after);
    else
        tell(t, "%s: <%s> stays", step, before);
}

/* ---- steps ---- */

/* Which of the settings of address rewriting made the address what it is? */
static const char *
form_reason(const struct trace *t, const char *before, const char *after)
{
    if (strcmp(before, after) == 0)
        return "nothing to complete";
    if (!strchr(before, '@') && strchr(before, '!') && t->route_settings.swap_bangpath)
        return arena_printf(t->arena, "swap_bangpath (%s)", place(t, "swap_bangpath"));
    if (!strchr(before, '@') && strchr(before, '%') && t->route_settings.allow_percent_hack)
        return arena_printf(t->arena, "allow_percent_hack (%s)", place(t, "allow_percent_hack"));
    if (!strchr(before, '@'))
        return arena_printf(t->arena, "append_at_myorigin (%s), myorigin = %s (%s)", place(t, "append_at_myorigin"),
                            t->route_settings.myorigin, place(t, "myorigin"));
    if (strlen(after) > strlen(before))
        return arena_printf(t->arena, "append_dot_mydomain (%s), mydomain = %s (%s)", place(t, "append_dot_mydomain"),
                            t->route_settings.mydomain, place(t, "mydomain"));
    return "canonical form";
}

static const char *
complete(const struct trace *t, const char *address)
{
    const char *result = address_canonical(t->arena, addr_rewriter_rules(t->rewriter)->form, address, true);

    tell_change(t, "canonical form", address, result);
    tell(t, "  %s", form_reason(t, address, result));
    return result;
}

static int may_wait
map(struct trace *t, const char *address, enum addr_role role, const char **result)
{
    const char *warned = NULL;
    struct err err;

    *result = address;
    if (!addr_rewriter_has_maps(t->rewriter, role))
        return 0;
    tell(t, "canonical tables and masquerading of <%s>", address);
    if (addr_rewriter_map(t->arena, t->rewriter, address, role, result, &warned, &err) < 0)
        return failed(t, &err);
    if (warned)
        tell(t, "  warning: %s", warned);
    tell_change(t, "  result", address, *result);
    if (strcmp(address, *result) != 0 && *t->settings.masquerade_domains)
        tell(t, "  masquerade_domains = %s (%s)", t->settings.masquerade_domains, place(t, "masquerade_domains"));
    return 0;
}

static const char *
class_name(int64_t flags)
{
    if (flags & ROUTE_LOCAL)
        return "local";
    if (flags & ROUTE_ALIAS)
        return "virtual alias domain";
    if (flags & ROUTE_VIRTUAL)
        return "virtual mailbox domain";
    if (flags & ROUTE_RELAY)
        return "relay domain";
    return "other hosts' domain";
}

static void may_wait
route(struct trace *t, const char *address)
{
    struct route_answer answer;
    struct route_reason reason;

    tell(t, "route of <%s>", address);
    resolve_explain(t->arena, t->routes, t->sender, address, &answer, &reason);
    if (answer.flags & ROUTE_FAIL) {
        tell(t, "  error: %s; mail would be deferred", answer.reason);
        t->status = 1;
        return;
    }
    if (reason.class_by)
        tell(t, "  class: %s, by %s (%s)", class_name(answer.flags), reason.class_by, place(t, reason.class_by));
    else
        tell(t, "  class: %s", class_name(answer.flags));
    if (answer.flags & ROUTE_ROUTED)
        tell(t, "  the local part holds routing (%%, ! or @)");
    if (answer.flags & ROUTE_ERROR) {
        tell(t, "  undeliverable: %s%s%s", answer.reason, reason.transport_by ? ", by " : "",
             reason.transport_by ? reason.transport_by : "");
        t->status = 1;
        return;
    }
    tell(t, "  transport: %s, by %s (%s)", answer.transport, reason.transport_by, place(t, reason.transport_by));
    if (reason.nexthop_by)
        tell(t, "  next hop: %s, by %s (%s)", answer.nexthop, reason.nexthop_by, place(t, reason.nexthop_by));
    else
        tell(t, "  next hop: %s, the domain", answer.nexthop);
    tell(t, "  recipient: <%s>", answer.address);
}

static int may_wait
copies(struct trace *t, const char *address, enum addr_role role)
{
    const char *copy_to;
    struct err err;

    if (addr_rewriter_bcc(t->arena, t->rewriter, address, role, &copy_to, &err) < 0)
        return failed(t, &err);
    if (copy_to)
        tell(t, "a copy of each new message goes to <%s>", copy_to);
    return 0;
}

static void may_wait
trace_recipient(struct trace *t, const char *address)
{
    const char *const *results;
    unsigned count;
    struct err err;

    tell(t, "recipient <%s>", address);
    t->indent = 2;
    if (!*address)
        address = t->settings.empty_address_recipient;
    address = complete(t, address);
    if (map(t, address, ADDR_ENVELOPE_RECIPIENT, &address) < 0)
        return;
    if (addr_rewriter_has_aliases(t->rewriter))
        tell(t, "virtual aliases of <%s>", address);
    if (addr_rewriter_expand(t->arena, t->rewriter, address, &results, &count, &err) < 0) {
        failed(t, &err);
        return;
    }
    if (addr_rewriter_has_aliases(t->rewriter) && (count > 1 || strcmp(results[0], address) != 0))
        for (unsigned i = 0; i < count; i++)
            tell(t, "  becomes <%s>", results[i]);
    if (copies(t, address, ADDR_ENVELOPE_RECIPIENT) < 0)
        return;
    for (unsigned i = 0; i < count; i++)
        route(t, results[i]);
}

static void may_wait
trace_sender(struct trace *t)
{
    t->indent = 0;
    tell(t, "sender <%s>", t->sender);
    t->indent = 2;
    if (*t->sender) {
        t->sender = complete(t, t->sender);
        if (map(t, t->sender, ADDR_ENVELOPE_SENDER, &t->sender) < 0)
            return;
        (void)copies(t, t->sender, ADDR_ENVELOPE_SENDER);
    }
    if (*t->settings.always_bcc)
        tell(t, "a copy of each new message goes to <%s>, by always_bcc (%s)", t->settings.always_bcc,
             place(t, "always_bcc"));
    t->indent = 0;
}

/* ---- the command ---- */

static int
open_all(struct trace *t, struct err *err)
{
    const struct conf *conf = t->c->conf;

    if (cleanup_settings_load(&t->settings, conf, t->arena, err) < 0 ||
        rewrite_settings_load(&t->route_settings, conf, t->arena, err) < 0 ||
        interfaces_load(conf, t->arena, &t->own, err) < 0 ||
        interfaces_parse(conf, t->arena, t->route_settings.proxy_interfaces, &t->proxy, err) < 0)
        return -1;
    t->rewriter = addr_rewriter_new(t->arena, conf, &t->settings, err);
    if (!t->rewriter)
        return -1;
    t->routes = routes_new(t->arena, conf, &t->route_settings, &t->own, &t->proxy, err);
    return t->routes ? 0 : -1;
}

static void may_wait
run_trace(void *arg)
{
    struct trace *t = arg;
    struct err err;

    if (open_all(t, &err) < 0) {
        say_fatal("%s", err.text);
        t->status = 1;
        return;
    }
    maps_watch(on_look_up, t);
    if (t->sender)
        trace_sender(t);
    else
        t->sender = "";
    trace_recipient(t, t->address);
    maps_watch(NULL, NULL);
}

static const char *
take_address(struct trace *t, const char *text)
{
    const char *raw;
    struct slice rest;
    struct err err;

    if (addr_parse_path(t->arena, slice_from(text), false, true, &raw, &rest, &err) < 0 || slice_trim(rest).len > 0) {
        say_fatal("\"%s\" is no address", text);
        return NULL;
    }
    return raw;
}

int
command_trace_address(struct control *c, char **args)
{
    struct trace t = {.c = c, .arena = c->arena};
    const char *from = NULL;

    if (args[0] && strcmp(args[0], "--from") == 0) {
        from = args[1];
        args += from ? 2 : 1;
    }
    if (!args[0] || args[1]) {
        say_fatal("usage: postfix trace-address [--from SENDER] ADDRESS");
        return 1;
    }
    if ((from && !(t.sender = take_address(&t, from))) || !(t.address = take_address(&t, args[0])))
        return 1;
    tables_open_blocking();
    loop_init();
    task_run_main(run_trace, &t);
    fflush(stdout);
    return t.status;
}
