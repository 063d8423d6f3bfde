/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/messages.h"

/* First pass: the tables of fields. */
#define ITEM(tag) static const struct msg_field tag##_fields[] = {
#define ITEM_END(tag) };
#define MESSAGE(tag, object, name, code, senders) static const struct msg_field tag##_fields[] = {
#define TEXT(tag, field, longest) {#field, MSG_TEXT, offsetof(struct tag, field), 0, longest},
#define INT(tag, field, least, most) {#field, MSG_INT, offsetof(struct tag, field), least, most},
#define LIST(tag, item, items, number, most)
#define END(tag) };
/* clang-format off */
#include "lib/mail/messages.def"
/* clang-format on */
#undef ITEM
#undef ITEM_END
#undef MESSAGE
#undef TEXT
#undef INT
#undef LIST
#undef END

/* Second pass: the type objects. */
#define ITEM(tag)
#define ITEM_END(tag)
#define MESSAGE(tag, object, label, number, who)                                                                       \
    const struct msg_type object = {.name = label, .code = number, .senders = who, .size = sizeof(struct tag),         \
        .fields = tag##_fields, .field_count = ARRAY_LEN(tag##_fields),
#define TEXT(tag, field, longest)
#define INT(tag, field, least, most)
#define LIST(tag, item, items, number, most)                                                                           \
        .item_size = sizeof(struct item), .items_offset = offsetof(struct tag, items),                                 \
        .count_offset = offsetof(struct tag, number), .item_fields = item##_fields,                                    \
        .item_field_count = ARRAY_LEN(item##_fields), .item_max = most,
#define END(tag) };
/* clang-format off */
#include "lib/mail/messages.def"
/* clang-format on */

static const struct msg_type *const all_types[] = {
    &type_envelope, &type_submitted,  &type_want_ids,  &type_ids,       &type_segment,  &type_announce,
    &type_released, &type_seal,       &type_deliver,   &type_delivered, &type_bounce,   &type_bounced,
    &type_resolve,  &type_resolved,   &type_rewrite,   &type_rewritten, &type_dns_query, &type_dns_answer,
    &type_anvil,    &type_anvil_count, &type_queue_control, &type_queue_list,
};

static const struct link_role all_roles[] = {
    {"smtpd", ROLE_SMTPD},       {"cleanup", ROLE_CLEANUP},   {"qmgr", ROLE_QMGR},   {"bounce", ROLE_BOUNCE},
    {"smtp", ROLE_AGENT},        {"lmtp", ROLE_AGENT},        {"error", ROLE_AGENT}, {"discard", ROLE_AGENT},
    {"pipe", ROLE_AGENT},        {"virtual", ROLE_AGENT},     {"local", ROLE_LOCAL | ROLE_AGENT},
    {"pickup", ROLE_PICKUP},     {"trivial-rewrite", ROLE_REWRITE}, {"resolver", ROLE_RESOLVER},
    {"anvil", ROLE_ANVIL},       {"showq", ROLE_SHOWQ},       {"postsuper", ROLE_TOOL}, {"postqueue", ROLE_TOOL},
    {"postcat", ROLE_TOOL},      {"master", ROLE_TOOL},
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
