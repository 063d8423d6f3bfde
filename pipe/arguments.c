/* SPDX-License-Identifier: Apache-2.0 */
/* The words of argv= and their macros. No shell sees them; what is left to guard against is a value that a command would
 * take for an option, and a word that vanishes and shifts those behind it: a macro with an empty value leaves an empty
 * argument. */
#include <inttypes.h>
#include <string.h>

#include "lib/base/text.h"
#include "lib/mail/addr.h"
#include "pipe/pipe.h"

/* OF_RECIPIENT: a word that holds it is repeated for each recipient. */
enum { OF_MESSAGE, OF_RECIPIENT };

struct context {
    const struct pipe_attributes *attributes;
    const struct pipe_settings *settings;
    const struct delivery *delivery;
    const struct envelope *envelope;
    const struct deliver_recipient *recipient;
    struct arena *arena;
};

/* ---- values ---- */

static const char *
fold(struct arena *arena, const char *text)
{
    char *folded = arena_strdup(arena, text);

    text_lower_all(folded, strlen(folded));
    return folded;
}

static const char *
whole_address(const struct context *c, const char *address)
{
    unsigned flags = c->attributes->flags;
    const char *at = strrchr(address, '@');
    char *text;
    size_t local;

    text = arena_strdup(c->arena, address);
    local = at ? (size_t)(at - address) : strlen(text);
    if (flags & PIPE_FOLD_LOCAL)
        text_lower_all(text, local);
    if (at && (flags & PIPE_FOLD_DOMAIN))
        text_lower_all(text + local, strlen(text + local));
    return flags & PIPE_QUOTE ? addr_quote(c->arena, text) : text;
}

static const char *
get_recipient(const struct context *c)
{
    return whole_address(c, c->recipient->address);
}

static const char *
get_original_recipient(const struct context *c)
{
    return whole_address(c, *c->recipient->original ? c->recipient->original : c->recipient->address);
}

static const char *
get_sender(const struct context *c)
{
    const char *sender = c->delivery->request->sender;

    if (!*sender)
        sender = c->attributes->null_sender;
    return c->attributes->flags & PIPE_QUOTE ? addr_quote(c->arena, sender) : sender;
}

static const char *
get_mailbox(const struct context *c)
{
    const char *at = strrchr(c->recipient->address, '@');
    const char *text = c->recipient->address;

    if (at)
        text = arena_strndup(c->arena, text, (size_t)(at - text));

    return c->attributes->flags & PIPE_FOLD_LOCAL ? fold(c->arena, text) : text;
}

static const char *
get_domain(const struct context *c)
{
    const char *at = strrchr(c->recipient->address, '@');

    if (!at)
        return "";
    return c->attributes->flags & PIPE_FOLD_DOMAIN ? fold(c->arena, at + 1) : at + 1;
}

/* Where the extension begins, its delimiter first; at the end if there is none. Names that are used for the system's own
 * mail have none, and owner-list and list-request are whole names where the delimiter is '-'. */
static size_t
extension_at(const struct context *c, const char *mailbox)
{
    const char *delimiters = c->settings->recipient_delimiter;
    struct slice local = slice_from(mailbox);
    size_t len = strlen(mailbox), at;

    if (!*delimiters || len < 2 || slice_equal_text_fold(local, "mailer-daemon") ||
        slice_equal_text_fold(local, "double-bounce"))
        return len;
    at = 1 + strcspn(mailbox + 1, delimiters);
    if (at < len && mailbox[at] == '-' && c->settings->owner_request_special &&
        (slice_starts_with_fold(local, "owner-") ||
         (len > 8 && slice_equal_text_fold(slice_from(mailbox + len - 8), "-request"))))
        return len;
    return at;
}

static const char *
get_user(const struct context *c)
{
    const char *mailbox = get_mailbox(c);

    return arena_strndup(c->arena, mailbox, extension_at(c, mailbox));
}

static const char *
get_extension(const struct context *c)
{
    const char *mailbox = get_mailbox(c);
    size_t at = extension_at(c, mailbox);

    return mailbox[at] ? mailbox + at + 1 : "";
}

static const char *
get_nexthop(const struct context *c)
{
    const char *nexthop = c->delivery->request->nexthop;

    return c->attributes->flags & PIPE_FOLD_DOMAIN ? fold(c->arena, nexthop) : nexthop;
}

static const char *
get_size(const struct context *c)
{
    return arena_printf(c->arena, "%" PRId64, c->delivery->request->size);
}

static const char *
get_queue_id(const struct context *c)
{
    return c->delivery->request->queue_id;
}

#define FROM_ENVELOPE(name, field)                   \
    static const char *name(const struct context *c) \
    {                                                \
        return c->envelope->field;                   \
    }
FROM_ENVELOPE(get_client_address, log_client_address)
FROM_ENVELOPE(get_client_helo, log_helo_name)
FROM_ENVELOPE(get_client_hostname, log_client_name)
FROM_ENVELOPE(get_client_port, log_client_port)
FROM_ENVELOPE(get_client_protocol, log_protocol_name)
FROM_ENVELOPE(get_sasl_method, sasl_method)
FROM_ENVELOPE(get_sasl_sender, sasl_sender)
FROM_ENVELOPE(get_sasl_username, sasl_username)
FROM_ENVELOPE(get_envid, envelope_id)

