/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/proxy_messages.h"

#define MSG_ROWS "lib/table/proxy_messages.def"
#include "lib/run/msg_rows.h"
