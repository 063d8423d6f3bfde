/* SPDX-License-Identifier: Apache-2.0 */
/* LDAP, through OpenLDAP's client library: ldap_table(5).
 *
 * What an entry gives: if it has terminal attributes, these alone; else its result attributes, the entries that its special
 * attributes name (DNs and LDAP URLs), and, if there were none of those, its leaf attributes. */
#include <ldap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#ifdef HAVE_SASL_SASL_H
#include <sasl/sasl.h>
#endif

#include "lib/table/driver.h"

enum { ATTRIBUTES_MOST = 64, NAMES_SIZE = 4096 };

/* The names of a table's attributes: ordinary, special, leaf and terminal ones, in this order. */
enum attribute_kind { ORDINARY, SPECIAL, LEAF, TERMINAL, KINDS };
struct attributes {
    char names[NAMES_SIZE];
    char *list[ATTRIBUTES_MOST + 1]; /* NULL-ended, as the library wants them */
    enum attribute_kind kind[ATTRIBUTES_MOST];
    unsigned count;
};

struct search {
    LDAP *ld;
    const struct driver_settings *settings;
    const struct driver_sink *sink;
    const struct attributes *attributes;
    struct timeval timeout;
    long size_limit, recursion_limit;
    char *why;
};

static const char *
setting(const struct driver_settings *s, const char *name)
{
    return s->get(s->ctx, name);
}

static bool
is_on(const struct driver_settings *s, const char *name)
{
    const char *value = setting(s, name);

    return strcasecmp(value, "yes") == 0 || strcmp(value, "1") == 0;
}

static long
number(const struct driver_settings *s, const char *name, long otherwise)
{
    const char *value = setting(s, name);

    return *value ? strtol(value, NULL, 10) : otherwise;
}

static void
tell(char *why, const char *what, int code, LDAP *ld)
{
    char *detail = NULL;

    if (ld)
        ldap_get_option(ld, LDAP_OPT_DIAGNOSTIC_MESSAGE, &detail);
    snprintf(why, DRIVER_WHY_SIZE, "%s: %s%s%s", what, ldap_err2string(code), detail && *detail ? ": " : "",
             detail ? detail : "");
    ldap_memfree(detail);
}

/* ---- connecting ---- */

static int
read_attributes(const struct driver_settings *s, struct attributes *a)
{
    static const char *const parameters[KINDS] = {"result_attribute", "special_result_attribute",
                                                  "leaf_result_attribute", "terminal_result_attribute"};
    size_t used = 0;

    for (int kind = 0; kind < KINDS; kind++)
        for (const char *p = setting(s, parameters[kind]); *p;) {
            size_t blank = strspn(p, ", \t\r\n"), len = strcspn(p + blank, ", \t\r\n");

            p += blank;
            if (len == 0)
                continue;
            if (a->count == ATTRIBUTES_MOST || used + len + 1 > sizeof(a->names))
                return -1;
            memcpy(a->names + used, p, len);
            a->names[used + len] = '\0';
            a->list[a->count] = a->names + used;
            a->kind[a->count++] = (enum attribute_kind)kind;
            used += len + 1;
            p += len;
        }
    a->list[a->count] = NULL;
    return a->count ? 0 : -1;
}

static int
check_settings(const struct driver_settings *s, char *why)
{
    struct attributes *a = calloc(1, sizeof(*a));
    bool good = a && read_attributes(s, a) == 0;
    bool secure = is_on(s, "start_tls") || strncasecmp(setting(s, "server_host"), "ldaps:", 6) == 0;

    free(a);
    if (!good) {
        snprintf(why, DRIVER_WHY_SIZE, "no attributes to read, or too many");
        return -1;
    }
    if (number(s, "version", 2) < 3 && (secure || strcasecmp(setting(s, "bind"), "sasl") == 0)) {
        snprintf(why, DRIVER_WHY_SIZE, "TLS and SASL need \"version = 3\"");
        return -1;
    }
    ldap_get_option(NULL, LDAP_OPT_API_INFO, &(LDAPAPIInfo){.ldapai_info_version = LDAP_API_INFO_VERSION});
    return 0;
}

static void
set_text(LDAP *ld, int option, const char *value)
{
    if (*value)
        ldap_set_option(ld, option, value);
}

