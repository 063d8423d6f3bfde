/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/driver_load.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

static const char *
module_path(const struct conf *conf, struct arena *arena, const char *type, struct err *err)
{
    const char *directory = conf_string(conf, arena, "shlib_directory", err);

    if (!directory)
        return NULL;
    if (directory[0] != '/')
        directory = DEF_MODULE_DIR;
    return arena_printf(arena, "%s/postern-%s.so", directory, type);
}

static int
check_path(const char *path, const char *type, struct err *err)
{
    if (access(path, F_OK) == 0)
        return 0;
    return err_set(err, ERR_PERM, "tables of type %s need the package postern-%s: there is no %s", type, type, path);
}

/* The symbol, if its version is ours. */
static const void *
load_symbol(const char *path, const char *type, const char *symbol, struct err *err)
{
    const struct table_file_driver *driver; /* all kinds begin alike */
    void *module;

    if (check_path(path, type, err) < 0)
        return NULL;
    module = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    driver = module ? dlsym(module, symbol) : NULL;
    if (!driver)
        err_set(err, ERR_PERM, "%s can't be loaded: %s", path, dlerror());
    else if (driver->version != TABLE_DRIVER_VERSION || strcmp(driver->type, type) != 0)
        err_set(err, ERR_PERM, "%s is of another version of the mail system: install the package postern-%s anew", path,
                type);
    else
        return driver;
    return NULL;
}

static const void *
load(const struct conf *conf, const char *type, const char *symbol, struct err *err)
{
    struct arena *arena = arena_new();
    const char *path = module_path(conf, arena, type, err);
    const void *driver = path ? load_symbol(path, type, symbol, err) : NULL;

    arena_free(&arena);
    return driver;
}

const struct table_driver *
driver_load(const struct conf *conf, const char *type, struct err *err)
{
    return load(conf, type, TABLE_DRIVER_SYMBOL, err);
}

const struct table_file_driver *
driver_load_file(const struct conf *conf, const char *type, struct err *err)
{
    return load(conf, type, TABLE_FILE_DRIVER_SYMBOL, err);
}

int
driver_is_there(const struct conf *conf, const char *type, struct err *err)
{
    struct arena *arena = arena_new();
    const char *path = module_path(conf, arena, type, err);
    int result = path ? check_path(path, type, err) : -1;

    arena_free(&arena);
    return result;
}
