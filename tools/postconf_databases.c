/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of databases have settings of their own: in a file (mysql:/etc/postfix/users.cf), or in main.cf with the table's name
 * before them (for ldap:accounts: accounts_server_host and so on). Which names there are is said in mysql_table(5),
 * pgsql_table(5), ldap_table(5), sqlite_table(5), mongodb_table(5) and memcache_table(5). */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/conf/cf_file.h"
#include "lib/conf/main_cf.h"
#include "tools/postconf_names.h"

static const struct database {
    const char *type;
    const char *names[48];
} databases[] = {
    {"ldap",
     {"bind",
      "bind_dn",
      "bind_pw",
      "cache",
      "cache_expiry",
      "cache_size",
      "chase_referrals",
      "debuglevel",
      "dereference",
      "domain",
      "expansion_limit",
      "leaf_result_attribute",
      "query_filter",
      "recursion_limit",
      "result_attribute",
      "result_filter",
      "result_format",
      "sasl_authz_id",
      "sasl_mechs",
      "sasl_minssf",
      "sasl_realm",
      "scope",
      "search_base",
      "server_host",
      "server_port",
      "size_limit",
      "special_result_attribute",
      "start_tls",
      "terminal_result_attribute",
      "timeout",
      "tls_ca_cert_dir",
      "tls_ca_cert_file",
      "tls_cert",
      "tls_cipher_suite",
      "tls_key",
      "tls_random_file",
      "tls_require_cert",
      "version"}},
    {"memcache",
     {"backup", "data_size_limit", "domain", "flags", "key_digest", "key_format", "line_size_limit", "max_try",
      "memcache", "retry_pause", "timeout", "ttl"}},
    {"mongodb",
     {"collection", "dbname", "domain", "expansion_limit", "projection", "query_filter", "result_attribute",
      "result_format", "uri"}},
    {"mysql",
     {"additional_conditions",
      "charset",
      "dbname",
      "domain",
      "expansion_limit",
      "hosts",
      "idle_interval",
      "option_file",
      "option_group",
      "password",
      "query",
      "require_result_set",
      "result_format",
      "retry_interval",
      "select_field",
      "table",
      "tls_CAfile",
      "tls_CApath",
      "tls_cert_file",
      "tls_ciphers",
      "tls_key_file",
      "tls_verify_cert",
      "user",
      "where_field"}},
    {"pgsql",
     {"additional_conditions", "dbname", "domain", "encoding", "expansion_limit", "hosts", "idle_interval", "password",
      "query", "result_format", "retry_interval", "select_field", "select_function", "table", "user", "where_field"}},
    {"sqlite",
     {"additional_conditions", "dbpath", "domain", "expansion_limit", "query", "result_format", "select_field", "table",
      "where_field"}},
};

static bool
has_name(const struct database *db, const char *name)
{
    for (size_t i = 0; db->names[i]; i++)
        if (strcmp(db->names[i], name) == 0)
            return true;
    return false;
}

/* A table's file, while it is read. */
struct table_file {
    struct references *refs;
    const struct database *db;
    const char *path;
    struct map *values;
};

static int
note_entry(void *ctx, unsigned line, const char *name, const char *value, struct err *err)
{
    struct table_file *file = ctx;
    struct arena *arena = file->refs->pc->arena;
    (void)err;
    const char *old = map_put_text(file->values, name, arena_strdup(arena, value));
    if (old && strcmp(old, value) != 0)
        references_warn(file->refs, arena_printf(arena, "%s, line %u: overriding earlier entry: %s=%s", file->path,
                                                 line, name, old));
    return 0;
}

static void
check_entries(struct table_file *file)
{
    struct arena *arena = file->refs->pc->arena;
    size_t position = 0;
    struct slice key;
    void *value;
    while (map_next(file->values, &position, &key, &value))
        if (!has_name(file->db, arena_strndup(arena, key.ptr, key.len)))
            references_warn(file->refs, arena_printf(arena, "%s:%s: unused parameter: %.*s=%s", file->db->type,
                                                     file->path, SLICE_ARG(key), (const char *)value));
}

static void
check_file(struct references *refs, const struct database *db, const char *path)
{
    struct arena *arena = refs->pc->arena;
    struct table_file file = {.refs = refs, .db = db, .path = path};
    struct main_cf_sink sink = {.entry = note_entry, .ctx = &file};
    struct slice content;
    struct stat st;
    struct err err;
    /* Each file once. */
    if (map_put_text(refs->told, arena_printf(arena, "%s:%s", db->type, path), refs))
        return;
    if (stat(path, &st) < 0) {
        references_warn(refs,
                        arena_printf(arena, "open \"%s\" configuration \"%s\": %s", db->type, path, strerror(errno)));
        return;
    }
    if (!S_ISREG(st.st_mode)) {
        references_warn(refs,
                        arena_printf(arena, "open \"%s\" configuration \"%s\": not a regular file", db->type, path));
        return;
    }
    file.values = map_new();
    if (cf_file_read(arena, path, &content, &err) < 0)
        references_warn(
            refs, arena_printf(arena, "open \"%s\" configuration \"%s\": %s", db->type, path, strerror(err.code)));
    else if (main_cf_parse(arena, path, content, &sink, &err) < 0)
        references_warn(refs, arena_printf(arena, "read \"%s\" configuration \"%s\": %s", db->type, path, err.text));
    check_entries(&file);
    map_free(&file.values, NULL);
}

static void
note_main_parameters(struct references *refs, const struct database *db, struct slice table)
{
    struct arena *arena = refs->pc->arena;
    for (size_t i = 0; db->names[i]; i++) {
        const char *name = arena_printf(arena, "%.*s_%s", SLICE_ARG(table), db->names[i]);
        if (conf_is_set(refs->pc->conf, name))
            map_put_text(refs->used, name, refs);
    }
}

void
references_note_tables(struct references *refs, const char *value)
{
    struct slice rest = slice_from(value), word, type;
    while (slice_word(&rest, ", \t\r\n{}", &word)) {
        if (slice_starts_with_fold(word, "proxy:"))
            word = slice_make(word.ptr + 6, word.len - 6);
        struct slice name = word;
        if (!slice_cut(&name, ':', &type) || name.len == 0)
            continue;
        for (size_t i = 0; i < ARRAY_LEN(databases); i++) {
            if (!slice_equal_text(type, databases[i].type))
                continue;
            if (*name.ptr == '/')
                check_file(refs, &databases[i], arena_strndup(refs->pc->arena, name.ptr, name.len));
            else if (*name.ptr != '.')
                note_main_parameters(refs, &databases[i], name);
        }
    }
}
