/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/client.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/log.h"
#include "lib/conf/settings_tlslib.h"
#include "lib/mail/agent.h"
#include "lib/service/service.h"
#include "smtp/cache.h"
#include "smtp/checks.h"
#include "smtp/destination.h"
#include "smtp/features.h"
#include "smtp/generic.h"
#include "smtp/pix.h"
#include "smtp/tls_policy.h"

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
    client->with_dnssec =
        strcasecmp(set->smtp_dns_support_level, "dnssec") == 0 && list_has(set->smtp_host_lookup, "dns");
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
    const struct smtp_settings *set = &client->set;

    client->tls_level = set->smtp_enforce_tls ? (set->smtp_tls_enforce_peername ? TLS_VERIFY : TLS_ENCRYPT)
                        : set->smtp_use_tls   ? TLS_MAY
                                              : TLS_NONE;
    if (!*set->smtp_tls_security_level || tls_level_parse(set->smtp_tls_security_level, &client->tls_level) == 0)
        return 0;
    /* To send without the protection that was asked for would be worse than not to send. */
    return err_set(err, ERR_PERM, "parameter smtp_tls_security_level: \"%s\" is not supported",
                   set->smtp_tls_security_level);
}

static char *
exclude_ciphers(struct arena *arena, char *list, const char *text)
{
    struct slice rest = slice_from(text), word;

    while (slice_word(&rest, ", :\t\r\n", &word))
        list = arena_printf(arena, "%s:!%.*s", list, SLICE_ARG(word));
    return list;
}

const char *
client_ciphers(const struct client *client, struct arena *arena, const char *grade, bool mandatory, const char *exclude)
{
    char *list = arena_strdup(arena, strcasecmp(grade, "high") == 0   ? client->high_ciphers
                                     : strcasecmp(grade, "null") == 0 ? client->null_ciphers
                                                                      : client->medium_ciphers);

    list = exclude_ciphers(arena, list, client->set.smtp_tls_exclude_ciphers);
    if (mandatory)
        list = exclude_ciphers(arena, list, client->set.smtp_tls_mandatory_exclude_ciphers);
    return exclude_ciphers(arena, list, exclude);
}

static int
load_ciphers(struct client *client, const struct conf *conf, struct arena *arena, struct err *err)
{
    struct tlslib_settings library;

    if (tlslib_settings_load(&library, conf, arena, err) < 0)
        return -1;
    client->tls_options = library.tls_ssl_options;
    client->wide_wildcards = library.tls_wildcard_matches_multiple_labels;
    client->tls_groups = arena_printf(arena, "%s %s", library.tls_eecdh_auto_curves, library.tls_ffdhe_auto_groups);
    client->high_ciphers = library.tls_high_cipherlist;
    client->medium_ciphers = library.tls_medium_cipherlist;
    client->null_ciphers = library.tls_null_cipherlist;
    client->ciphers = client_ciphers(client, arena, client->set.smtp_tls_ciphers, false, "");
    client->mandatory_ciphers = client_ciphers(client, arena, client->set.smtp_tls_mandatory_ciphers, true, "");
    client->verifying_ciphers = client_ciphers(client, arena, client->set.smtp_tls_mandatory_ciphers, true, "aNULL");
    client->dane_digests = library.tls_dane_digests;
    return 0;
}

static int
load_insecure_mx_level(struct client *client, struct err *err)
{
    const char *text = client->set.smtp_tls_dane_insecure_mx_policy;

    if (tls_level_parse(text, &client->insecure_mx_level) == 0 &&
        (client->insecure_mx_level == TLS_MAY || client->insecure_mx_level == TLS_ENCRYPT ||
         client->insecure_mx_level == TLS_DANE))
        return 0;
    return err_set(err, ERR_SYNTAX, "parameter smtp_tls_dane_insecure_mx_policy: \"%s\": may, encrypt or dane", text);
}

enum { CHAINS_MOST = 32 };

/* smtp_tls_chain_files, or the certificate files of old. */
static void
set_certificates(const struct smtp_settings *set, struct arena *arena, struct tls_settings *tls)
{
    const char **chains = arena_array(arena, CHAINS_MOST + 1, sizeof *chains);
    struct slice rest = slice_from(set->smtp_tls_chain_files), file;
    size_t count = 0;

    while (count < CHAINS_MOST && slice_word(&rest, ", \t\r\n", &file))
        chains[count++] = arena_strndup(arena, file.ptr, file.len);
    if (count > 0) {
        tls->chain_files = chains;
        return;
    }
    tls->cert_file = set->smtp_tls_cert_file;
    tls->key_file = set->smtp_tls_key_file;
    tls->cert_file2 = set->smtp_tls_eccert_file;
    tls->key_file2 = set->smtp_tls_eckey_file;
}

/* trusted: by certificate authorities; dane_digests: by TLSA records; neither: any certificate. */
static struct tls_context *
make_context(const struct client *client, struct arena *arena, bool trusted, const char *dane_digests, struct err *err)
{
    const struct smtp_settings *set = &client->set;
    struct tls_settings tls = {.role = TLS_CLIENT,
                               .ca_file = dane_digests ? NULL : set->smtp_tls_CAfile,
                               .ca_path = dane_digests ? NULL : set->smtp_tls_CApath,
                               .verify_depth = (int)set->smtp_tls_scert_verifydepth,
                               .options = client->tls_options,
                               .groups = client->tls_groups,
                               .wide_wildcards = client->wide_wildcards,
                               .verify_peer = trusted || dane_digests,
                               .dane_digests = dane_digests};

    set_certificates(set, arena, &tls);
    return tls_context_new(&tls, err);
}

