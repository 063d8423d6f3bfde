/* SPDX-License-Identifier: Apache-2.0 */
/* What `postfix check` says of values that are right for their type, but that the program which reads them will not take: levels,
 * classes, lists, certificates, transports, access restrictions. */
#include "tools/postfix_values.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/conf/param.h"
#include "lib/conf/restriction.h"
#include "lib/conf/settings.h"
#include "lib/run/tls.h"
#include "lib/table/match_list.h"

const char *
scope_place(const struct scope *scope, const char *name)
{
    struct arena *arena = scope->c->arena;
    const struct master_service *service = scope->service;
    if (service)
        return arena_printf(arena, "%s, line %u: service %s: -o %s", scope->master->path, service->line, service->name,
                            name);
    const char *place = conf_where(scope->conf, arena, name);
    return place ? place : arena_printf(arena, "%s/main.cf", conf_directory(scope->conf));
}

/* --- kinds of values: -1 and *err say what is wrong with one --- */

static bool
is_among(const char *words, struct slice word)
{
    struct slice rest = slice_from(words), known;
    while (slice_word(&rest, " ", &known))
        if (slice_equal_fold(known, word))
            return true;
    return false;
}

static int
check_words(const struct scope *scope, const char *value, const char *detail, struct err *err)
{
    struct slice rest = slice_from(value), word;
    (void)scope;
    while (slice_word(&rest, ", \t\r\n", &word))
        if (!is_among(detail, word))
            return err_set(err, ERR_SYNTAX, "unknown word \"%.*s\" (known: %s)", SLICE_ARG(word), detail);
    return 0;
}

static int
check_word(const struct scope *scope, const char *value, const char *detail, struct err *err)
{
    if (strpbrk(value, ", \t"))
        return err_set(err, ERR_SYNTAX, "\"%s\" is more than one word (known: %s)", value, detail);
    return check_words(scope, value, detail, err);
}

static int
check_hosts(const struct scope *scope, const char *value, const char *detail, struct err *err)
{
    return match_list_new(scope->c->arena, scope->conf, detail, value, 0, err) ? 0 : -1;
}

static int
check_interfaces(const struct scope *scope, const char *value, const char *detail, struct err *err)
{
    struct interfaces found;
    (void)detail;
    return interfaces_parse(scope->conf, scope->c->arena, value, &found, err);
}

static int
make_context(const struct tls_settings *settings, struct err *err)
{
    struct tls_context *context = tls_context_new(settings, err);
    if (!context)
        return -1;
    tls_context_free(&context);
    return 0;
}

static int
check_tls_versions(const struct scope *scope, const char *value, const char *detail, struct err *err)
{
    struct tls_settings settings = {.role = TLS_CLIENT, .protocols = value};
    (void)scope;
    (void)detail;
    return make_context(&settings, err);
}

/* detail: the parameter of its key. */
static int
check_certificate(const struct scope *scope, const char *value, const char *detail, struct err *err)
{
    const char *key = conf_string(scope->conf, scope->c->arena, detail, err);
    struct tls_settings settings = {.role = TLS_SERVER, .cert_file = value, .key_file = key};
    if (!key)
        return -1;
    return strcmp(value, "none") == 0 ? 0 : make_context(&settings, err);
}

static int
check_chains(const struct scope *scope, const char *value, const char *detail, struct err *err)
{
    struct slice rest = slice_from(value), word;
    (void)detail;
    while (slice_word(&rest, ", \t\r\n", &word)) {
        const char *files[] = {arena_strndup(scope->c->arena, word.ptr, word.len), NULL};
        if (access(files[0], R_OK) < 0)
            return err_set(err, ERR_IO, "open %s: %s", files[0], strerror(errno));
    }
    return 0;
}

static int
check_file(const struct scope *scope, const char *value, const char *detail, struct err *err)
{
    (void)scope;
    (void)detail;
    return access(value, R_OK) < 0 ? err_set(err, ERR_IO, "open %s: %s", value, strerror(errno)) : 0;
}

static int
check_authorities(const struct scope *scope, const char *value, const char *detail, struct err *err)
{
    struct tls_settings settings = {.role = TLS_CLIENT, .ca_file = value};
    return check_file(scope, value, detail, err) < 0 ? -1 : make_context(&settings, err);
}

