/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/server_tls.h"

#include <string.h>

#include "lib/base/log.h"
#include "lib/conf/settings_tlslib.h"
#include "lib/table/server_names.h"

enum { CHAINS_MOST = 32 };

static int
load_level(struct server *server, struct err *err)
{
    const struct smtpd_settings *set = &server->set;
    struct slice level = slice_from(set->smtpd_tls_security_level);

    if (slice_equal_text_fold(level, "encrypt") || slice_equal_text_fold(level, "verify") ||
        slice_equal_text_fold(level, "secure") || slice_equal_text_fold(level, "fingerprint"))
        server->tls_level = TLS_LEVEL_ENCRYPT;
    else if (slice_equal_text_fold(level, "may") || slice_equal_text_fold(level, "dane"))
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

/* ---- ciphers ---- */

static const char *
exclude(struct arena *arena, const char *list, const char *text)
{
    struct slice rest = slice_from(text), word;

    while (slice_word(&rest, ", :\t\r\n", &word))
        list = arena_printf(arena, "%s:!%.*s", list, SLICE_ARG(word));
    return list;
}

static int
set_ciphers(struct server *server, struct tls_settings *tls, struct err *err)
{
    const struct smtpd_settings *set = &server->set;
    bool mandatory = server->tls_level == TLS_LEVEL_ENCRYPT;
    struct slice grade = slice_from(mandatory ? set->smtpd_tls_mandatory_ciphers : set->smtpd_tls_ciphers);
    struct tlslib_settings library;

    if (tlslib_settings_load(&library, server->conf, server->arena, err) < 0)
        return -1;
    const char *list = slice_equal_text_fold(grade, "high")   ? library.tls_high_cipherlist
                       : slice_equal_text_fold(grade, "null") ? library.tls_null_cipherlist
                                                              : library.tls_medium_cipherlist;
    list = exclude(server->arena, list, set->smtpd_tls_exclude_ciphers);
    if (mandatory)
        list = exclude(server->arena, list, set->smtpd_tls_mandatory_exclude_ciphers);
    tls->ciphers = list;
    tls->options = library.tls_ssl_options;
    tls->groups = arena_printf(server->arena, "%s %s", library.tls_eecdh_auto_curves, library.tls_ffdhe_auto_groups);
    tls->protocols = mandatory ? set->smtpd_tls_mandatory_protocols : set->smtpd_tls_protocols;
    tls->server_preference = library.tls_preempt_cipherlist;
    return 0;
}

/* ---- certificates ---- */

static bool
is_given(const char *file)
{
    return file[0] && strcmp(file, "none") != 0;
}

/* smtpd_tls_chain_files, or the certificate files of old. False: none is set. */
static bool
set_certificates(struct server *server, struct tls_settings *tls)
{
    const struct smtpd_settings *set = &server->set;
    struct slice rest = slice_from(set->smtpd_tls_chain_files), file;
    const char **chains = arena_array(server->arena, CHAINS_MOST + 1, sizeof *chains);
    size_t count = 0;

    while (count < CHAINS_MOST && slice_word(&rest, ", \t\r\n", &file)) {
        chains[count] = arena_strndup(server->arena, file.ptr, file.len);
        file_watch_add(server->tls_files, chains[count++]);
    }
    tls->chain_files = chains;
    if (count > 0)
        return true;
    if (is_given(set->smtpd_tls_cert_file)) {
        tls->cert_file = set->smtpd_tls_cert_file;
        tls->key_file = set->smtpd_tls_key_file;
    }
    if (is_given(set->smtpd_tls_eccert_file)) {
        tls->cert_file2 = set->smtpd_tls_eccert_file;
        tls->key_file2 = set->smtpd_tls_eckey_file;
    }
    const char *const files[] = {tls->cert_file, tls->key_file, tls->cert_file2, tls->key_file2};
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        file_watch_add(server->tls_files, files[i]);
    return tls->cert_file || tls->cert_file2;
}

/* How long a session can be resumed: by tickets alone. */
static int
set_sessions(const struct server *server, struct tls_settings *tls, struct err *err)
{
    static const int64_t least = 120, most = (int64_t)100 * 24 * 3600;
    int64_t seconds = server->set.smtpd_tls_session_cache_timeout / SECONDS(1);
    struct tlslib_settings library;

    if (tlslib_settings_load(&library, server->conf, server->arena, err) < 0)
        return -1;
    if (seconds > most)
        return err_set(err, ERR_SYNTAX, "parameter smtpd_tls_session_cache_timeout: more than 100 days");
    tls->session_tickets = seconds > 0 && *library.tls_session_ticket_cipher;
    tls->session_lifetime = (int)(seconds < least ? least : seconds);
    return 0;
}

static void
set_clients(const struct server *server, struct tls_settings *tls)
{
    const struct smtpd_settings *set = &server->set;

    tls->ca_file = set->smtpd_tls_CAfile;
    tls->ca_path = set->smtpd_tls_CApath;
    tls->default_trust = set->tls_append_default_CA;
    tls->verify_depth = (int)set->smtpd_tls_ccert_verifydepth;
    tls->verify_peer = set->smtpd_tls_ask_ccert || set->smtpd_tls_req_ccert;
    tls->require_peer = set->smtpd_tls_req_ccert && server->tls_level == TLS_LEVEL_ENCRYPT;
}

/* ---- all ---- */

static int
unavailable(struct server *server, struct err *err)
{
    if (server->set.smtpd_tls_wrappermode)
        return -1;
    log_warning("TLS library problem: %s", err->text);
    log_warning("TLS is not available");
    return 0;
}

int
server_load_tls(struct server *server, struct err *err)
{
    struct tls_settings *tls = &server->tls_settings;

    *tls = (struct tls_settings){.role = TLS_SERVER};
    if (load_level(server, err) < 0)
        return -1;
    if (server->tls_level == TLS_LEVEL_NONE)
        return 0;
    server->tls_files = file_watch_new();
    if (set_ciphers(server, tls, err) < 0 || set_sessions(server, tls, err) < 0)
        return -1;
    set_clients(server, tls);
    if (!set_certificates(server, tls)) {
        if (server->set.smtpd_tls_wrappermode)
            return err_set(err, ERR_PERM, "smtpd_tls_wrappermode needs smtpd_tls_cert_file or smtpd_tls_chain_files");
        log_warning("No server certs available. TLS won't be enabled");
        return 0;
    }
    if (server_names_use(server->arena, server->conf, "tls_server_sni_maps", server->set.tls_server_sni_maps, tls,
                         err) < 0)
        return -1;
    server->tls = tls_context_new(tls, err);
    return server->tls ? 0 : unavailable(server, err);
}

bool
server_tls_has_changed(struct server *server)
{
    return file_watch_changed(server->tls_files);
}
