/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/lmdb_make.h: makes and changes FILE.lmdb, for postmap and postalias. */
#ifndef LIB_TABLE_LMDB_MAKE_H
#define LIB_TABLE_LMDB_MAKE_H

#include "lib/table/table_type.h"

extern const struct table_maker lmdb_maker;

#endif