static void
set_tls(LDAP *ld, const struct driver_settings *s)
{
    int require = is_on(s, "tls_require_cert") ? LDAP_OPT_X_TLS_DEMAND : LDAP_OPT_X_TLS_NEVER, client = 0;

    set_text(ld, LDAP_OPT_X_TLS_CACERTFILE, setting(s, "tls_ca_cert_file"));
    set_text(ld, LDAP_OPT_X_TLS_CACERTDIR, setting(s, "tls_ca_cert_dir"));
    set_text(ld, LDAP_OPT_X_TLS_CERTFILE, setting(s, "tls_cert"));
    set_text(ld, LDAP_OPT_X_TLS_KEYFILE, setting(s, "tls_key"));
    set_text(ld, LDAP_OPT_X_TLS_RANDOM_FILE, setting(s, "tls_random_file"));
    set_text(ld, LDAP_OPT_X_TLS_CIPHER_SUITE, setting(s, "tls_cipher_suite"));
    ldap_set_option(ld, LDAP_OPT_X_TLS_REQUIRE_CERT, &require);
    ldap_set_option(ld, LDAP_OPT_X_TLS_NEWCTX, &client);
}

static void
set_options(LDAP *ld, const struct driver_settings *s)
{
    struct timeval timeout = {.tv_sec = s->timeout};
    int version = (int)number(s, "version", 2), dereference = (int)number(s, "dereference", 0);

    ldap_set_option(ld, LDAP_OPT_PROTOCOL_VERSION, &version);
    ldap_set_option(ld, LDAP_OPT_NETWORK_TIMEOUT, &timeout);
    ldap_set_option(ld, LDAP_OPT_TIMEOUT, &timeout);
    ldap_set_option(ld, LDAP_OPT_TIMELIMIT, &s->timeout);
    ldap_set_option(ld, LDAP_OPT_DEREF, &dereference);
    ldap_set_option(ld, LDAP_OPT_REFERRALS, is_on(s, "chase_referrals") ? LDAP_OPT_ON : LDAP_OPT_OFF);
}

#ifdef HAVE_SASL_SASL_H
static int
interact(LDAP *ld, unsigned flags, void *defaults, void *list)
{
    const struct driver_settings *s = defaults;

    (void)ld;
    (void)flags;
    for (sasl_interact_t *ask = list; ask->id != SASL_CB_LIST_END; ask++) {
        const char *value = "";

        switch (ask->id) {
        case SASL_CB_GETREALM: value = setting(s, "sasl_realm"); break;
        case SASL_CB_AUTHNAME: value = setting(s, "bind_dn"); break;
        case SASL_CB_PASS: value = setting(s, "bind_pw"); break;
        case SASL_CB_USER: value = setting(s, "sasl_authz_id"); break;
        default: break;
        }
        ask->result = value;
        ask->len = (unsigned)strlen(value);
    }
    return LDAP_SUCCESS;
}

static int
bind_sasl(LDAP *ld, const struct driver_settings *s)
{
    const char *mechanisms = setting(s, "sasl_mechs");
    ber_len_t strength = (ber_len_t)number(s, "sasl_minssf", 0);
    int code;

    ldap_set_option(ld, LDAP_OPT_X_SASL_SSF_MIN, &strength);
    code = ldap_sasl_interactive_bind_s(ld, NULL, *mechanisms ? mechanisms : NULL, NULL, NULL, LDAP_SASL_QUIET,
                                        interact, (void *)s);
    return code;
}
#else
static int
bind_sasl(LDAP *ld, const struct driver_settings *s)
{
    (void)ld;
    (void)s;
    return LDAP_AUTH_METHOD_NOT_SUPPORTED;
}
#endif

static int
bind_simple(LDAP *ld, const struct driver_settings *s)
{
    const char *password = setting(s, "bind_pw");
    struct berval credentials = {.bv_len = strlen(password), .bv_val = (char *)password};

    return ldap_sasl_bind_s(ld, setting(s, "bind_dn"), LDAP_SASL_SIMPLE, &credentials, NULL, NULL, NULL);
}

static int
log_in(LDAP *ld, const struct driver_settings *s)
{
    const char *how = setting(s, "bind");

    if (strcasecmp(how, "no") == 0 || strcasecmp(how, "none") == 0)
        return LDAP_SUCCESS;
    return strcasecmp(how, "sasl") == 0 ? bind_sasl(ld, s) : bind_simple(ld, s);
}

/* "host", "host:port", or a URL. */
static void
make_uri(const struct driver_settings *s, const char *host, char *uri, size_t size)
{
    const char *colon = strrchr(host, ':'), *port = setting(s, "server_port");

    if (strstr(host, "://"))
        snprintf(uri, size, "%s", host);
    else if (colon && colon[1] && strspn(colon + 1, "0123456789") == strlen(colon + 1) && !strchr(colon, ']'))
        snprintf(uri, size, "ldap://%s", host);
    else
        snprintf(uri, size, "ldap://%s:%s", host, *port ? port : "389");
}

