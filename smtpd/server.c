/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/server.h"

#include <string.h>

#include "lib/base/log.h"
#include "smtpd/peer.h"
#include "smtpd/restrict.h"

/* ---- settings ---- */

static int
load_lists(struct server *server, struct err *err)
{
    const struct smtpd_settings *set = &server->set;
    const struct {
        struct match_list **list;
        const char *parameter, *text;
    } lists[] = {
        {&server->mynetworks, "mynetworks", set->mynetworks},
        {&server->bare_lf_exempt, "smtpd_forbid_bare_newline_exclusions", set->smtpd_forbid_bare_newline_exclusions},
        {&server->limits_exempt, "smtpd_client_event_limit_exceptions", set->smtpd_client_event_limit_exceptions},
    };

    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        unsigned flags = match_list_flags(set->parent_domain_matches_subdomains, lists[i].parameter);
        *lists[i].list = match_list_new(server->arena, lists[i].parameter, lists[i].text, flags, err);
        if (!*lists[i].list)
            return -1;
    }
    return 0;
}

/* A host that nothing keeps from relaying for strangers does not start. */
static int
check_relay_control(const struct server *server, struct err *err)
{
    static const char *const one_of[] = {"reject_unauth_destination", "defer_unauth_destination", "reject", "defer",
                                         "defer_if_permit"};

    for (size_t i = 0; i < ARRAY_LEN(one_of); i++)
        if (access_list_has(server->relay, one_of[i]) || access_list_has(server->recipient, one_of[i]))
            return 0;
    return err_set(
        err, ERR_PERM,
        "in parameter smtpd_relay_restrictions or smtpd_recipient_restrictions, specify at least one working "
        "instance of: reject_unauth_destination, defer_unauth_destination, reject, defer or defer_if_permit");
}

static int
load_restrictions(struct server *server, struct err *err)
{
    const struct smtpd_settings *set = &server->set;
    const struct {
        struct access_list **list;
        const char *parameter, *text;
    } lists[] = {
        {&server->client, "smtpd_client_restrictions", set->smtpd_client_restrictions},
        {&server->helo, "smtpd_helo_restrictions", set->smtpd_helo_restrictions},
        {&server->sender, "smtpd_sender_restrictions", set->smtpd_sender_restrictions},
        {&server->relay, "smtpd_relay_restrictions", set->smtpd_relay_restrictions},
        {&server->recipient, "smtpd_recipient_restrictions", set->smtpd_recipient_restrictions},
        {&server->data, "smtpd_data_restrictions", set->smtpd_data_restrictions},
        {&server->end_of_data, "smtpd_end_of_data_restrictions", set->smtpd_end_of_data_restrictions},
    };

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        *lists[i].list = access_list_new(server->arena, lists[i].parameter, lists[i].text);
    return check_relay_control(server, err);
}

/* "no" means what "normalize" means: a bare LF never ends a message here. */
static int
load_bare_lf(struct server *server, struct err *err)
{
    struct slice text = slice_from(server->set.smtpd_forbid_bare_newline);

    if (slice_equal_text_fold(text, "normalize") || slice_equal_text_fold(text, "yes") ||
        slice_equal_text_fold(text, "no"))
        server->bare_lf = BARE_LF_NORMALIZE;
    else if (slice_equal_text_fold(text, "note"))
        server->bare_lf = BARE_LF_NOTE;
    else if (slice_equal_text_fold(text, "reject"))
        server->bare_lf = BARE_LF_REJECT;
    else
        return err_set(err, ERR_SYNTAX, "bad value of smtpd_forbid_bare_newline: \"%.*s\"", SLICE_ARG(text));
    return 0;
}

/* ---- TLS ---- */

static int
load_tls_level(struct server *server, struct err *err)
{
    const struct smtpd_settings *set = &server->set;
    struct slice level = slice_from(set->smtpd_tls_security_level);

    if (slice_equal_text_fold(level, "encrypt") || slice_equal_text_fold(level, "verify") ||
        slice_equal_text_fold(level, "secure"))
        server->tls_level = TLS_LEVEL_ENCRYPT;
    else if (slice_equal_text_fold(level, "may"))
        server->tls_level = TLS_LEVEL_MAY;
    else if (slice_equal_text_fold(level, "none"))
        server->tls_level = TLS_LEVEL_NONE;
    else if (level.len > 0)
        return err_set(err, ERR_SYNTAX, "bad value of smtpd_tls_security_level: \"%.*s\"", SLICE_ARG(level));
    else
        server->tls_level = set->smtpd_enforce_tls ? TLS_LEVEL_ENCRYPT
                            : set->smtpd_use_tls   ? TLS_LEVEL_MAY
                                                   : TLS_LEVEL_NONE;
    if (set->smtpd_tls_wrappermode)
        server->tls_level = TLS_LEVEL_ENCRYPT;
    return 0;
}

