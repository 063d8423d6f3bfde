/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/access_map.h"

#include <string.h>

#include "lib/base/log.h"
#include "lib/mail/addr.h"
#include "smtpd/access_action.h"

static enum access may_wait
ask(const struct access_query *query, struct slice key, bool *found)
{
    struct access_check *check = query->check;
    struct arena *arena = check->session->cmd;
    const char *value = NULL;
    struct err err;

    *found = false;
    if (key.len == 0)
        return ACCESS_DUNNO;
    if (table_find(access_table(check, query->table), arena, key, &value, &err) < 0) {
        *found = true;
        return access_table_failed(check, query->table, query->subject, &err);
    }
    if (!value)
        return ACCESS_DUNNO;
    *found = true;
    return access_act(check, query->table, value, query->subject, query->kind);
}

static bool
takes_parts(const struct access_query *query)
{
    return !table_is_pattern(access_table(query->check, query->table));
}

enum access may_wait
access_map_text(const struct access_query *query, const char *key, bool *found)
{
    return ask(query, slice_from(key), found);
}

/* The domain, then those above it: with their dot, or as smtpd_access_maps in parent_domain_matches_subdomains has it,
 * without. */
enum access may_wait
access_map_domain(const struct access_query *query, const char *domain, bool *found)
{
    bool bare = query->check->session->server->access_subdomains, parts = takes_parts(query);
    struct slice rest = slice_from(domain);
    enum access result;

    if (rest.len > 1 && rest.ptr[rest.len - 1] == '.')
        rest.len--;
    result = ask(query, rest, found);
    while (parts && !*found) {
        const char *dot = rest.len > 1 ? memchr(rest.ptr + 1, '.', rest.len - 1) : NULL;
        if (!dot)
            break;
        rest.len -= (size_t)(dot - rest.ptr);
        rest.ptr = dot;
        result = ask(query, bare ? slice_make(rest.ptr + 1, rest.len - 1) : rest, found);
    }
    return result;
}

/* The address, then networks: an octet, or a pair of them, less each time. */
enum access may_wait
access_map_host_address(const struct access_query *query, const char *address, bool *found)
{
    char separator = strchr(address, ':') ? ':' : '.';
    bool parts = takes_parts(query);
    struct slice key = slice_from(address);
    enum access result = ask(query, key, found);

    while (parts && !*found && key.len > 0) {
        while (key.len > 0 && key.ptr[key.len - 1] != separator)
            key.len--;
        while (key.len > 0 && key.ptr[key.len - 1] == separator)
            key.len--;
        result = ask(query, key, found);
    }
    return result;
}

/* "user+extension" without the extension; the whole if it has none. */
static struct slice
without_extension(const struct access_query *query, struct slice local)
{
    const struct smtpd_settings *set = &query->check->session->server->set;
    const char *delimiters = set->recipient_delimiter;

    if (!delimiters[0] || slice_equal_text_fold(local, "mailer-daemon") ||
        slice_equal_text_fold(local, "double-bounce"))
        return local;
    if (set->owner_request_special && strchr(delimiters, '-') &&
        (slice_starts_with_fold(local, "owner-") ||
         (local.len > 8 && slice_equal_text_fold(slice_make(local.ptr + local.len - 8, 8), "-request"))))
        return local;
    for (size_t i = 1; i < local.len; i++)
        if (strchr(delimiters, local.ptr[i]))
            return slice_make(local.ptr, i);
    return local;
}

static enum access may_wait
ask_joined(const struct access_query *query, struct slice local, const char *rest, bool *found)
{
    const char *key = arena_printf(query->check->session->cmd, "%.*s%s", SLICE_ARG(local), rest);

    return ask(query, slice_from(key), found);
}

enum access may_wait
access_map_mail_address(const struct access_query *query, const char *address, bool *found)
{
    struct slice local, domain, plain;
    enum access result = ask(query, slice_from(address), found);

    if (*found || !takes_parts(query))
        return result;
    addr_split(address, &local, &domain);
    plain = without_extension(query, local);
    const char *tail = address + local.len; /* "@domain" */
    if (plain.len < local.len && (result = ask_joined(query, plain, tail, found), *found))
        return result;
    if (domain.len > 0 && (result = access_map_domain(query, domain.ptr, found), *found))
        return result;
    result = ask_joined(query, local, "@", found);
    if (!*found && plain.len < local.len)
        result = ask_joined(query, plain, "@", found);
    return result;
}

enum access
access_map_no_permit(const struct access_query *query, enum access result)
{
    if (result != ACCESS_PERMIT)
        return result;
    log_warning("access table %s permits %s \"%s\": not allowed here, taken for DUNNO", query->table, query->kind,
                query->subject);
    return ACCESS_DUNNO;
}