static void *
open_connection(const struct driver_settings *s, const char *host, char *why)
{
    char uri[1024];
    LDAP *ld = NULL;
    int code;

    make_uri(s, host, uri, sizeof(uri));
    code = ldap_initialize(&ld, uri);
    if (code != LDAP_SUCCESS) {
        tell(why, "connect", code, NULL);
        return NULL;
    }
    set_options(ld, s);
    if (is_on(s, "start_tls") || strncasecmp(uri, "ldaps:", 6) == 0)
        set_tls(ld, s);
    code = is_on(s, "start_tls") ? ldap_start_tls_s(ld, NULL, NULL) : LDAP_SUCCESS;
    if (code == LDAP_SUCCESS)
        code = log_in(ld, s);
    if (code == LDAP_SUCCESS)
        return ld;
    tell(why, "bind", code, ld);
    ldap_unbind_ext(ld, NULL, NULL);
    return NULL;
}

static void
close_connection(void *connection)
{
    ldap_unbind_ext(connection, NULL, NULL);
}

/* ---- quoting ---- */

static char *
put_hex(char *out, const char *digits, unsigned char byte)
{
    *out++ = '\\';
    *out++ = digits[byte >> 4];
    *out++ = digits[byte & 15];
    return out;
}

/* RFC 4515 section 3: in a filter. */
static size_t
quote(void *connection, const char *text, size_t len, char *out)
{
    char *end = out;

    (void)connection;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];

        if (byte < 32 || byte == 127 || strchr("*()\\", byte))
            end = put_hex(end, "0123456789abcdef", byte);
        else
            *end++ = text[i];
    }
    return (size_t)(end - out);
}

/* RFC 4514 section 2.4: in a DN; as hexadecimal, which is good everywhere. */
static size_t
quote_base(void *connection, const char *text, size_t len, char *out)
{
    char *end = out;

    (void)connection;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];

        if (byte <= 32 || byte == 127 || strchr("\"#+,;<=>\\", byte))
            end = put_hex(end, "0123456789ABCDEF", byte);
        else
            *end++ = text[i];
    }
    return (size_t)(end - out);
}

/* ---- asking ---- */

static enum driver_result take_entries(const struct search *, LDAPMessage *, char *const *wanted, long depth);

static bool
is_connection_lost(int code)
{
    return code == LDAP_SERVER_DOWN || code == LDAP_CONNECT_ERROR || code == LDAP_TIMEOUT || code == LDAP_UNAVAILABLE ||
           code == LDAP_BUSY || code == LDAP_ENCODING_ERROR || code == LDAP_DECODING_ERROR ||
           code == LDAP_LOCAL_ERROR || code == LDAP_OPERATIONS_ERROR || code == LDAP_OTHER;
}

/* missing_is_none: a base that does not exist has no entries. */
static enum driver_result
search(const struct search *s, const char *base, int scope, const char *filter, char *const *wanted, long depth,
       bool missing_is_none)
{
    LDAPMessage *found = NULL;
    struct timeval timeout = s->timeout;
    enum driver_result outcome = DRIVER_OK;
    int code = ldap_search_ext_s(s->ld, base, scope, filter, (char **)wanted, 0, NULL, NULL, &timeout,
                                 s->size_limit ? (int)s->size_limit : LDAP_NO_LIMIT, &found);

    if (code == LDAP_SUCCESS) {
        outcome = take_entries(s, found, wanted, depth);
    } else if (!missing_is_none || (code != LDAP_NO_SUCH_OBJECT && code != LDAP_INVALID_DN_SYNTAX)) {
        tell(s->why, "search", code, s->ld);
        outcome = is_connection_lost(code) ? DRIVER_LOST : DRIVER_FAILED;
    }
    ldap_msgfree(found);
    return outcome;
}

static enum driver_result
follow_url(const struct search *s, const char *url, long depth)
{
    char *wanted[ATTRIBUTES_MOST + 1];
    enum driver_result outcome = DRIVER_OK;
    LDAPURLDesc *parts;
    unsigned count = 0;

    if (ldap_url_parse(url, &parts) != LDAP_URL_SUCCESS) {
        snprintf(s->why, DRIVER_WHY_SIZE, "malformed LDAP URL in an entry: %.100s", url);
        return DRIVER_FAILED;
    }
    for (unsigned i = 0; i < s->attributes->count; i++) {
        bool is_wanted = !parts->lud_attrs || !parts->lud_attrs[0];

        for (char **attribute = parts->lud_attrs; attribute && *attribute; attribute++)
            is_wanted |= strcasecmp(*attribute, s->attributes->list[i]) == 0;
        if (is_wanted)
            wanted[count++] = s->attributes->list[i];
    }
    wanted[count] = NULL;
    if (count > 0)
        outcome = search(s, parts->lud_dn ? parts->lud_dn : "",
                         parts->lud_scope == LDAP_SCOPE_DEFAULT ? LDAP_SCOPE_BASE : parts->lud_scope,
                         parts->lud_filter ? parts->lud_filter : "(objectClass=*)", wanted, depth, true);
    ldap_free_urldesc(parts);
    return outcome;
}

