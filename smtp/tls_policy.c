/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/tls_policy.h"

#include <string.h>
#include <strings.h>

#include "lib/base/check.h"

int
tls_level_parse(const char *text, enum tls_level *level)
{
    static const struct {
        const char *name;
        enum tls_level level;
    } levels[] = {{"none", TLS_NONE},       {"may", TLS_MAY},
                  {"encrypt", TLS_ENCRYPT}, {"fingerprint", TLS_FINGERPRINT},
                  {"dane", TLS_DANE},       {"dane-only", TLS_DANE_ONLY},
                  {"verify", TLS_VERIFY},   {"secure", TLS_SECURE}};

    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (strcasecmp(text, levels[i].name) == 0) {
            *level = levels[i].level;
            return 0;
        }
    return -1;
}

static void
set_defaults(const struct client *client, enum tls_level level, struct tls_policy *policy)
{
    const struct smtp_settings *set = &client->set;
    bool mandatory = level >= TLS_ENCRYPT;

    *policy = (struct tls_policy){.level = level,
                                  .match = level == TLS_VERIFY   ? set->smtp_tls_verify_cert_match
                                           : level == TLS_SECURE ? set->smtp_tls_secure_cert_match
                                                                 : "",
                                  .fingerprints = level == TLS_FINGERPRINT ? set->smtp_tls_fingerprint_cert_match : "",
                                  .protocols = mandatory ? set->smtp_tls_mandatory_protocols : set->smtp_tls_protocols,
                                  .ciphers = level >= TLS_FINGERPRINT ? client->verifying_ciphers
                                             : mandatory              ? client->mandatory_ciphers
                                                                      : client->ciphers,
                                  .server_name = set->smtp_tls_servername};
}

/* ---- the tables ---- */

static int
set_attribute(const struct client *client, struct arena *arena, struct slice name, const char *value,
              struct tls_policy *policy)
{
    if (slice_equal_text_fold(name, "match")) {
        if (policy->level == TLS_FINGERPRINT)
            policy->fingerprints =
                policy->fingerprints[0] ? arena_printf(arena, "%s|%s", policy->fingerprints, value) : value;
        else
            policy->match = value;
    } else if (slice_equal_text_fold(name, "protocols")) {
        policy->protocols = value;
    } else if (slice_equal_text_fold(name, "ciphers")) {
        policy->ciphers = client_ciphers(client, arena, value, policy->level >= TLS_ENCRYPT,
                                         policy->level >= TLS_FINGERPRINT ? "aNULL" : "");
    } else if (slice_equal_text_fold(name, "exclude")) {
        struct slice rest = slice_from(value), word;
        while (slice_word(&rest, ", :", &word))
            policy->ciphers = arena_printf(arena, "%s:!%.*s", policy->ciphers, SLICE_ARG(word));
    } else if (slice_equal_text_fold(name, "servername")) {
        policy->server_name = strcasecmp(value, "hostname") == 0 ? "" : value;
    } else {
        return -1;
    }
    return 0;
}

static int
set_attributes(const struct client *client, struct arena *arena, struct slice rest, struct tls_policy *policy,
               struct err *err)
{
    struct slice word, name;

    while (slice_word(&rest, ", \t\r\n", &word)) {
        struct slice whole = word;
        slice_cut(&word, '=', &name);
        if (set_attribute(client, arena, name, arena_strndup(arena, word.ptr ? word.ptr : "", word.len), policy) < 0)
            return err_set(err, ERR_SYNTAX, "smtp_tls_policy_maps: this is not known: \"%.*s\"", SLICE_ARG(whole));
    }
    return 0;
}

static int
parse_policy(const struct client *client, struct arena *arena, const char *text, struct tls_policy *policy,
             struct err *err)
{
    struct slice rest = slice_from(text), word;
    enum tls_level level;

    if (!slice_word(&rest, ", \t\r\n", &word) || tls_level_parse(arena_strndup(arena, word.ptr, word.len), &level) < 0)
        return err_set(err, ERR_SYNTAX, "smtp_tls_policy_maps: this level is not known: \"%s\"", text);
    set_defaults(client, level, policy);
    policy->text = text;
    return set_attributes(client, arena, rest, policy, err);
}

void
tls_policy_become(const struct client *client, struct arena *arena, struct tls_policy *policy, enum tls_level level)
{
    const char *text = policy->text;
    struct slice rest = slice_from(text ? text : ""), word;

    if (level == policy->level)
        return;
    set_defaults(client, level, policy);
    policy->text = text;
    if (slice_word(&rest, ", \t\r\n", &word))
        check(set_attributes(client, arena, rest, policy, NULL) == 0); /* it was read before */
}

/* The next hop as it is written, its name, and the domains above that. */
static int may_wait
look_up(const struct client *client, struct arena *arena, const char *next_hop, const char *domain, const char **text,
        struct err *err)
{
    *text = NULL;
    if (maps_find(client->tls_policies, arena, slice_from(next_hop), text, err) < 0)
        return -1;
    if (*text || next_hop[0] == '[')
        return 0;
    for (const char *name = domain; name && !*text; name = strchr(name + 1, '.'))
        if (maps_find(client->tls_policies, arena, slice_from(name), text, err) < 0)
            return -1;
    return 0;
}

int may_wait
tls_policy_find(const struct client *client, struct arena *arena, const char *next_hop, const char *domain,
                struct tls_policy *policy, struct err *err)
{
    const char *text;

    set_defaults(client, client->tls_level, policy);
    if (maps_is_empty(client->tls_policies))
        return 0;
    if (look_up(client, arena, next_hop, domain, &text, err) < 0)
        return err_context(err, "smtp_tls_policy_maps");
    return text ? parse_policy(client, arena, text, policy, err) : 0;
}

/* ---- names and fingerprints ---- */

const char *const *
tls_policy_names(const struct tls_policy *policy, struct arena *arena, const char *host, const char *domain)
{
    struct slice rest = slice_from(policy->match), word;
    const char **names;
    size_t count = 0;

    while (slice_word(&rest, ":, \t\r\n", &word))
        count++;
    names = arena_array(arena, count + 1, sizeof *names);
    rest = slice_from(policy->match);
    count = 0;
    while (slice_word(&rest, ":, \t\r\n", &word))
        names[count++] = slice_equal_text_fold(word, "hostname")      ? host
                         : slice_equal_text_fold(word, "nexthop")     ? domain
                         : slice_equal_text_fold(word, "dot-nexthop") ? arena_printf(arena, ".%s", domain)
                                                                      : arena_strndup(arena, word.ptr, word.len);
    return names;
}

bool
tls_policy_has_fingerprint(const struct tls_policy *policy, const char *fingerprint)
{
    struct slice rest = slice_from(policy->fingerprints), word;

    while (slice_word(&rest, "|, \t\r\n", &word))
        if (slice_equal_text_fold(word, fingerprint))
            return true;
    return false;
}
