/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/msg_rows.h: makes the type objects of a file of rows (lib/mail/messages.def says how they look), for the one .c file that
 * has them:
 *
 *   #define MSG_ROWS "lib/mail/messages.def"
 *   #include "lib/run/msg_rows.h"
 *
 * First pass: the tables of fields. */
#define ITEM(tag) static const struct msg_field tag##_fields[] = {
#define ITEM_END(tag) };
#define MESSAGE(tag, object, name, code, senders) static const struct msg_field tag##_fields[] = {
#define TEXT(tag, field, longest) {#field, MSG_TEXT, offsetof(struct tag, field), 0, longest},
#define INT(tag, field, least, most) {#field, MSG_INT, offsetof(struct tag, field), least, most},
#define LIST(tag, item, items, number, most)
#define END(tag) };
#include "lib/run/msg_pass.h"

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
#include "lib/run/msg_pass.h"
#undef MSG_ROWS