static int
load_tls(struct client *client, const struct conf *conf, struct arena *arena, struct err *err)
{
    const struct smtp_settings *set = &client->set;
    unsigned long long level;

    if (load_tls_level(client, err) < 0 || load_ciphers(client, conf, arena, err) < 0 ||
        load_insecure_mx_level(client, err) < 0)
        return -1;
    if (slice_to_u64(slice_from(set->smtp_tls_loglevel), 4, &level) < 0)
        return err_set(err, ERR_SYNTAX, "smtp_tls_loglevel: bad value: %s", set->smtp_tls_loglevel);
    client->tls_loglevel = (int)level;
    client->tls_policies =
        maps_new(arena, conf, "smtp_tls_policy_maps", set->smtp_tls_policy_maps, TABLE_FOLD_FIXED, err);
    if (!client->tls_policies)
        return -1;
    if (client->tls_level == TLS_NONE && maps_is_empty(client->tls_policies))
        return 0;
    client->tls = make_context(client, arena, false, NULL, err);
    if (!client->tls)
        return -1;
    client->tls_trusted = make_context(client, arena, true, NULL, err);
    if (!client->tls_trusted)
        return -1;
    bool is_dane = client->tls_level == TLS_DANE || client->tls_level == TLS_DANE_ONLY;
    if (is_dane && !client->with_dnssec)
        log_warning("%s = %s needs smtp_dns_support_level = dnssec, and dns in smtp_host_lookup: mail is deferred",
                    client->lmtp ? "lmtp_tls_security_level" : "smtp_tls_security_level", set->smtp_tls_security_level);
    if (!is_dane && maps_is_empty(client->tls_policies))
        return 0;
    client->tls_dane = make_context(client, arena, false, client->dane_digests, err);
    return client->tls_dane ? 0 : -1;
}

/* ---- passwords ---- */

static int
load_passwords(struct client *client, const struct conf *conf, struct arena *arena, struct err *err)
{
    const struct smtp_settings *set = &client->set;

    client->sasl_passwords = maps_new(arena, conf, "smtp_sasl_password_maps", set->smtp_sasl_password_maps,
                                      TABLE_FOLD_FIXED | TABLE_NO_REGSUB, err);
    if (!client->sasl_passwords)
        return -1;
    client->sasl_filter =
        match_list_new(arena, conf, "smtp_sasl_mechanism_filter", set->smtp_sasl_mechanism_filter, 0, err);
    if (!client->sasl_filter)
        return -1;
    if (set->smtp_sasl_auth_enable && maps_is_empty(client->sasl_passwords))
        return err_set(err, ERR_PERM, "parameter smtp_sasl_auth_enable needs smtp_sasl_password_maps");
    return 0;
}

/* ---- replies ---- */

static int
load_reply_filter(struct client *client, const struct conf *conf, struct arena *arena, struct err *err)
{
    const char *text = client->set.smtp_reply_filter;

    if (slice_trim(slice_from(text)).len == 0)
        return 0;
    client->reply_filter =
        maps_new(arena, conf, client->lmtp ? "lmtp_reply_filter" : "smtp_reply_filter", text, TABLE_NO_UTF8, err);
    return client->reply_filter ? 0 : -1;
}

static int
load_workarounds(struct client *client, const struct conf *conf, struct arena *arena, struct err *err)
{
    const struct smtp_settings *set = &client->set;
    unsigned workarounds;

    if (pix_parse(slice_from(set->smtp_pix_workarounds), &workarounds, err) < 0)
        return err_context(err, "parameter %s_pix_workarounds", client->lmtp ? "lmtp" : "smtp");
    client->pix_maps = maps_new(arena, conf, client->lmtp ? "lmtp_pix_workaround_maps" : "smtp_pix_workaround_maps",
                                set->smtp_pix_workaround_maps, TABLE_FOLD_FIXED, err);
    return client->pix_maps ? 0 : -1;
}

/* LMTP's own parameters are named after its LHLO. */
static int
load_ignored(struct client *client, const struct conf *conf, struct arena *arena, struct err *err)
{
    const char *name = "smtp_discard_ehlo_keyword_address_maps",
               *maps = client->set.smtp_discard_ehlo_keyword_address_maps;

    client->ignored = client->set.smtp_discard_ehlo_keywords;
    if (client->lmtp) {
        name = "lmtp_discard_lhlo_keyword_address_maps";
        client->ignored = client->set.lmtp_discard_lhlo_keywords;
        maps = client->set.lmtp_discard_lhlo_keyword_address_maps;
    }
    client->ignored_maps = maps_new(arena, conf, name, maps, TABLE_FOLD_FIXED, err);
    return client->ignored_maps ? 0 : -1;
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
    if (load_ignored(client, conf, arena, err) < 0 || load_port(client, err) < 0 ||
        load_hello(client, conf, arena, err) < 0 || load_lookup(client, conf, arena, err) < 0 ||
        load_bind_addresses(client, err) < 0 || load_reply_filter(client, conf, arena, err) < 0 ||
        load_workarounds(client, conf, arena, err) < 0)
        return -1;
    client->filter =
        delivery_filter_new(arena, conf, lmtp ? "lmtp_delivery_status_filter" : "smtp_delivery_status_filter",
                            client->set.smtp_delivery_status_filter, err);
    if (!client->filter)
        return -1;
    if (generic_new(arena, conf, lmtp ? "lmtp_generic_maps" : "smtp_generic_maps", client->set.smtp_generic_maps,
                    client->set.propagate_unmatched_extensions, &client->generic, err) < 0)
        return -1;
    if (checks_new(arena, conf, &client->set, lmtp, &client->checks, err) < 0)
        return -1;
    return load_tls(client, conf, arena, err) < 0 ? -1 : load_passwords(client, conf, arena, err);
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
