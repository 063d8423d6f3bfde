/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/program_pages.h"

enum { PAGE = 4096 };

/* Constants of the program, so many that those in the middle are not mapped together with what lies around them: a kernel may keep, and
 * map, 2 MiB of a file as one. */
enum { CONSTANT_PAGES = 1280 };
static const unsigned char constants[CONSTANT_PAGES * PAGE] = {[0 ... CONSTANT_PAGES * PAGE - 1] = 7};
static unsigned char written[8 * PAGE] = {[0 ... 8 * PAGE - 1] = 7};

/* Does the page at p belong to this process's memory now? */
static bool
is_present(const volatile unsigned char *p)
{
    uint64_t entry = 0;
    long page = sysconf(_SC_PAGESIZE);
    off_t where = (off_t)((uintptr_t)p / (uintptr_t)page * sizeof(entry));
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        skip();
    assert_int_equal(pread(fd, &entry, sizeof(entry), where), sizeof(entry));
    close(fd);
    return entry >> 63;
}

static void
constants_are_given_back_and_read_again(void **state)
{
    const volatile unsigned char *middle = constants + CONSTANT_PAGES / 2 * PAGE;

    (void)state;
    assert_int_equal(*middle, 7);
    assert_true(is_present(middle));
    program_pages_release();
    assert_false(is_present(middle));
    for (size_t i = 0; i < sizeof(constants); i += PAGE / 4)
        assert_int_equal(((const volatile unsigned char *)constants)[i], 7);
}

static void
what_was_written_stays(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(written); i++)
        written[i] = (unsigned char)i;
    program_pages_release();
    for (size_t i = 0; i < sizeof(written); i++)
        assert_int_equal(written[i], (unsigned char)i);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constants_are_given_back_and_read_again),
        cmocka_unit_test(what_was_written_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
