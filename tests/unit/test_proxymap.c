/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides of proxymap in one process: what a daemon's table handle asks, over a socket in a temporary directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it */
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/mail/messages.h"
#include "lib/run/link.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/task.h"
#include "lib/table/maps.h"
#include "lib/table/proxy_client.h"
#include "lib/table/table.h"
#include "proxymap/serve.h"

static struct {
    char directory[64], path[108];
    int listener;
    struct arena *arena;
    struct conf *conf;
    struct task_group group;
    void (*test)(void);
} t;

static void
acceptor(void *arg)
{
    struct task_fd tfd;
    struct err err;

    (void)arg;
    task_fd_init(&tfd, t.listener);
    for (;;) {
        int fd = accept4(t.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0)
            link_accept(fd, serve_handlers, serve_handler_count, NULL, NULL);
        else if (task_fd_wait_read(&tfd, NO_DEADLINE, &err) < 0)
            break;
    }
    task_fd_release(&tfd);
}

static void
write_file(const char *name, const char *text)
{
    char path[200];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", t.directory, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static struct table *
open_table(const char *type, const char *name)
{
    struct err err;
    struct table *table = table_open(t.conf, arena_printf(t.arena, "%s:%s/%s", type, t.directory, name), 0, &err);

    assert_non_null(table);
    return table;
}

static const char *
find(struct table *table, const char *key)
{
    struct err err;
    const char *value;

    assert_int_equal(table_find(table, t.arena, slice_from(key), &value, &err), 0);
    return value;
}

static void
finding(void)
{
    struct table *table = open_table("proxy:texthash", "read");
    const struct slice keys[] = {slice_from("none"), slice_from("a"), slice_from("b")};
    struct err err;
    uid_t uid;

    assert_string_equal(find(table, "a"), "one");
    assert_string_equal(find(table, "a"), "one");
    assert_null(find(table, "none"));
    assert_int_equal(table_prefetch(table, t.arena, keys, ARRAY_LEN(keys), &err), 0);
    assert_string_equal(find(table, "b"), "two");
    assert_false(table_is_pattern(table));
    assert_true(table_owner(table, &uid) == (geteuid() == 0 ? TABLE_TRUSTED : TABLE_OWNED));
    table = open_table("proxy:memcache", "read");
    assert_int_equal(table_owner(table, &uid), TABLE_OWNER_UNKNOWN);
    assert_null(table_open(t.conf, "proxy:tcp:localhost:1", TABLE_NO_UNAUTH, &err));
}

static void
finding_forms(void)
{
    struct err err;
    const char *value, *extension;
    struct maps *maps =
        maps_new(t.arena, t.conf, "x_maps", arena_printf(t.arena, "proxy:texthash:%s/read", t.directory), 0, &err);

    assert_non_null(maps);
    assert_int_equal(maps_find_address(maps, t.arena, slice_from("u+x@d.test"), "+", MAPS_FULL | MAPS_DOMAIN, NULL,
                                       &value, &extension, &err),
                     0);
    assert_string_equal(value, "user");
    assert_string_equal(extension, "+x");
    assert_int_equal(maps_find_address(maps, t.arena, slice_from("other@d.test"), "+", MAPS_FULL | MAPS_DOMAIN, NULL,
                                       &value, &extension, &err),
                     0);
    assert_string_equal(value, "domain");
}

static void
refusing(void)
{
    struct table *table = open_table("proxy:texthash", "secret"), *write_only = open_table("proxy:texthash", "read");
    struct err err;
    const char *value;
    bool found;

    assert_int_equal(table_find(table, t.arena, slice_from("a"), &value, &err), -1);
    assert_int_equal(err.kind, ERR_TEMP);
    assert_non_null(strstr(err.text, "proxy_read_maps"));
    assert_int_equal(table_change(write_only, t.arena, slice_from("a"), "x", &found, &err), -1);
    assert_non_null(strstr(err.text, "proxy_write_maps"));
}

static void
changing(void)
{
    struct table *table = open_table("proxy:lmdb", "cache");
    struct err err;
    bool found;

    assert_int_equal(table_change(table, t.arena, slice_from("k"), "v1", &found, &err), 0);
    assert_string_equal(find(table, "k"), "v1");
    assert_int_equal(table_change(table, t.arena, slice_from("k"), "v2", &found, &err), 0);
    assert_string_equal(find(table, "k"), "v2");
    assert_int_equal(table_change(table, t.arena, slice_from("k"), NULL, &found, &err), 0);
    assert_true(found);
    assert_null(find(table, "k"));
    assert_int_equal(table_change(table, t.arena, slice_from("k"), NULL, &found, &err), 0);
    assert_false(found);
}

static void
failing(void)
{
    struct table *table = open_table("proxy:fail", "reason");
    struct err err;
    const char *value;

    assert_int_equal(table_find(table, t.arena, slice_from("a"), &value, &err), -1);
    assert_int_equal(err.kind, ERR_TEMP);
    proxy_client_init("/nonexistent/proxymap", "/nonexistent/proxywrite");
    table = open_table("proxy:texthash", "read");
    assert_int_equal(table_find(table, t.arena, slice_from("c"), &value, &err), -1);
    assert_int_equal(err.kind, ERR_TEMP);
}

static void
run_it(void *arg)
{
    (void)arg;
    t.test();
}

static void
run(void (*test)(void))
{
    struct err err;
    struct net_addr addr;
    const char *d = t.directory, *read_maps, *write_maps;

    memset(&t, 0, sizeof(t));
    t.arena = arena_new();
    t.test = test;
    snprintf(t.directory, sizeof(t.directory), "/tmp/test_proxymap.XXXXXX");
    assert_non_null(mkdtemp(t.directory));
    snprintf(t.path, sizeof(t.path), "%s/s", t.directory);
    write_file("read", "a one\nb two\nu@d.test user\n@d.test domain\n");
    write_file("secret", "a one\n");
    t.conf = conf_from_text(t.directory, slice_from("compatibility_level=3.6\n"), &err);
    assert_non_null(t.conf);
    assert_int_equal(net_addr_unix(t.path, &addr, &err), 0);
    t.listener = net_listen(&addr, 5, 0600, &err);
    assert_true(t.listener >= 0);
    loop_init();
    link_init(&mail_protocol, "proxymap", geteuid());
    read_maps = arena_printf(t.arena, "proxy:texthash:%s/read, proxy:fail:%s/reason", d, d);
    write_maps = arena_printf(t.arena, "proxy:lmdb:%s/cache", d);
    serve_prepare(t.conf, access_new(t.arena, t.conf, read_maps, write_maps), true);
    proxy_client_init(t.path, t.path);
    task_group_init(&t.group);
    task_spawn(&t.group, "acceptor", acceptor, NULL);
    task_run_main(run_it, NULL);
    proxy_client_release();
    task_group_cancel(&t.group);
    task_group_join(&t.group);
    for (int i = 0; i < 20; i++)
        loop_turn(1000);
    tables_close_all();
    close(t.listener);
    loop_release();
    arena_free(&t.arena);
    conf_free(&t.conf);
    for (const char *const *name = (const char *const[]){"read", "secret", "cache.lmdb", "cache.lmdb-lock", "s", NULL};
         *name; name++) {
        char path[200];

        snprintf(path, sizeof(path), "%s/%s", t.directory, *name);
        unlink(path);
    }
    rmdir(t.directory);
}

#define TEST(name)                        \
    static void test_##name(void **state) \
    {                                     \
        (void)state;                      \
        run(name);                        \
    }
TEST(finding)
TEST(finding_forms)
TEST(refusing)
TEST(changing)
TEST(failing)

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_finding), cmocka_unit_test(test_finding_forms),
                                       cmocka_unit_test(test_refusing), cmocka_unit_test(test_changing),
                                       cmocka_unit_test(test_failing)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
