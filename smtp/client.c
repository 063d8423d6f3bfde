/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/client.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/log.h"
#include "lib/conf/settings_tlslib.h"
#include "lib/service/service.h"
#include "smtp/cache.h"
#include "smtp/destination.h"
#include "smtp/features.h"

static int
load_port(struct client *client, struct err *err)
{
    const char *text = client->lmtp ? client->set.lmtp_tcp_port : client->set.smtp_tcp_port;
    int port = destination_port(slice_from(text));
    const struct servent *service = port < 0 ? getservbyname(text, "tcp") : NULL;

    if (service)
        port = ntohs((uint16_t)service->s_port);
    if (port < 0)
        return err_set(err, ERR_SYNTAX, "parameter %s_tcp_port: unknown service %s", client->lmtp ? "lmtp" : "smtp",
                       text);
    client->port = (unsigned)port;
    return 0;
}

static int
load_hello(struct client *client, const struct conf *conf, struct arena *arena, struct err *err)
{
    client->hello_name = client->set.smtp_helo_name;
    client->hello_timeout = client->set.smtp_helo_timeout;
    if (!client->lmtp)
        return 0;
    client->hello_name = conf_string(conf, arena, "lmtp_lhlo_name", err);
    if (!client->hello_name || conf_time(conf, "lmtp_lhlo_timeout", &client->hello_timeout, err) < 0)
        return -1;
    return 0;
}

static bool
list_has(const char *list, const char *wanted)
{
    struct slice rest = slice_from(list), word;

    while (slice_word(&rest, ", \t\r\n", &word))
        if (slice_equal_text_fold(word, wanted))
            return true;
    return false;
}

static int
load_lookup(struct client *client, const struct conf *conf, struct arena *arena, struct err *err)
{
    const struct smtp_settings *set = &client->set;

    client->with_dns = *set->smtp_dns_support_level ? strcasecmp(set->smtp_dns_support_level, "disabled") != 0
                                                    : !set->disable_dns_lookups;
    client->native_lookup = !client->with_dns || list_has(set->smtp_host_lookup, "native");
    if (interfaces_load(conf, arena, &client->interfaces, err) < 0 ||
        interfaces_parse(conf, arena, set->proxy_interfaces, &client->proxies, err) < 0)
        return -1;
    return 0;
}

static int
load_bind_address(const char *text, sa_family_t family, const char *name, struct net_addr *addr, bool *has,
                  struct err *err)
{
    if (!*text)
        return 0;
    if (net_addr_parse(text, 0, addr, err) < 0)
        return err_context(err, "parameter %s", name);
    if (addr->any.sa_family != family)
        return err_set(err, ERR_SYNTAX, "parameter %s: not an address of that protocol: %s", name, text);
    *has = true;
    return 0;
}

static int
load_bind_addresses(struct client *client, struct err *err)
{
    if (load_bind_address(client->set.smtp_bind_address, AF_INET, "smtp_bind_address", &client->bind4,
                          &client->has_bind4, err) < 0)
        return -1;
    return load_bind_address(client->set.smtp_bind_address6, AF_INET6, "smtp_bind_address6", &client->bind6,
                             &client->has_bind6, err);
}

/* ---- TLS ---- */

static int
load_tls_level(struct client *client, struct err *err)
{
    static const struct {
        const char *name;
        enum tls_level level;
    } levels[] = {
        {"none", TLS_NONE}, {"may", TLS_MAY}, {"encrypt", TLS_ENCRYPT}, {"verify", TLS_VERIFY}, {"secure", TLS_SECURE}};
    const struct smtp_settings *set = &client->set;

    client->tls_level = set->smtp_enforce_tls ? TLS_ENCRYPT : set->smtp_use_tls ? TLS_MAY : TLS_NONE;
    if (!*set->smtp_tls_security_level)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (strcasecmp(set->smtp_tls_security_level, levels[i].name) == 0) {
            client->tls_level = levels[i].level;
            return 0;
        }
    /* To send without the protection that was asked for would be worse than not to send. */
    return err_set(err, ERR_PERM, "parameter smtp_tls_security_level: \"%s\" is not supported",
                   set->smtp_tls_security_level);
}

static const char *
cipher_list(const struct client *client, const struct tlslib_settings *library, struct arena *arena)
{
    bool mandatory = client->tls_level >= TLS_ENCRYPT;
    const char *grade = mandatory ? client->set.smtp_tls_mandatory_ciphers : client->set.smtp_tls_ciphers;
    struct slice excluded = slice_from(client->set.smtp_tls_exclude_ciphers), word;
    char *list = arena_strdup(arena, strcasecmp(grade, "high") == 0   ? library->tls_high_cipherlist
                                     : strcasecmp(grade, "null") == 0 ? library->tls_null_cipherlist
                                                                      : library->tls_medium_cipherlist);

    while (slice_word(&excluded, ", :\t\r\n", &word))
        list = arena_printf(arena, "%s:!%.*s", list, SLICE_ARG(word));
    excluded = slice_from(mandatory ? client->set.smtp_tls_mandatory_exclude_ciphers : "");
    while (slice_word(&excluded, ", :\t\r\n", &word))
        list = arena_printf(arena, "%s:!%.*s", list, SLICE_ARG(word));
    return list;
}

static int
load_tls(struct client *client, const struct conf *conf, struct arena *arena, struct err *err)
{
    const struct smtp_settings *set = &client->set;
    struct tlslib_settings library;
    unsigned long long level;
    bool mandatory;

    if (load_tls_level(client, err) < 0 || tlslib_settings_load(&library, conf, arena, err) < 0)
        return -1;
    if (slice_to_u64(slice_from(set->smtp_tls_loglevel), 4, &level) < 0)
        return err_set(err, ERR_SYNTAX, "smtp_tls_loglevel: bad value: %s", set->smtp_tls_loglevel);
    client->tls_loglevel = (int)level;
    if (client->tls_level == TLS_NONE)
        return 0;
    mandatory = client->tls_level >= TLS_ENCRYPT;
    client->tls = tls_context_new(
        &(struct tls_settings){.role = TLS_CLIENT,
                               .cert_file = set->smtp_tls_cert_file,
                               .key_file = set->smtp_tls_key_file,
                               .ca_file = set->smtp_tls_CAfile,
                               .ca_path = set->smtp_tls_CApath,
                               .protocols = mandatory ? set->smtp_tls_mandatory_protocols : set->smtp_tls_protocols,
                               .ciphers = cipher_list(client, &library, arena),
                               .verify_peer = client->tls_level >= TLS_VERIFY},
        err);
    return client->tls ? 0 : -1;
}

/* ---- the start ---- */

int
client_prepare(struct client *client, struct conf *conf, bool lmtp, struct err *err)
{
    struct arena *arena = arena_new(); /* for the life of the process */

    *client = (struct client){.lmtp = lmtp};
    if (lmtp)
        conf_rename(conf, "smtp_", "lmtp_");
    if (smtp_settings_load(&client->set, conf, arena, err) < 0)
        return -1;
    client->ignored = features_from_list(slice_from(client->set.smtp_discard_ehlo_keywords));
    if (load_port(client, err) < 0 || load_hello(client, conf, arena, err) < 0 ||
        load_lookup(client, conf, arena, err) < 0 || load_bind_addresses(client, err) < 0)
        return -1;
    return load_tls(client, conf, arena, err);
}

void
client_start(struct client *client)
{
    struct arena *arena = arena_new();

    client->dns =
        dns_client_new(service_socket_path(arena_printf(arena, "private/%s", client->set.resolver_service_name)));
    client->cache = cache_new(client);
    arena_free(&arena);
}
