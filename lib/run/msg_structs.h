/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/msg_structs.h: makes the structs of a file of rows (lib/mail/messages.def says how they look), for the header that declares
 * their type objects:
 *
 *   #define MSG_ROWS "lib/mail/messages.def"
 *   #include "lib/run/msg_structs.h"
 */
/* clang-format off */
#define ITEM(tag) struct tag {
#define ITEM_END(tag) };
#define MESSAGE(tag, object, name, code, senders) struct tag {
#define TEXT(tag, field, longest) const char *field;
#define INT(tag, field, least, most) int64_t field;
#define LIST(tag, item, items, number, most) struct item *items; size_t number;
#define END(tag) };
/* clang-format on */
#include "lib/run/msg_pass.h"
#undef MSG_ROWS
