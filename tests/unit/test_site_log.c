/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of deferred mail by destination. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "flush/site_log.h"
#include "lib/base/compiler.h"

enum { NOW = 1700000000, HOUR = 3600 };

static char base[] = "/tmp/test_site_log_XXXXXX";
static struct queue_dir dir = {.hashed_names = "", .depth = 1};

static void
put(const char *path, const char *text)
{
    int fd = openat(dir.fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

/* NULL: there is no such file. */
static const char *
get(const char *path)
{
    static char text[1000];
    int fd = openat(dir.fd, path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return NULL;
    n = read(fd, text, sizeof text - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    close(fd);
    return text;
}

static void
set_times(const char *path, int64_t accessed, int64_t modified)
{
    struct timespec times[2] = {{.tv_sec = accessed}, {.tv_sec = modified}};

    assert_int_equal(utimensat(dir.fd, path, times, 0), 0);
}

static int
begin(void **state)
{
    (void)state;
    if (!mkdtemp(base))
        return -1;
    dir.fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir.fd < 0 || mkdirat(dir.fd, "deferred", 0700) < 0 || mkdirat(dir.fd, "incoming", 0700) < 0 ? -1 : 0;
}

static int
end(void **state)
{
    char command[100];

    (void)state;
    close(dir.fd);
    snprintf(command, sizeof command, "rm -r %s", base);
    return system(command);
}

static void
test_names_and_lines(void **state)
{
    static const struct {
        const char *site, *file;
    } rows[] = {
        {"Far-Away.test", "flush/far_away_test"}, {"[127.0.0.9]", "flush/_127_0_0_9_"}, {"../../x", "flush/______x"}};
    struct site_log_outcome outcome = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        site_log_add(&dir, slice_from(rows[i].site), "AB12", &outcome);
        site_log_add(&dir, slice_from(rows[i].site), "CD34", &outcome);
        assert_string_equal(get(rows[i].file), "AB12\nCD34\n");
    }
    assert_int_equal(outcome.failed, 0);
}

static void
test_what_is_sent(void **state)
{
    struct site_log_outcome outcome = {0};
    struct stat st;

    (void)state;
    put("deferred/AB12", "one");
    put("deferred/CD34", "two");
    assert_int_equal(fchmodat(dir.fd, "deferred/CD34", 0710, 0), 0); /* postsuper -e */
    put("deferred/EF56", "another's");
    /* Ids twice, of messages that are gone, what is no id, what would lead elsewhere, a line cut off. */
    put("flush/site_test", "AB12\n99\nAB12\n../incoming/x\n\nnot an id\nCD34\nEF5");
    site_log_send(&dir, slice_from("site.test"), &outcome);
    assert_int_equal(outcome.failed, 0);
    assert_int_equal(outcome.moved, 2);
    assert_non_null(get("incoming/AB12"));
    assert_non_null(get("incoming/CD34"));
    assert_non_null(get("deferred/EF56"));
    assert_string_equal(get("flush/site_test"), "");
    assert_int_equal(fstatat(dir.fd, "incoming/AB12", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0740);
    assert_int_equal(fstatat(dir.fd, "incoming/CD34", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0750);

    site_log_send_message(&dir, "EF56", &outcome);
    site_log_send_message(&dir, "EF56", &outcome);
    assert_int_equal(outcome.moved, 3);
    assert_int_equal(outcome.failed, 0);
    site_log_send(&dir, slice_from("nothing.test"), &outcome);
    assert_int_equal(outcome.failed, 0);
    assert_null(get("flush/nothing_test"));
}

static void
test_a_file_of_no_lines(void **state)
{
    struct site_log_outcome outcome = {0};
    char *text = malloc(300001);

    (void)state;
    assert_non_null(text);
    memset(text, 'A', 300000);
    text[300000] = '\0';
    put("flush/long_test", text);
    free(text);
    site_log_send(&dir, slice_from("long.test"), &outcome);
    assert_int_equal(outcome.failed + outcome.moved, 0);
    assert_string_equal(get("flush/long_test"), "");
    assert_int_equal(symlinkat("long_test", dir.fd, "flush/link_test"), 0);
    site_log_send(&dir, slice_from("link.test"), &outcome);
    assert_int_equal(outcome.failed, 1);
    unlinkat(dir.fd, "flush/link_test", 0);
}

static void
test_refresh(void **state)
{
    struct site_log_outcome outcome = {0};

    (void)state;
    put("deferred/A1", "one");
    put("deferred/B2", "two");
    put("flush/old_test", "A1\n");
    put("flush/new_test", "B2\n");
    put("flush/empty_test", "");
    put("flush/emptied_test", "");
    set_times("flush/old_test", NOW - 12 * HOUR, NOW);
    set_times("flush/new_test", NOW - 11 * HOUR, NOW);
    set_times("flush/empty_test", NOW, NOW - 168 * HOUR);
    set_times("flush/emptied_test", NOW, NOW - 167 * HOUR);
    site_log_refresh(&dir, NOW, 12 * HOUR, 168 * HOUR, &outcome);
    assert_int_equal(outcome.failed, 0);
    assert_int_equal(outcome.moved, 1);
    assert_non_null(get("incoming/A1"));
    assert_string_equal(get("flush/new_test"), "B2\n");
    assert_null(get("flush/empty_test"));
    assert_non_null(get("flush/emptied_test"));
}

/* A list that filled since is not old, whatever the file's age. */
static void
test_time_begins_with_the_first_line(void **state)
{
    struct site_log_outcome outcome = {0};

    (void)state;
    put("flush/again_test", "");
    set_times("flush/again_test", 1000, 1000);
    site_log_add(&dir, slice_from("again.test"), "B2", &outcome);
    site_log_refresh(&dir, NOW, 12 * HOUR, 168 * HOUR, &outcome);
    assert_int_equal(outcome.moved, 0);
    assert_string_equal(get("flush/again_test"), "B2\n");
}

/* A message of many passes: others of its recipients are being tried. */
static void
test_what_is_active_stays_in_the_list(void **state)
{
    struct site_log_outcome outcome = {0};

    (void)state;
    assert_true(mkdirat(dir.fd, "active", 0700) == 0);
    site_log_add(&dir, slice_from("many.test"), "1A2B3C4D5", &outcome);
    site_log_add(&dir, slice_from("many.test"), "1A2B3C4D6", &outcome);
    site_log_add(&dir, slice_from("many.test"), "1A2B3C4D7", &outcome); /* has been delivered */
    put("active/1A2B3C4D5", "");
    put("deferred/1A2B3C4D6", "");
    site_log_send(&dir, slice_from("many.test"), &outcome);
    assert_int_equal(outcome.moved, 1);
    assert_string_equal(get("flush/many_test"), "1A2B3C4D5\n");
    assert_int_equal(renameat(dir.fd, "active/1A2B3C4D5", dir.fd, "deferred/1A2B3C4D5"), 0);
    site_log_send(&dir, slice_from("many.test"), &outcome);
    assert_int_equal(outcome.moved, 2);
    assert_int_equal(outcome.failed, 0);
    assert_string_equal(get("flush/many_test"), "");
    assert_non_null(get("incoming/1A2B3C4D5"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names_and_lines),
                                       cmocka_unit_test(test_what_is_sent),
                                       cmocka_unit_test(test_a_file_of_no_lines),
                                       cmocka_unit_test(test_refresh),
                                       cmocka_unit_test(test_time_begins_with_the_first_line),
                                       cmocka_unit_test(test_what_is_active_stays_in_the_list)};

    return cmocka_run_group_tests(tests, begin, end);
}
