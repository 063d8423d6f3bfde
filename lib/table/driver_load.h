/* SPDX-License-Identifier: Apache-2.0 */
/* lib/table/driver_load.h: finds the module of a table type, PREFIX/postern-TYPE.so. */
#ifndef LIB_TABLE_DRIVER_LOAD_H
#define LIB_TABLE_DRIVER_LOAD_H

#include "lib/base/err.h"
#include "lib/conf/conf.h"
#include "lib/table/driver.h"

/* Stays loaded as long as the process. NULL: the error names the package that has it. shlib_directory says where modules are, or
 * where it says nothing ("no") the directory that was given when building. */
const struct table_driver *driver_load(const struct conf *, const char *type, struct err *) MUST_USE;
const struct table_file_driver *driver_load_file(const struct conf *, const char *type, struct err *) MUST_USE;

/* 0: the module is installed. */
int driver_is_there(const struct conf *, const char *type, struct err *) MUST_USE;

#endif