/* "transport:nexthop": the transport is a service. */
static int
check_transport(const struct scope *scope, const char *value, const char *detail, struct err *err)
{
    struct slice rest = slice_from(value), name;
    (void)detail;
    slice_cut(&rest, ':', &name);
    if (!scope->master)
        return 0;
    for (size_t i = 0; i < scope->master->count; i++)
        if (slice_equal_text(name, scope->master->services[i].name) && scope->master->services[i].type != SERVICE_INET)
            return 0;
    return err_set(err, ERR_PERM, "mail transport \"%.*s\" is no service of master.cf", SLICE_ARG(name));
}

/* --- access restrictions --- */

static bool
is_class(const struct scope *scope, struct slice name)
{
    struct err err;
    const char *classes = conf_string(scope->conf, scope->c->arena, "smtpd_restriction_classes", &err);
    struct slice rest = slice_from(classes), word;
    while (slice_word(&rest, ", \t\r\n", &word))
        if (slice_equal(word, name))
            return true;
    return false;
}

static void
check_restrictions(const struct scope *scope, const char *name, const char *value)
{
    struct slice rest = slice_from(value), word, argument;
    while (slice_word_braced(&rest, ", \t\r\n", &word)) {
        const struct restriction_name *known = restriction_find(word);
        const char *place = scope_place(scope, name);
        if (!known && !is_class(scope, word) && !slice_has_byte(word, ':'))
            say_warning("%s: %s: unknown smtpd restriction: \"%.*s\": what reaches it is refused for now", place, name,
                        SLICE_ARG(word));
        else if (known && known->not_yet)
            say_warning("%s: %s: restriction %s is not built yet: what reaches it is refused for now", place, name,
                        known->name);
        else if (known && known->instead)
            say_warning("%s: %s: restriction %s is out of date; use %s instead", place, name, known->name,
                        known->instead);
        if (known && known->argument != ARGUMENT_NONE && !slice_word_braced(&rest, ", \t\r\n", &argument))
            say_warning("%s: %s: restriction %s needs an argument", place, name, known->name);
    }
}

/* --- which parameter has which --- */

static const char client_levels[] = "none may encrypt fingerprint dane dane-only verify secure";
static const char address_classes[] = "envelope_sender envelope_recipient header_sender header_recipient";

