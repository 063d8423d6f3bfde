/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as FILE.lmdb or FILE.cdb: the first byte says which; asked for keys and listed. A damaged file is an error, and no look-up
 * goes outside of it. Where the first byte's lowest bits ask for it, a good file is made and bytes of it are changed. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/table/table.h"
#include "lib/table/table_type.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static char directory[] = "/tmp/fuzz_table.XXXXXX";

static void
remove_directory(void)
{
    char path[100];

    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/t.%s", directory, i ? "cdb" : "lmdb");
        (void)unlink(path);
    }
    (void)rmdir(directory);
}

/* A table of some hundred entries, and one that is long. */
static void
make_good(const char *type, const char *path)
{
    const struct table_maker *maker = table_type_find(slice_from(type))->maker;
    char key[40], *big = calloc(1, 9000);
    struct err err;
    void *state = maker->create(NULL, path, 0600, TABLE_DUP_IGNORE, &err);

    check(state && big);
    memset(big, 'x', 8999);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "key%u@example.com", i * 7919 % 1000);
        check(maker->put(state, slice_from(key), slice_from(i == 150 ? big : key), &err) == 0);
    }
    check(maker->finish(state, &err) == 0);
    free(big);
}

/* Pairs of a place and a byte. */
static void
damage(const char *file, const unsigned char *data, size_t size)
{
    struct stat st;
    int fd = open(file, O_RDWR | O_CLOEXEC);

    check(fd >= 0 && fstat(fd, &st) == 0);
    for (; size >= 4; data += 4, size -= 4)
        check(pwrite(fd, data + 3, 1, ((data[0] << 16 | data[1] << 8 | data[2]) % st.st_size)) == 1);
    if (size == 3)
        check(ftruncate(fd, (data[0] << 16 | data[1] << 8 | data[2]) % st.st_size) == 0);
    close(fd);
}

static void
ask(const char *name)
{
    struct err err;
    struct conf *conf = conf_from_text("/etc/postfix", slice_from(""), &err);
    struct table *table = table_open(conf, name, 0, &err);
    struct arena *arena = arena_new();
    const char *value;
    struct slice key;

    for (unsigned i = 0; table && i < 1000; i += 13) {
        const char *text = arena_printf(arena, "key%u@example.com", i);
        (void)!table_find(table, arena, slice_from(text), &value, &err);
    }
    for (unsigned i = 0; table && i < 400; i++)
        if (table_next(table, arena, i == 0, &key, &value, &err) < 0 || !key.ptr)
            break;
    tables_close_all();
    conf_free(&conf);
    arena_free(&arena);
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static bool ready;
    char path[100], file[110], name[120];

    if (!ready) {
        check(mkdtemp(directory) != NULL);
        atexit(remove_directory);
        log_to_fd(open("/dev/null", O_WRONLY | O_CLOEXEC), false);
        ready = true;
    }
    if (size == 0)
        return 0;
    const char *type = data[0] & 1 ? "cdb" : "lmdb";
    snprintf(path, sizeof path, "%s/t", directory);
    snprintf(file, sizeof file, "%s.%s", path, type);
    snprintf(name, sizeof name, "%s:%s", type, path);
    if (data[0] & 2) {
        make_good(type, path);
        damage(file, data + 1, size - 1);
    } else {
        int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        check(fd >= 0 && write(fd, data + 1, size - 1) == (ssize_t)size - 1);
        close(fd);
    }
    ask(name);
    return 0;
}