/* The first certificate file that is set: smtpd_tls_chain_files, smtpd_tls_eccert_file, smtpd_tls_cert_file. */
static bool
find_certificate(struct server *server, struct tls_settings *tls)
{
    const struct smtpd_settings *set = &server->set;
    struct slice rest = slice_from(set->smtpd_tls_chain_files), file;

    if (slice_word(&rest, ", \t\r\n", &file)) {
        tls->cert_file = arena_strndup(server->arena, file.ptr, file.len);
        return true;
    }
    bool rsa = set->smtpd_tls_cert_file[0] && strcmp(set->smtpd_tls_cert_file, "none") != 0;
    tls->cert_file = rsa ? set->smtpd_tls_cert_file : set->smtpd_tls_eccert_file;
    tls->key_file = rsa ? set->smtpd_tls_key_file : set->smtpd_tls_eckey_file;
    return tls->cert_file[0] != '\0';
}

/* Keys are read while that is allowed. A key that does not work costs TLS, not the service, unless TLS is a must. */
static int
load_tls(struct server *server, struct err *err)
{
    struct tls_settings tls = {.role = TLS_SERVER, .session_tickets = true};

    if (load_tls_level(server, err) < 0)
        return -1;
    if (server->tls_level == TLS_LEVEL_NONE)
        return 0;
    tls.protocols = server->tls_level == TLS_LEVEL_ENCRYPT ? server->set.smtpd_tls_mandatory_protocols
                                                           : server->set.smtpd_tls_protocols;
    if (!find_certificate(server, &tls)) {
        if (server->set.smtpd_tls_wrappermode)
            return err_set(err, ERR_PERM, "smtpd_tls_wrappermode needs smtpd_tls_cert_file or smtpd_tls_chain_files");
        log_warning("No server certs available. TLS won't be enabled");
        return 0;
    }
    server->tls = tls_context_new(&tls, err);
    if (server->tls)
        return 0;
    if (server->set.smtpd_tls_wrappermode)
        return -1;
    log_warning("TLS library problem: %s", err->text);
    log_warning("TLS is not available");
    return 0;
}

/* ---- the server ---- */

struct server *
server_new(struct arena *arena, const struct conf *conf, const char *service, struct err *err)
{
    struct server *server = ARENA_NEW(arena, struct server);

    server->arena = arena;
    server->service = arena_strdup(arena, service);
    if (smtpd_settings_load(&server->set, conf, arena, err) < 0 || load_lists(server, err) < 0 ||
        load_restrictions(server, err) < 0 || load_bare_lf(server, err) < 0 || load_tls(server, err) < 0)
        return NULL;
    server->hosts = peer_read_hosts(arena, "/etc/hosts");
    server->peers = peer_cache_new();
    return server;
}

void
server_connect(struct server *server, const char *(*path)(const char *class_and_name))
{
    const struct smtpd_settings *set = &server->set;
    struct arena *arena = server->arena;

    server->router = router_new(path(arena_printf(arena, "private/%s", set->rewrite_service_name)));
    server->submitter = submitter_new(path(arena_printf(arena, "public/%s", set->cleanup_service_name)));
    server->dns = dns_client_new(path(arena_printf(arena, "private/%s", set->resolver_service_name)));
    server->anvil = link_connect(path("private/anvil"), NULL, 0, NULL, NULL);
}

void
server_free(struct server **server)
{
    struct server *s = *server;

    if (!s)
        return;
    router_free(&s->router);
    submitter_free(&s->submitter);
    dns_client_free(&s->dns);
    if (s->anvil)
        link_free(&s->anvil);
    if (s->tls)
        tls_context_free(&s->tls);
    peer_cache_free(&s->peers);
    map_free(&s->hosts, NULL);
    *server = NULL;
}
