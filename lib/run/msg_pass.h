/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/msg_pass.h: one pass over the rows in MSG_ROWS, with the macros as they are just now, which then go. For msg_structs.h and
 * msg_rows.h. */
/* clang-format off */
#include MSG_ROWS
/* clang-format on */
#undef ITEM
#undef ITEM_END
#undef MESSAGE
#undef TEXT
#undef INT
#undef LIST
#undef END
