/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/server.h"

#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "smtpd/local_client.h"
#include "smtpd/peer.h"
#include "smtpd/policy.h"
#include "smtpd/restrict.h"
#include "smtpd/server_tls.h"

/* ---- settings ---- */

static int
load_lists(struct server *server, const struct conf *conf, struct err *err)
{
    const struct smtpd_settings *set = &server->set;
    const struct {
        struct match_list **list;
        const char *parameter, *text;
    } lists[] = {
        {&server->mynetworks, "mynetworks", set->mynetworks},
        {&server->mx_backup_networks, "permit_mx_backup_networks", set->permit_mx_backup_networks},
        {&server->xforward_hosts, "smtpd_authorized_xforward_hosts", set->smtpd_authorized_xforward_hosts},
        {&server->xclient_hosts, "smtpd_authorized_xclient_hosts", set->smtpd_authorized_xclient_hosts},
        {&server->verp_clients, "smtpd_authorized_verp_clients", set->smtpd_authorized_verp_clients},
        {&server->bare_lf_exempt, "smtpd_forbid_bare_newline_exclusions", set->smtpd_forbid_bare_newline_exclusions},
        {&server->limits_exempt, "smtpd_client_event_limit_exceptions", set->smtpd_client_event_limit_exceptions},
        {&server->auth_exceptions, "smtpd_sasl_exceptions_networks", set->smtpd_sasl_exceptions_networks},
        {&server->logged_permits, "smtpd_log_access_permit_actions", set->smtpd_log_access_permit_actions},
        {&server->auth_filter, "smtpd_sasl_mechanism_filter", set->smtpd_sasl_mechanism_filter},
    };

    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        unsigned flags = match_list_flags(set->parent_domain_matches_subdomains, lists[i].parameter);
        *lists[i].list = match_list_new(server->arena, conf, lists[i].parameter, lists[i].text, flags, err);
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
                                         "defer_if_permit",           "check_relay_domains"};

    for (size_t i = 0; i < ARRAY_LEN(one_of); i++)
        if (access_list_has(server->relay, one_of[i]) || access_list_has(server->recipient, one_of[i]))
            return 0;
    return err_set(
        err, ERR_PERM,
        "in parameter smtpd_relay_restrictions or smtpd_recipient_restrictions, specify at least one working "
        "instance of: reject_unauth_destination, defer_unauth_destination, reject, defer or defer_if_permit");
}

/* smtpd_restriction_classes: each name is a parameter of the administrator's own. */
static int
load_classes(struct server *server, struct err *err)
{
    struct slice rest = slice_from(server->set.smtpd_restriction_classes), word;

    while (slice_word(&rest, ", \t\r\n", &word)) {
        const char *name = arena_strndup(server->arena, word.ptr, word.len);
        const char *raw = conf_raw(server->conf, name);
        if (!raw)
            return err_set(err, ERR_SYNTAX, "parameter smtpd_restriction_classes: there is no parameter \"%s\"", name);
        const char *text = conf_expand(server->conf, server->arena, raw, err);
        if (!text)
            return err_context(err, "parameter %s", name);
        map_put_text(server->classes, name, access_list_new(server, server->arena, name, text, NULL));
    }
    return 0;
}

/* The tables that know users; a table that can't be opened defers those whom it would decide on. */
static int
load_users(struct server *server, struct err *err)
{
    const struct smtpd_settings *set = &server->set;
    struct user_tables *users = &server->users;
    const struct {
        struct maps **maps;
        const char *parameter, *text;
    } all[] = {
        {&users->local, "local_recipient_maps", set->local_recipient_maps},
        {&users->virtual_mailbox, "virtual_mailbox_maps", set->virtual_mailbox_maps},
        {&users->relay, "relay_recipient_maps", set->relay_recipient_maps},
        {&users->virtual_alias, "virtual_alias_maps", set->virtual_alias_maps},
        {&users->canonical, "canonical_maps", set->canonical_maps},
        {&users->sender_canonical, "sender_canonical_maps", set->sender_canonical_maps},
        {&users->recipient_canonical, "recipient_canonical_maps", set->recipient_canonical_maps},
        {&server->rbl_replies, "rbl_reply_maps", set->rbl_reply_maps},
        {&server->reject_footers, "smtpd_reject_footer_maps", set->smtpd_reject_footer_maps},
        {&server->ehlo_discards, "smtpd_discard_ehlo_keyword_address_maps",
         set->smtpd_discard_ehlo_keyword_address_maps},
        {&server->login_owners, "smtpd_sender_login_maps", set->smtpd_sender_login_maps},
        {&server->relay_certificates, "relay_clientcerts", set->relay_clientcerts},
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        *all[i].maps = maps_new(server->arena, server->conf, all[i].parameter, all[i].text, TABLE_FOLD_FIXED, err);
        if (!*all[i].maps)
            return -1;
    }
    server->command_filter =
        maps_new(server->arena, server->conf, "smtpd_command_filter", set->smtpd_command_filter, TABLE_NO_UTF8, err);
    if (!server->command_filter)
        return -1;
    server->access_subdomains =
        match_list_flags(set->parent_domain_matches_subdomains, "smtpd_access_maps") & MATCH_SUBDOMAINS;
    return 0;
}

