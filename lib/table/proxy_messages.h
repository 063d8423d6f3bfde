/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/proxy_messages.h: the structs of proxy_messages.def and their type objects. */
#ifndef LIB_TABLE_PROXY_MESSAGES_H
#define LIB_TABLE_PROXY_MESSAGES_H

#include <stddef.h>
#include <stdint.h>

#include "lib/run/msg.h"

enum {
    PROXY_KEY_LIMIT = 64 << 10,  /* bytes of a key or a table's name */
    PROXY_VALUE_LIMIT = 4 << 20, /* bytes of a value; longer ones are an error of the look-up */
    PROXY_KEYS_MAX = 1000,       /* keys in a call */
};

enum { PROXY_FOUND, PROXY_NONE, PROXY_FAILED };

/* lib/mail/messages.h has the others. */
enum { ROLE_PROXYMAP = 1 << 14 };

#define MSG_ROWS "lib/table/proxy_messages.def"
#include "lib/run/msg_structs.h"

extern const struct msg_type type_proxy_find, type_proxy_found, type_proxy_change, type_proxy_next, type_proxy_pair;

#endif