static const struct rule {
    const char *name;
    int (*judge)(const struct scope *, const char *value, const char *detail, struct err *);
    const char *detail;
} rules[] = {
    {"smtpd_tls_security_level", check_word, "none may encrypt"},
    {"smtp_tls_security_level", check_word, client_levels},
    {"lmtp_tls_security_level", check_word, client_levels},
    {"smtpd_tls_protocols", check_tls_versions, ""},
    {"smtpd_tls_mandatory_protocols", check_tls_versions, ""},
    {"smtp_tls_protocols", check_tls_versions, ""},
    {"smtp_tls_mandatory_protocols", check_tls_versions, ""},
    {"lmtp_tls_protocols", check_tls_versions, ""},
    {"lmtp_tls_mandatory_protocols", check_tls_versions, ""},
    {"smtpd_tls_ciphers", check_word, "export low medium high null"},
    {"smtpd_tls_mandatory_ciphers", check_word, "export low medium high null"},
    {"smtp_tls_ciphers", check_word, "export low medium high null"},
    {"smtp_tls_mandatory_ciphers", check_word, "export low medium high null"},
    {"lmtp_tls_ciphers", check_word, "export low medium high null"},
    {"lmtp_tls_mandatory_ciphers", check_word, "export low medium high null"},
    {"smtpd_tls_cert_file", check_certificate, "smtpd_tls_key_file"},
    {"smtpd_tls_eccert_file", check_certificate, "smtpd_tls_eckey_file"},
    {"smtp_tls_cert_file", check_certificate, "smtp_tls_key_file"},
    {"lmtp_tls_cert_file", check_certificate, "lmtp_tls_key_file"},
    {"login_tls_cert_file", check_certificate, "login_tls_key_file"},
    {"smtpd_tls_chain_files", check_chains, ""},
    {"smtpd_tls_CAfile", check_authorities, ""},
    {"smtp_tls_CAfile", check_authorities, ""},
    {"lmtp_tls_CAfile", check_authorities, ""},
    {"login_tls_CAfile", check_authorities, ""},
    {"smtpd_tls_CApath", check_file, ""},
    {"smtp_tls_CApath", check_file, ""},
    {"lmtp_tls_CApath", check_file, ""},
    {"mynetworks", check_hosts, "mynetworks"},
    {"permit_mx_backup_networks", check_hosts, "permit_mx_backup_networks"},
    {"smtpd_authorized_xclient_hosts", check_hosts, "smtpd_authorized_xclient_hosts"},
    {"smtpd_authorized_xforward_hosts", check_hosts, "smtpd_authorized_xforward_hosts"},
    {"smtpd_authorized_verp_clients", check_hosts, "smtpd_authorized_verp_clients"},
    {"smtpd_sasl_exceptions_networks", check_hosts, "smtpd_sasl_exceptions_networks"},
    {"smtpd_client_event_limit_exceptions", check_hosts, "smtpd_client_event_limit_exceptions"},
    {"smtpd_forbid_bare_newline_exclusions", check_hosts, "smtpd_forbid_bare_newline_exclusions"},
    {"mydestination", check_hosts, "mydestination"},
    {"relay_domains", check_hosts, "relay_domains"},
    {"virtual_alias_domains", check_hosts, "virtual_alias_domains"},
    {"virtual_mailbox_domains", check_hosts, "virtual_mailbox_domains"},
    {"inet_protocols", check_words, "all ipv4 ipv6"},
    {"inet_interfaces", check_interfaces, ""},
    {"proxy_interfaces", check_interfaces, ""},
    {"notify_classes", check_words, "2bounce bounce data delay policy protocol resource software"},
    {"canonical_classes", check_words, address_classes},
    {"sender_canonical_classes", check_words, address_classes},
    {"recipient_canonical_classes", check_words, address_classes},
    {"masquerade_classes", check_words, address_classes},
    {"propagate_unmatched_extensions", check_words, "canonical virtual alias forward include generic"},
    {"allow_mail_to_commands", check_words, "alias forward include"},
    {"allow_mail_to_files", check_words, "alias forward include"},
    {"mailbox_delivery_lock", check_words, "flock fcntl dotlock"},
    {"virtual_mailbox_lock", check_words, "flock fcntl dotlock"},
    {"local_transport", check_transport, ""},
    {"virtual_transport", check_transport, ""},
    {"relay_transport", check_transport, ""},
    {"default_transport", check_transport, ""},
    {"mailbox_transport", check_transport, ""},
    {"fallback_transport", check_transport, ""},
};

static bool
is_restriction_list(const struct scope *scope, const char *name)
{
    size_t len = strlen(name);
    static const char end[] = "_restrictions";
    return (strncmp(name, "smtpd_", 6) == 0 && len > sizeof end && strcmp(name + len - (sizeof end - 1), end) == 0) ||
           is_class(scope, slice_from(name));
}

/* -1: the value can't be used (said already). */
int
check_typed_value(const struct scope *scope, const char *name)
{
    struct err err;
    int index = param_find(slice_from(name));
    if (index < 0 || settings_check(scope->conf, scope->c->arena, (unsigned)index, &err) == 0)
        return 0;
    if (scope->service)
        say_fatal("%s, line %u: service %s: %s", scope->master->path, scope->service->line, scope->service->name,
                  err.text);
    else
        say_fatal("%s", err.text);
    return -1;
}

int
check_special_value(const struct scope *scope, const char *name)
{
    struct err err;
    const char *raw = conf_raw(scope->conf, name),
               *value = raw ? conf_expand(scope->conf, scope->c->arena, raw, &err) : NULL;
    int result = 0;
    if (!value)
        return 0; /* check_typed_value() says so */
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (strcmp(rules[i].name, name) == 0 && *value && rules[i].judge(scope, value, rules[i].detail, &err) < 0) {
            say_fatal("%s: parameter %s: %s", scope_place(scope, name), name, err.text);
            result = -1;
        }
    if (is_restriction_list(scope, name))
        check_restrictions(scope, name, value);
    return result;
}
