/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a message's content: at each split of the bytes, against a byte-by-byte reference. RELIABILITY T01. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/smtp/data_scan.h"

struct row {
    const char *in;
    const char *want; /* the content; NULL: the end is not found */
    const char *rest; /* what follows the end */
};

/* As smtpd does with a large content: what is clean is taken without data_scan(). */
static size_t
scan_clean_first(struct data_scan *scan, struct slice bytes, struct buf *out)
{
    size_t taken = 0;

    while (taken < bytes.len && !scan->done) {
        struct slice rest = slice_make(bytes.ptr + taken, bytes.len - taken);
        size_t n = data_scan_clean(scan, rest);
        buf_append(out, rest.ptr, n);
        if (n == 0)
            n = data_scan(scan, rest, out);
        taken += n;
    }
    return taken;
}

/* Scans in pieces cut at `a` and `b`; returns how many bytes were taken. */
static size_t
scan_split(const char *in, size_t len, size_t a, size_t b, struct data_scan *scan, struct buf *out)
{
    const size_t cuts[] = {0, a, b, len};
    size_t taken = 0;

    *scan = (struct data_scan){0};
    for (unsigned i = 0; i < 3 && !scan->done; i++) {
        /* In a block of exactly that size, so that a read beyond it is noticed. */
        size_t n = cuts[i + 1] - cuts[i];
        char *copy = malloc(n ? n : 1);
        assert_non_null(copy);
        memcpy(copy, in + cuts[i], n);
        taken += data_scan(scan, slice_make(copy, n), out);
        free(copy);
    }
    return taken;
}

static void
check_row(const struct row *row)
{
    size_t len = strlen(row->in);

    for (size_t a = 0; a <= len; a++) {
        for (size_t b = a; b <= len; b++) {
            struct data_scan scan;
            struct buf out = {0};
            size_t taken = scan_split(row->in, len, a, b, &scan, &out);
            assert_int_equal(scan.done, row->want != NULL);
            if (row->want) {
                assert_string_equal(buf_text(&out), row->want);
                assert_string_equal(row->in + taken, row->rest);
            } else {
                assert_int_equal(taken, len);
            }
            buf_release(&out);
        }
    }
}