static enum driver_result
follow(const struct search *s, const char *reference, long depth)
{
    if (depth >= s->recursion_limit) {
        snprintf(s->why, DRIVER_WHY_SIZE, "entries refer to others deeper than recursion_limit (%ld)",
                 s->recursion_limit);
        return DRIVER_FAILED;
    }
    if (ldap_is_ldap_url(reference))
        return follow_url(s, reference, depth + 1);
    return search(s, reference, LDAP_SCOPE_BASE, "(objectClass=*)", s->attributes->list, depth + 1, true);
}

static enum driver_result
take_values(const struct search *s, struct berval **values, bool is_special, long depth)
{
    enum driver_result outcome = DRIVER_OK;

    for (int i = 0; values[i] && outcome == DRIVER_OK; i++) {
        if (is_special)
            outcome = follow(s, values[i]->bv_val, depth);
        else if (s->sink->take(s->sink->ctx, values[i]->bv_val, values[i]->bv_len) < 0)
            outcome = DRIVER_FAILED;
    }
    return outcome;
}

static bool
is_asked(char *const *wanted, const char *name)
{
    for (; *wanted; wanted++)
        if (strcasecmp(*wanted, name) == 0)
            return true;
    return false;
}

static bool
has_kind(const struct search *s, LDAPMessage *entry, char *const *wanted, enum attribute_kind kind)
{
    for (unsigned i = 0; i < s->attributes->count; i++) {
        struct berval **values;

        if (s->attributes->kind[i] != kind || !is_asked(wanted, s->attributes->list[i]))
            continue;
        values = ldap_get_values_len(s->ld, entry, s->attributes->list[i]);
        ldap_value_free_len(values);
        if (values)
            return true;
    }
    return false;
}

static enum driver_result
take_entry(const struct search *s, LDAPMessage *entry, char *const *wanted, long depth)
{
    bool terminal = has_kind(s, entry, wanted, TERMINAL), special = has_kind(s, entry, wanted, SPECIAL);
    enum driver_result outcome = DRIVER_OK;

    for (unsigned i = 0; i < s->attributes->count && outcome == DRIVER_OK; i++) {
        enum attribute_kind kind = s->attributes->kind[i];
        struct berval **values;

        if ((kind == TERMINAL) != terminal || (kind == LEAF && special) || !is_asked(wanted, s->attributes->list[i]))
            continue;
        values = ldap_get_values_len(s->ld, entry, s->attributes->list[i]);
        if (values)
            outcome = take_values(s, values, kind == SPECIAL, depth);
        ldap_value_free_len(values);
    }
    return outcome;
}

static enum driver_result
take_entries(const struct search *s, LDAPMessage *found, char *const *wanted, long depth)
{
    enum driver_result outcome = DRIVER_OK;

    for (LDAPMessage *entry = ldap_first_entry(s->ld, found); entry && outcome == DRIVER_OK;
         entry = ldap_next_entry(s->ld, entry))
        outcome = take_entry(s, entry, wanted, depth);
    return outcome;
}

static int
scope_of(const struct driver_settings *s)
{
    const char *scope = setting(s, "scope");

    if (strcasecmp(scope, "base") == 0)
        return LDAP_SCOPE_BASE;
    return strcasecmp(scope, "one") == 0 ? LDAP_SCOPE_ONELEVEL : LDAP_SCOPE_SUBTREE;
}

/* A base that the key is part of may well not exist. */
static enum driver_result
query(void *connection, const struct driver_settings *settings, const struct driver_query *asked,
      const struct driver_sink *sink, char *why)
{
    struct attributes *attributes = calloc(1, sizeof(*attributes));
    struct search s = {connection,
                       settings,
                       sink,
                       attributes,
                       {.tv_sec = settings->timeout},
                       number(settings, "size_limit", 0),
                       number(settings, "recursion_limit", 1000),
                       why};
    enum driver_result outcome = DRIVER_FAILED;

    if (attributes && read_attributes(settings, attributes) == 0)
        outcome = search(&s, asked->base, scope_of(settings), asked->text, attributes->list, 0, asked->base_has_key);
    else
        snprintf(why, DRIVER_WHY_SIZE, "out of memory");
    free(attributes);
    return outcome;
}

const struct table_driver postern_table_driver = {.version = TABLE_DRIVER_VERSION,
                                                  .type = "ldap",
                                                  .growth = 3,
                                                  .start = check_settings,
                                                  .connect = open_connection,
                                                  .close = close_connection,
                                                  .quote = quote,
                                                  .quote_base = quote_base,
                                                  .query = query};
