/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as a text table: the first byte says of which type, the rest up to a NUL is the file, what follows are keys, a line each.
 * Whatever stands in the file, a look-up ends; a pattern table gives the same answer as with one rule after the other. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/table/table.h"
#include "lib/table/table_text.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static const char *const types[] = {"cidr", "pcre", "regexp", "texthash", "inline", "unionmap", "pipemap", "randmap"};

static struct conf *
configuration(void)
{
    struct err err;
    struct conf *conf = conf_from_text("/etc/postfix", slice_from("compatibility_level=3.6\n"), &err);

    check(conf);
    return conf;
}

/* A file of its own, or the text itself for types whose name is their content. */
static char *
name_of(const char *type, struct slice text, int *fd)
{
    char *name = NULL;

    *fd = -1;
    if (strcmp(type, "cidr") != 0 && strcmp(type, "pcre") != 0 && strcmp(type, "regexp") != 0 &&
        strcmp(type, "texthash") != 0) {
        check(asprintf(&name, "%s:{%.*s}", type, SLICE_ARG(text)) > 0);
        return name;
    }
    *fd = memfd_create("table", 0);
    check(*fd >= 0 && write(*fd, text.ptr, text.len) == (ssize_t)text.len);
    check(asprintf(&name, "%s:/proc/self/fd/%d", type, *fd) > 0);
    return name;
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static int null = -1;
    struct slice rest = slice_make(data, size), text, key;
    struct arena *arena = arena_new();
    struct conf *conf = configuration();
    struct err err;
    int fd = -1;

    if (null < 0)
        null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_to_fd(null, false);
    if (size > 0) {
        const char *type = types[data[0] % ARRAY_LEN(types)];
        rest = slice_make(data + 1, size - 1);
        if (!slice_cut(&rest, '\0', &text))
            text = slice_make(NULL, 0);
        char *name = name_of(type, text, &fd);
        struct table *table = table_open(conf, name, data[0] & 0x40 ? TABLE_FOLD_FIXED : 0, &err);
        for (unsigned i = 0; table && i < 20 && slice_cut(&rest, '\n', &key); i++) {
            const char *value = NULL;
            if (table_find(table, arena, key, &value, &err) == 0 && value)
                check(strlen(value) < (1 << 25));
        }
        free(name);
    }
    tables_close_all();
    conf_free(&conf);
    arena_free(&arena);
    if (fd >= 0)
        close(fd);
    return 0;
}
