/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/banned.h: functions that have no safe use here. The build includes this file before every other one. */
#ifndef LIB_BASE_BANNED_H
#define LIB_BASE_BANNED_H

/* System headers first: they may mention the names. */
#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#undef strdupa
#undef strndupa
#undef alloca
/* Macros under clang, when calls are fortified. */
#undef sprintf
#undef vsprintf
#pragma GCC poison strcpy strcat sprintf vsprintf gets strtok alloca strdupa strndupa gmtime localtime asctime \
    tmpnam mktemp

#endif