static int
load_restrictions(struct server *server, struct err *err)
{
    const struct smtpd_settings *set = &server->set;
    static const char client[] = "check_client_access", helo[] = "check_helo_access", sender[] = "check_sender_access",
                      recipient[] = "check_recipient_access";
    const struct {
        struct access_list **list;
        const char *parameter, *text, *implied;
    } lists[] = {
        {&server->client, "smtpd_client_restrictions", set->smtpd_client_restrictions, client},
        {&server->helo, "smtpd_helo_restrictions", set->smtpd_helo_restrictions, helo},
        {&server->sender, "smtpd_sender_restrictions", set->smtpd_sender_restrictions, sender},
        {&server->relay, "smtpd_relay_restrictions", set->smtpd_relay_restrictions, recipient},
        {&server->recipient, "smtpd_recipient_restrictions", set->smtpd_recipient_restrictions, recipient},
        {&server->data, "smtpd_data_restrictions", set->smtpd_data_restrictions, recipient},
        {&server->end_of_data, "smtpd_end_of_data_restrictions", set->smtpd_end_of_data_restrictions, recipient},
        {&server->etrn, "smtpd_etrn_restrictions", set->smtpd_etrn_restrictions, "check_etrn_access"},
    };

    const char *old_default;

    if (load_classes(server, err) < 0 ||
        conf_old_default(server->conf, server->arena, lists[3].parameter, &old_default, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        *lists[i].list = access_list_new(server, server->arena, lists[i].parameter, lists[i].text, lists[i].implied);
    if (old_default)
        server->new_relay =
            access_list_new(server, server->arena, lists[3].parameter,
                            "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination", recipient);
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

/* smtpd_expansion_filter: characters, some as C writes them (\t, \40, \\). */
static void
load_reply_bytes(struct server *server)
{
    static const struct {
        char name, value;
    } letters[] = {{'a', '\a'}, {'b', '\b'}, {'f', '\f'}, {'n', '\n'}, {'r', '\r'}, {'t', '\t'}, {'v', '\v'}};

    for (const char *c = server->set.smtpd_expansion_filter; *c; c++) {
        unsigned char byte = (unsigned char)*c;
        if (byte == '\\' && c[1]) {
            unsigned value = 0, digits = 0;
            byte = (unsigned char)*++c;
            for (; digits < 3 && c[digits] >= '0' && c[digits] <= '7'; digits++)
                value = value * 8 + (unsigned)(c[digits] - '0');
            if (digits > 0) {
                byte = (unsigned char)value;
                c += digits - 1;
            }
            for (size_t i = 0; digits == 0 && i < ARRAY_LEN(letters); i++)
                if (*c == letters[i].name)
                    byte = (unsigned char)letters[i].value;
        }
        server->reply_bytes[byte] = true;
    }
}

/* ---- logins ---- */

/* "dovecot": the server at smtpd_sasl_path, whoever it is; "cyrus": our own, as with Postfix the library was. */
static const char *
auth_path(const struct server *server, const char *(*path)(const char *class_and_name))
{
    const struct smtpd_settings *set = &server->set;
    const char *name = set->smtpd_sasl_path;

    if (strcmp(set->smtpd_sasl_type, "dovecot") != 0)
        return path(arena_printf(server->arena, "public/%s", set->auth_service_name));
    return strncmp(name, "unix:", 5) == 0 ? name + 5 : name;
}

static int
check_auth(struct server *server, struct err *err)
{
    const struct smtpd_settings *set = &server->set;

    if (!set->smtpd_sasl_auth_enable)
        return 0;
    if (strcmp(set->smtpd_sasl_type, "dovecot") != 0 && strcmp(set->smtpd_sasl_type, "cyrus") != 0)
        return err_set(err, ERR_SYNTAX, "smtpd_sasl_type: \"%s\": cyrus and dovecot are known", set->smtpd_sasl_type);
    if (strcmp(set->smtpd_login_limit_action, "hold") != 0 && strcmp(set->smtpd_login_limit_action, "defer") != 0)
        return err_set(err, ERR_SYNTAX, "smtpd_login_limit_action: hold and defer are known");
    server->auth_is_remote =
        strcmp(set->smtpd_sasl_type, "dovecot") == 0 && strncmp(set->smtpd_sasl_path, "inet:", 5) == 0;
    return 0;
}

/* ---- what is not done to messages from here ---- */

static int
load_overrides(struct server *server, struct err *err)
{
    bool *unlisted = &server->accepts_unlisted;

    if (server->set.smtputf8_enable)
        server->submit_flags |= smtputf8_autodetect(server->set.smtputf8_autodetect_classes, "smtpd");
    return receive_overrides_parse(server->set.receive_override_options, &server->submit_flags, unlisted, err);
}

/* ---- the server ---- */

static struct server *
begin(struct arena *arena, const struct conf *conf, const char *service, struct err *err)
{
    struct server *server = ARENA_NEW(arena, struct server);

    server->arena = arena;
    server->service = arena_strdup(arena, service);
    server->conf = conf;
    server->queue_fd = -1;
    list_init(&server->sessions);
    if (smtpd_settings_load(&server->set, conf, arena, err) < 0)
        return NULL;
    server->classes = map_new();
    server->tables = map_new();
    server->policies = policies_new(&server->set);
    server->peers = peer_cache_new();
    load_reply_bytes(server);
    return server;
}

struct server *
server_new(struct arena *arena, const struct conf *conf, const char *service, struct err *err)
{
    struct server *server = begin(arena, conf, service, err);

    if (!server || interfaces_load(conf, arena, &server->interfaces, err) < 0 ||
        interfaces_parse(conf, arena, server->set.proxy_interfaces, &server->proxies, err) < 0 ||
        load_overrides(server, err) < 0 || load_lists(server, conf, err) < 0 || load_users(server, err) < 0 ||
        load_restrictions(server, err) < 0 || check_auth(server, err) < 0 || load_bare_lf(server, err) < 0 ||
        server_load_tls(server, err) < 0)
        return NULL;
    server->local_clients = local_clients_new(arena, conf, server->set.local_header_rewrite_clients, err);
    if (!server->local_clients)
        return NULL;
    server->hosts = peer_read_hosts(arena, "/etc/hosts");
    server->queue_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (server->queue_fd < 0) {
        err_errno(err, "open the queue directory");
        return NULL;
    }
    return server;
}

/* ---- by hand ---- */

/* What a user's own program may do here is what it may do with sendmail; and it may write all that it has to say at once. */
static void
drop_restrictions(struct server *server)
{
    struct smtpd_settings *set = &server->set;
    struct access_list **const lists[] = {&server->client,    &server->helo, &server->sender,      &server->relay,
                                          &server->recipient, &server->data, &server->end_of_data, &server->etrn};

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        *lists[i] = access_list_new(server, server->arena, "none", "", NULL);
    set->smtpd_authorized_xforward_hosts = set->smtpd_authorized_xclient_hosts = "";
    set->smtpd_reject_unlisted_sender = set->smtpd_reject_unlisted_recipient = false;
    set->smtpd_forbid_unauth_pipelining = false;
    set->smtpd_sasl_auth_enable = set->smtpd_tls_wrappermode = false;
    set->smtpd_forbid_bare_newline = "normalize";
    set->smtpd_proxy_filter = "";
}

struct server *
server_new_by_hand(struct arena *arena, const struct conf *conf, const char *service, struct err *err)
{
    struct server *server = begin(arena, conf, service, err);
    const struct passwd *owner = server ? getpwnam(server->set.mail_owner) : NULL;

    if (!server)
        return NULL;
    if (owner && getuid() == owner->pw_uid) {
        server_free(&server);
        return server_new(arena, conf, service, err);
    }
    server->stand_alone = true;
    drop_restrictions(server);
    if (load_lists(server, conf, err) < 0 || load_bare_lf(server, err) < 0)
        return NULL;
    server->set.smtpd_peername_lookup = true;
    server->hosts = map_new();
    (void)map_put_text(server->hosts, "127.0.0.1", arena_strdup(arena, "localhost"));
    return server;
}

void
server_connect(struct server *server, const char *(*path)(const char *class_and_name))
{
    const struct smtpd_settings *set = &server->set;
    struct arena *arena = server->arena;

    if (server->stand_alone)
        return;
    server->router = router_new(path(arena_printf(arena, "private/%s", set->rewrite_service_name)));
    server->submitter = submitter_new(path(arena_printf(arena, "public/%s", set->cleanup_service_name)));
    server->dns = dns_client_new(path(arena_printf(arena, "private/%s", set->resolver_service_name)));
    if (set->smtpd_sasl_auth_enable)
        server->auth = auth_client_new(auth_path(server, path));
    server->anvil = link_connect(path("private/anvil"), NULL, 0, NULL, NULL);
    server->flush = link_connect(path(arena_printf(arena, "public/%s", set->flush_service_name)), NULL, 0, NULL, NULL);
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
    auth_client_free(&s->auth);
    if (s->anvil)
        link_free(&s->anvil);
    if (s->flush)
        link_free(&s->flush);
    if (s->tls)
        tls_context_free(&s->tls);
    file_watch_free(&s->tls_files);
    peer_cache_free(&s->peers);
    map_free(&s->hosts, NULL);
    map_free(&s->classes, NULL);
    map_free(&s->tables, NULL);
    policies_free(&s->policies);
    *server = NULL;
}
