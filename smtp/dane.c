/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/dane.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/run/loop.h"

enum { NAME_LIMIT = 253 };

static const usec_t LOOKUP_LIMIT = SECONDS(60); /* the resolver gives up before that */

/* ---- records ---- */

static bool
parse_hex(struct arena *arena, struct slice hex, struct slice *data)
{
    unsigned char *bytes = arena_alloc(arena, hex.len / 2 + 1);

    if (hex.len == 0 || hex.len % 2 != 0)
        return false;
    for (size_t i = 0; i < hex.len; i++) {
        int digit = text_hex_digit(hex.ptr[i]);
        if (digit < 0)
            return false;
        bytes[i / 2] = (unsigned char)(i % 2 == 0 ? digit << 4 : bytes[i / 2] | digit);
    }
    *data = slice_make(bytes, hex.len / 2);
    return true;
}

bool
dane_parse(struct arena *arena, const char *text, struct tls_dane_record *record)
{
    unsigned char *const numbers[] = {&record->usage, &record->selector, &record->matching};
    struct slice rest = slice_from(text), word;
    unsigned long long number;

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (!slice_word(&rest, " ", &word) || slice_to_u64(word, UINT8_MAX, &number) < 0)
            return false;
        *numbers[i] = (unsigned char)number;
    }
    return slice_word(&rest, " ", &word) && slice_trim(rest).len == 0 && parse_hex(arena, word, &record->data);
}

/* ---- look-ups ---- */

struct search {
    const struct client *client;
    struct arena *arena;
    const struct host *host;
    struct dane *found;
};

/* -1: it can't be asked now. */
static int may_wait
ask(const struct search *s, const char *name, const char *type, struct msg_dns_answer *answer)
{
    struct err err;

    if (dns_lookup(s->client->dns, s->arena, name, type, loop_now() + LOOKUP_LIMIT, answer, &err) < 0)
        return -1;
    return answer->status == DNS_FAIL ? -1 : 0;
}

static bool
is_proven(const struct msg_dns_answer *answer)
{
    return answer->status == DNS_FOUND && answer->secure;
}

/* The records below a name; what DNSSEC does not vouch for is not there. -1: it can't be asked. */
static int may_wait
find_below(const struct search *s, const char *base)
{
    struct tls_dane *records = &s->found->records;
    char *name = arena_printf(s->arena, "_%u._tcp.%s", net_addr_port(&s->host->addr), base);
    struct tls_dane_record *list;
    struct msg_dns_answer answer;

    if (strlen(name) > NAME_LIMIT)
        return 0;
    if (ask(s, name, "TLSA", &answer) < 0)
        return -1;
    if (!is_proven(&answer))
        return 0;
    list = arena_array(s->arena, answer.record_count, sizeof *list);
    *records = (struct tls_dane){.base = base, .records = list};
    for (size_t i = 0; i < answer.record_count; i++)
        if (dane_parse(s->arena, answer.records[i].data, &list[records->count]))
            records->count++;
        else
            log_warning("TLSA record of %s is malformed", name);
    return 1;
}

/* RFC 7672, section 2.2.2 and 2.2.3: below the name for which it is an alias, else below its own; not where the addresses are not
 * signed, since servers of such zones may not even know the type. */
static int may_wait
find_records(const struct search *s)
{
    const struct host *host = s->host;
    struct msg_dns_answer alias;
    int found = 0;

    if (host->is_secure || s->client->set.smtp_tls_force_insecure_host_tlsa_lookup) {
        if (host->canonical && (found = find_below(s, host->canonical)) != 0)
            return found;
        return find_below(s, host->name);
    }
    if (!host->canonical)
        return 0;
    if (ask(s, host->name, "CNAME", &alias) < 0)
        return -1;
    return is_proven(&alias) ? find_below(s, host->name) : 0;
}

/* ---- what it comes to ---- */

static int
refuse(struct arena *arena, const char *why, struct failure *failure)
{
    failure_set(failure, arena, "4.7.5", "%s", why);
    failure->is_of_host = true;
    return -1;
}

int may_wait
dane_find(const struct client *client, struct arena *arena, const struct host *host, enum tls_level level,
          struct dane *found, struct failure *failure)
{
    const struct search search = {.client = client, .arena = arena, .host = host, .found = found};
    bool is_only = level == TLS_DANE_ONLY;

    *found = (struct dane){.level = TLS_MAY, .is_of_insecure_mx = host->is_of_insecure_mx};
    if (!client->with_dnssec)
        return refuse(arena, "client TLS configuration problem", failure);
    if (host->is_of_insecure_mx && is_only)
        return refuse(arena, "non DNSSEC destination", failure);
    if (host->is_of_insecure_mx && client->insecure_mx_level == TLS_MAY)
        return 0;
    int some = find_records(&search);
    if (some < 0)
        return refuse(arena, arena_printf(arena, "TLSA lookup error for %s:%u", host->name, net_addr_port(&host->addr)),
                      failure);
    if (some == 0)
        return is_only ? refuse(arena, "no TLSA records found", failure) : 0;
    if (tls_dane_usable(client->tls_dane, &found->records) == 0) {
        if (is_only)
            return refuse(arena, "TLSA records unusable", failure);
        found->level = TLS_ENCRYPT;
    } else {
        found->level = host->is_of_insecure_mx ? client->insecure_mx_level : TLS_DANE;
    }
    return 0;
}