static void
test_ends_only_at_crlf_dot_crlf(void **state)
{
    static const struct row rows[] = {
        {".\r\n", "", ""},
        {".\r\nMAIL\r\n", "", "MAIL\r\n"},
        {"a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n"},
        {"a: b\r\n\r\nx\r\n.\r\n", "a: b\r\n\r\nx\r\n", ""},
        {"..\r\n.\r\n", "..\r\n", ""},
        {"..a\r\n.\r\n", "..a\r\n", ""},
        {".a\r\n.\r\n", ".a\r\n", ""},
        {"a.\r\nb\r\n.\r\n", "a.\r\nb\r\n", ""},
        /* bare LF and CR */
        {"a\nb\r\n.\r\n", "a\r\nb\r\n", ""},
        {"\n\n\r\n.\r\n", "\r\n\r\n\r\n", ""},
        {"a\rb\r\n.\r\n", "a b\r\n", ""},
        {"a\r\r\n.\r\n", "a \r\n", ""},
        {"\r\r\r\n.\r\n", "  \r\n", ""},
        {"\ra\r\n.\r\n", " a\r\n", ""},
        {"a\n\r\n.\r\n", "a\r\n\r\n", ""},
        {"a\n\rb\n\r\n.\r\n", "a\r\n b\r\n\r\n", ""},
        {"a\n.b\r\n.\r\n", "a\r\n.b\r\n", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_row(&rows[i]);
}

/* T01: none of these ends a message, in the middle of a line or behind one. */
static void
test_smuggling_sequences_are_content(void **state)
{
    static const struct row rows[] = {
        {"a\n.\nMAIL\r\n.\r\n", "a\r\n\r\nMAIL\r\n", ""},
        {"a\n.\rMAIL\r\n.\r\n", "a\r\n. MAIL\r\n", ""},
        {"a\r.\nMAIL\r\n.\r\n", "a .\r\nMAIL\r\n", ""},
        {"a\r.\rMAIL\r\n.\r\n", "a . MAIL\r\n", ""},
        {"a\n.\r\nMAIL\r\n.\r\n", "a\r\n\r\nMAIL\r\n", ""},
        {"a\r.\r\nMAIL\r\n.\r\n", "a .\r\nMAIL\r\n", ""},
        {"a\r\n.\nMAIL\r\n.\r\n", "a\r\n\r\nMAIL\r\n", ""},
        {"a\r\n.\rMAIL\r\n.\r\n", "a\r\n. MAIL\r\n", ""},
        {"a\r\n.\r\r\nMAIL\r\n.\r\n", "a\r\n. \r\nMAIL\r\n", ""},
        {"a\r\r\n.\r\r\nMAIL\r\n.\r\n", "a \r\n. \r\nMAIL\r\n", ""},
        {"a\n.\n.\r\n.\r\n", "a\r\n\r\n\r\n", ""},
        {"a\r\n.\n", NULL, NULL},
        {"a\n.\r\n", NULL, NULL},
        {"\r.\r\n", NULL, NULL},
        {"\n.\r\n", NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_row(&rows[i]);
}

static void
test_nul_bytes_are_content(void **state)
{
    static const char one[] = "a\r\n\0.\r\nb\r\n.\r\n", two[] = "a\r\n.\0\r\nb\r\n.\r\n";
    (void)state;
    for (size_t cut = 0; cut < sizeof one; cut++) {
        struct data_scan scan;
        struct buf out = {0};
        assert_int_equal(scan_split(one, sizeof one - 1, cut < sizeof one - 1 ? cut : 0, sizeof one - 1, &scan, &out),
                         sizeof one - 1);
        assert_true(scan.done);
        assert_int_equal(out.len, sizeof one - 1 - 3);
        assert_memory_equal(out.ptr, one, out.len);
        buf_release(&out);
        assert_int_equal(scan_split(two, sizeof two - 1, cut < sizeof two - 1 ? cut : 0, sizeof two - 1, &scan, &out),
                         sizeof two - 1);
        assert_int_equal(out.len, sizeof two - 1 - 3);
        assert_memory_equal(out.ptr, two, out.len);
        buf_release(&out);
    }
}

static void
test_bare_line_ends_are_noticed(void **state)
{
    struct data_scan scan;
    struct buf out = {0};
    (void)state;
    scan_split("a\r\nb\r\n.\r\n", 9, 0, 0, &scan, &out);
    assert_false(scan.saw_bare_lf || scan.saw_bare_cr);
    scan_split("a\nb\r\n.\r\n", 8, 0, 0, &scan, &out);
    assert_true(scan.saw_bare_lf && !scan.saw_bare_cr);
    scan_split("a\rb\r\n.\r\n", 8, 0, 0, &scan, &out);
    assert_true(!scan.saw_bare_lf && scan.saw_bare_cr);
    buf_release(&out);
}

/* Line by line, as the manual tells it: an oracle of another make. */
static bool
reference(const char *in, size_t len, struct buf *out, size_t *taken)
{
    bool after_lf = false;
    size_t at = 0;

    while (at < len) {
        size_t end = at;
        while (end < len && in[end] != '\n')
            end++;
        if (end == len)
            return false;
        bool bare = end == at || in[end - 1] != '\r';
        size_t stop = bare ? end : end - 1;
        bool lone = stop - at == 1 && in[at] == '.';
        if (lone && !bare && !after_lf) {
            *taken = end + 1;
            return true;
        }
        for (size_t i = lone ? stop : at; i < stop; i++)
            buf_append_byte(out, in[i] == '\r' ? ' ' : in[i]);
        buf_append(out, "\r\n", 2);
        after_lf = bare;
        at = end + 1;
    }
    return false;
}

/* Every text of up to 8 of CR, LF, '.', 'a', ended properly. */
static void
test_every_short_sequence(void **state)
{
    static const char alphabet[] = "\r\n.a";
    (void)state;
    for (unsigned length = 0; length <= 8; length++) {
        for (unsigned n = 0; n < 1U << (2 * length); n++) {
            char in[16];
            for (unsigned i = 0; i < length; i++)
                in[i] = alphabet[n >> (2 * i) & 3];
            memcpy(in + length, "\r\n.\r\n", 5);
            size_t len = length + 5, taken = 0;
            struct buf want = {0};
            bool ended = reference(in, len, &want, &taken);
            assert_true(ended);
            for (size_t cut = 0; cut <= len; cut++) {
                struct data_scan scan;
                struct buf out = {0};
                assert_int_equal(scan_split(in, len, cut, len, &scan, &out), taken);
                assert_true(scan.done);
                assert_int_equal(out.len, want.len);
                assert_memory_equal(out.len ? out.ptr : "", want.len ? want.ptr : "", out.len);
                assert_null(memmem(out.len ? out.ptr : "", out.len, "\r\n.\r\n", 5));
                buf_release(&out);
            }
            buf_release(&want);
        }
    }
}

/* Long enough for clean runs: at each place of a text of short and long lines what is not clean, at each split near it, with
 * and without a look for what is clean first. */
static void
check_long(const char *in, size_t len, size_t from, size_t to)
{
    struct buf want = {0};
    size_t taken = 0;
    bool ended = reference(in, len, &want, &taken);

    assert_true(ended);
    for (size_t cut = from; cut <= to; cut++) {
        for (unsigned way = 0; way < 2; way++) {
            size_t (*scan_fn)(struct data_scan *, struct slice, struct buf *) = way ? scan_clean_first : data_scan;
            struct data_scan scan = {0};
            struct buf out = {0};
            size_t n = scan_fn(&scan, slice_make(in, cut), &out);
            if (!scan.done) {
                char *rest = malloc(len - cut + 1); /* so that a look in front of it is noticed */
                memcpy(rest, in + cut, len - cut);
                n += scan_fn(&scan, slice_make(rest, len - cut), &out);
                free(rest);
            }
            assert_true(scan.done);
            assert_int_equal(n, taken);
            assert_int_equal(out.len, want.len);
            assert_memory_equal(out.ptr, want.ptr, out.len);
            buf_release(&out);
        }
    }
    buf_release(&want);
}

static void
test_long_runs(void **state)
{
    static const char *const odd[] = {"\n",       "\r",        "\r\r\n",     "\n.\r\n",    "\r\n.\n",
                                      "\r\n.\r",  "\r\n.\r\n", "\r\n..\r\n", "\r\n.x\r\n", "\n\n",
                                      "\r\n\r\n", ".",         "\n.\n",      "\r.\r",      "\r\n.\r\r\n"};
    enum { LINE = 37, SIZE = 400 };
    char text[SIZE + 20];

    (void)state;
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        size_t n = strlen(odd[i]);
        for (size_t at = 1; at < SIZE - n; at++) {
            for (size_t j = 0; j < SIZE; j++)
                text[j] = j % LINE == LINE - 2 ? '\r' : j % LINE == LINE - 1 ? '\n' : 'a';
            memcpy(text + at, odd[i], n);
            memcpy(text + SIZE, "\r\n.\r\n", 5);
            check_long(text, SIZE + 5, at > 3 ? at - 3 : 0, at + n + 2);
        }
    }
}

/* Clean text is not copied, but for what is undecided at its end. */
static void
test_clean_runs_need_no_copy(void **state)
{
    char text[1000];

    (void)state;
    for (size_t j = 0; j < sizeof text; j++)
        text[j] = j % 40 == 38 ? '\r' : j % 40 == 39 ? '\n' : j % 40 == 0 && j % 80 == 0 && j > 0 ? '.' : 'a';
    for (size_t n = 100; n < sizeof text; n++) {
        struct data_scan scan = {0};
        size_t clean = data_scan_clean(&scan, slice_make(text, n));
        assert_true(clean + 64 + 4 > n && clean <= n);
        assert_int_equal(scan.place, text[clean - 1] == '\n' ? DATA_LINE_START : DATA_IN_LINE);
        assert_true(text[clean - 1] != '\r');
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends_only_at_crlf_dot_crlf), cmocka_unit_test(test_smuggling_sequences_are_content),
        cmocka_unit_test(test_nul_bytes_are_content),      cmocka_unit_test(test_bare_line_ends_are_noticed),
        cmocka_unit_test(test_every_short_sequence),       cmocka_unit_test(test_long_runs),
        cmocka_unit_test(test_clean_runs_need_no_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
