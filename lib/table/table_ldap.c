/* SPDX-License-Identifier: Apache-2.0 */
/* LDAP: ldap_table(5). driver_ldap.c talks to the servers. */
#include <string.h>

#include "lib/table/table_source.h"

static const char *const parameters[] = {"server_host",
                                         "server_port",
                                         "search_base",
                                         "query_filter",
                                         "result_filter",
                                         "result_attribute",
                                         "special_result_attribute",
                                         "terminal_result_attribute",
                                         "leaf_result_attribute",
                                         "scope",
                                         "bind",
                                         "bind_dn",
                                         "bind_pw",
                                         "cache",
                                         "cache_expiry",
                                         "cache_size",
                                         "recursion_limit",
                                         "size_limit",
                                         "dereference",
                                         "chase_referrals",
                                         "version",
                                         "debuglevel",
                                         "sasl_mechs",
                                         "sasl_realm",
                                         "sasl_authz_id",
                                         "sasl_minssf",
                                         "start_tls",
                                         "tls_ca_cert_dir",
                                         "tls_ca_cert_file",
                                         "tls_cert",
                                         "tls_key",
                                         "tls_require_cert",
                                         "tls_random_file",
                                         "tls_cipher_suite",
                                         NULL};

static int
check_words(const struct source_conf *conf, const char *parameter, const char *const *allowed, struct err *err)
{
    const char *value = source_conf_get(conf, parameter);

    if (!value || !*value)
        return 0;
    for (; *allowed; allowed++)
        if (strcasecmp(value, *allowed) == 0)
            return 0;
    return err_set(err, ERR_PERM, "bad value: %s = %s", parameter, value);
}

static int
check_numbers(const struct source_conf *conf, struct err *err)
{
    static const struct {
        const char *name;
        unsigned least, most;
    } rows[] = {{"recursion_limit", 1, 1000000}, {"size_limit", 0, 1000000000},
                {"dereference", 0, 3},           {"version", 2, 3},
                {"server_port", 1, 65535},       {"sasl_minssf", 0, 256}};
    unsigned ignored;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (source_conf_number(conf, rows[i].name, rows[i].most, rows[i].least, rows[i].most, &ignored, err) < 0)
            return -1;
    return 0;
}

static int
complete(struct source_conf *conf, struct arena *arena, struct err *err)
{
    static const char *const scopes[] = {"sub", "base", "one", NULL};
    static const char *const binds[] = {"yes", "no", "simple", "none", "sasl", NULL};
    static const char *const switches[] = {"yes", "no", "1", "0", NULL};

    (void)arena;
    if (!source_conf_get(conf, "search_base"))
        return err_set(err, ERR_PERM, "the parameter search_base is missing");
    source_conf_default(conf, "result_format", source_conf_text(conf, "result_filter", "%s"));
    source_conf_default(conf, "query_filter", "mailacceptinggeneralid=%s");
    source_conf_default(conf, "result_attribute", "maildrop");
    source_conf_default(conf, "size_limit", source_conf_text(conf, "expansion_limit", "0"));
    source_conf_default(conf, "bind", "yes");
    if (check_words(conf, "scope", scopes, err) < 0 || check_words(conf, "bind", binds, err) < 0 ||
        check_words(conf, "start_tls", switches, err) < 0 || check_words(conf, "tls_require_cert", switches, err) < 0 ||
        check_words(conf, "chase_referrals", switches, err) < 0)
        return -1;
    return check_numbers(conf, err);
}

static const struct source_kind kind = {.type = "ldap",
                                        .parameters = parameters,
                                        .hosts = "server_host",
                                        .default_host = "localhost",
                                        .query = "query_filter",
                                        .in_order = true,
                                        .default_timeout = 10,
                                        .complete = complete};

const struct table_ops table_ldap = {
    .type = "ldap", .may_block = true, .kind = &kind, .open = source_open, .close = source_close, .find = source_find};
