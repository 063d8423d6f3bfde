/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/messages.h"

#include "lib/table/proxy_messages.h"

#define MSG_ROWS "lib/mail/messages.def"
#include "lib/run/msg_rows.h"

static const struct msg_type *const all_types[] = {
    &type_proxy_find, &type_proxy_found, &type_proxy_change, &type_proxy_next, &type_proxy_pair,
    &type_envelope, &type_submitted,  &type_want_ids,  &type_ids,       &type_segment,  &type_announce,
    &type_released, &type_seal,       &type_deliver,   &type_delivered, &type_bounce,   &type_bounced,
    &type_resolve,  &type_resolved,   &type_rewrite,   &type_rewritten, &type_dns_query, &type_dns_answer,
    &type_anvil,    &type_anvil_count, &type_queue_control, &type_queue_list, &type_session, &type_session_taken,
    &type_flush_note, &type_flush_site, &type_flushed,
};

static const struct link_role all_roles[] = {
    {"proxymap", ROLE_PROXYMAP}, {"postmap", ROLE_TOOL}, {"postalias", ROLE_TOOL}, {"postfix", ROLE_TOOL},
    {"smtpd", ROLE_SMTPD},       {"cleanup", ROLE_CLEANUP},   {"qmgr", ROLE_QMGR},   {"bounce", ROLE_BOUNCE},
    {"smtp", ROLE_AGENT},        {"lmtp", ROLE_AGENT},        {"error", ROLE_AGENT}, {"discard", ROLE_AGENT},
    {"pipe", ROLE_AGENT},        {"virtual", ROLE_AGENT},     {"local", ROLE_LOCAL | ROLE_AGENT},
    {"pickup", ROLE_PICKUP},     {"trivial-rewrite", ROLE_REWRITE}, {"resolver", ROLE_RESOLVER},
    {"anvil", ROLE_ANVIL},       {"showq", ROLE_SHOWQ},       {"postsuper", ROLE_TOOL}, {"postqueue", ROLE_TOOL},
    {"postcat", ROLE_TOOL},      {"master", ROLE_TOOL},       {"imapd", ROLE_FRONT}, {"pop3d", ROLE_FRONT},
    {"auth", ROLE_AUTH},       {"flush", ROLE_FLUSH},
    {"imap-session", ROLE_READER}, {"pop3-session", ROLE_READER},
};

const struct link_protocol mail_protocol = {
    .types = all_types, .type_count = ARRAY_LEN(all_types), .roles = all_roles, .role_count = ARRAY_LEN(all_roles)};

struct envelope
envelope_empty(void)
{
    struct envelope envelope = {0};

    for (unsigned i = 0; i < type_envelope.field_count; i++)
        if (type_envelope.fields[i].kind == MSG_TEXT)
            *(const char **)(void *)((char *)&envelope + type_envelope.fields[i].offset) = "";
    return envelope;
}