static const struct macro {
    const char *name;
    int of;
    const char *(*get)(const struct context *);
} macros[] = {
    {"client_address", OF_MESSAGE, get_client_address},
    {"client_helo", OF_MESSAGE, get_client_helo},
    {"client_hostname", OF_MESSAGE, get_client_hostname},
    {"client_port", OF_MESSAGE, get_client_port},
    {"client_protocol", OF_MESSAGE, get_client_protocol},
    {"domain", OF_RECIPIENT, get_domain},
    {"envid", OF_MESSAGE, get_envid},
    {"extension", OF_RECIPIENT, get_extension},
    {"mailbox", OF_RECIPIENT, get_mailbox},
    {"nexthop", OF_MESSAGE, get_nexthop},
    {"original_recipient", OF_RECIPIENT, get_original_recipient},
    {"queue_id", OF_MESSAGE, get_queue_id},
    {"recipient", OF_RECIPIENT, get_recipient},
    {"sasl_method", OF_MESSAGE, get_sasl_method},
    {"sasl_sender", OF_MESSAGE, get_sasl_sender},
    {"sasl_username", OF_MESSAGE, get_sasl_username},
    {"sender", OF_MESSAGE, get_sender},
    {"size", OF_MESSAGE, get_size},
    {"user", OF_RECIPIENT, get_user},
};

/* ---- words ---- */

static const struct macro *
find_macro(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(macros); i++)
        if (slice_equal_text(name, macros[i].name))
            return &macros[i];
    return NULL;
}

/* The next part of a word: text, or a macro (then *macro is set). False at the end. */
static bool
next_part(const char **at, struct slice *text, const struct macro **macro, struct err *err)
{
    const char *p = *at;
    size_t len;

    err->kind = ERR_NONE;
    *macro = NULL;
    if (!*p)
        return false;
    if (*p != '$' || p[1] == '$') {
        len = *p == '$' ? 1 : strcspn(p, "$");
        *text = slice_make(p, len);
        *at = p + len + (*p == '$');
        return true;
    }
    p++;
    if (*p == '{' || *p == '(') {
        len = strcspn(p + 1, *p == '{' ? "}" : ")");
        *text = slice_make(p + 1, len);
        *at = p + 1 + len + (p[1 + len] != '\0');
        if (!p[1 + len])
            err_set(err, ERR_SYNTAX, "truncated macro reference: \"%s\"", *at - len);
    } else {
        for (len = 0; text_is_alnum(p[len]) || p[len] == '_';)
            len++;
        *text = slice_make(p, len);
        *at = p + len;
    }
    *macro = find_macro(*text);
    if (!*macro && err->kind == ERR_NONE)
        err_set(err, ERR_SYNTAX, "unknown macro name: \"%.*s\"", SLICE_ARG(*text));
    return true;
}

int
pipe_macros_check(const char *argument, struct err *err)
{
    const struct macro *macro;
    struct slice text;

    while (next_part(&argument, &text, &macro, err))
        if (err->kind != ERR_NONE)
            return -1;
    return 0;
}

static bool
is_of_recipient(const char *word)
{
    const struct macro *macro;
    struct slice text;
    struct err err;

    while (next_part(&word, &text, &macro, &err))
        if (macro && macro->of == OF_RECIPIENT)
            return true;
    return false;
}

/* A word that begins with a macro, and whose value then begins with '-', is an option that somebody outside wrote. */
static int
expand(const struct context *c, const char *word, char **result, const char **dsn, struct err *err)
{
    struct buf out = {0};
    const struct macro *macro, *first = NULL;
    const char *at = word;
    struct slice text;

    while (next_part(&at, &text, &macro, err)) {
        if (out.len == 0 && macro)
            first = macro;
        if (macro)
            buf_append_text(&out, macro->get(c));
        else
            buf_append_slice(&out, text);
    }
    *result = arena_strndup(c->arena, out.ptr ? out.ptr : "", out.len);
    buf_release(&out);
    if (!first || (*result)[0] != '-' || c->settings->allow_min_user)
        return 0;
    if (first->get == get_sender)
        *dsn = "5.1.7";
    else
        *dsn = first->of == OF_RECIPIENT ? "5.1.3" : "5.7.0";
    return err_set(err, ERR_PERM, "bad address syntax: $%s begins with '-'", first->name);
}

static struct context
context_of(const struct pipe_attributes *attributes, const struct pipe_settings *settings, const struct delivery *d)
{
    return (struct context){.attributes = attributes,
                            .settings = settings,
                            .delivery = d,
                            .envelope = source_envelope(d->source),
                            .arena = d->arena};
}

int
pipe_check_recipient(const struct pipe_attributes *attributes, const struct pipe_settings *settings,
                     const struct delivery *d, unsigned i, const char **dsn, struct err *err)
{
    struct context c = context_of(attributes, settings, d);
    char *word;

    c.recipient = &d->request->recipients[i];
    for (char **at = attributes->argv; *at; at++)
        if (is_of_recipient(*at) && expand(&c, *at, &word, dsn, err) < 0)
            return -1;
    return 0;
}

int
pipe_arguments(const struct pipe_attributes *attributes, const struct pipe_settings *settings, const struct delivery *d,
               char ***argv, const char **dsn, struct err *err)
{
    struct context c = context_of(attributes, settings, d);
    size_t words = 0, count = 0, recipients = d->request->recipient_count;

    while (attributes->argv[words])
        words++;
    *argv = arena_array(d->arena, words * (recipients ? recipients : 1) + 1, sizeof **argv);
    for (size_t i = 0; i < words; i++) {
        bool repeats = is_of_recipient(attributes->argv[i]);

        for (size_t n = 0; n < (repeats ? recipients : 1); n++) {
            if (repeats && d->is_done[n])
                continue;
            c.recipient = &d->request->recipients[n];
            if (expand(&c, attributes->argv[i], &(*argv)[count++], dsn, err) < 0)
                return -1;
        }
    }
    return 0;
}
