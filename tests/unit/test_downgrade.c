/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "smtp/downgrade.h"

static const struct smtp_settings settings = {
    .header_size_limit = 102400, .mime_boundary_length_limit = 2048, .mime_nesting_limit = 100};

static int
collect(void *ctx, struct slice bytes, bool is_copy)
{
    (void)is_copy;
    buf_append_slice(ctx, bytes);
    return 0;
}

/* In pieces of step bytes. */
static void
convert(struct slice wire, size_t step, struct buf *out)
{
    const struct mime_sink sink = {collect, out};
    struct arena *arena = arena_new();
    struct downgrade *d = downgrade_new(arena, &settings, &sink);

    for (size_t at = 0; at < wire.len; at += step)
        assert_int_equal(downgrade_add(d, slice_make(wire.ptr + at, wire.len - at < step ? wire.len - at : step)), 0);
    assert_int_equal(downgrade_end(d), 0);
    arena_free(&arena);
}

#define CTE "Content-Transfer-Encoding: "
#define UTF8 "\xc3\xa4"

static const struct {
    const char *name, *in, *want;
} cases[] = {
    {"8bit", CTE "8bit\r\nA: b\r\n\r\n" UTF8 " = x\r\n.\r\n", "A: b\r\n" CTE "quoted-printable\r\n\r\n=C3=A4 =3D x\r\n.\r\n"},
    {"no label", "A: b\r\n\r\n" UTF8 "\r\n.\r\n", "A: b\r\n\r\n" UTF8 "\r\n.\r\n"},
    {"folded label, comment", CTE "\r\n\tBinary (so)\r\n\r\n" UTF8 "\r\n.\r\n", CTE "quoted-printable\r\n\r\n=C3=A4\r\n.\r\n"},
    {"other encodings", CTE "base64\r\n\r\n" UTF8 "=\r\n.\r\n", CTE "base64\r\n\r\n" UTF8 "=\r\n.\r\n"},
    {"blanks at the end", CTE "8bit\r\n\r\na \t\r\nb \r\n \r\n\t\r\n c\r\n.\r\n",
     CTE "quoted-printable\r\n\r\na =09\r\nb=20\r\n=20\r\n=09\r\n c\r\n.\r\n"},
    {"dots", CTE "8bit\r\n\r\n..\r\n...x\r\n.\r\n", CTE "quoted-printable\r\n\r\n..\r\n...x\r\n.\r\n"},
    {"control characters", CTE "8bit\r\n\r\n\x01\x7f\r\r\n.\r\n", CTE "quoted-printable\r\n\r\n=01=7F=0D\r\n.\r\n"},
    {"no body", CTE "8bit\r\n\r\n.\r\n", CTE "quoted-printable\r\n\r\n.\r\n"},
    {"nothing but a header", CTE "8bit\r\n.\r\n", CTE "quoted-printable\r\n.\r\n"},
    {"73 bytes stay a line",
     CTE "8bit\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789012\r\n.\r\n",
     CTE "quoted-printable\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789012\r\n.\r\n"},
    {"74 do not, and the rest is no dot line",
     CTE "8bit\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789012.\r\n.\r\n",
     CTE "quoted-printable\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789012=\r\n..\r\n.\r\n"},
    {"no delimiter comes into being",
     CTE "8bit\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789012--b\r\n.\r\n",
     CTE "quoted-printable\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789012=\r\n=2D-b\r\n.\r\n"},
    {"multipart",
     "Content-Type: multipart/mixed; boundary=b\r\n" CTE "8bit\r\n\r\n" UTF8 "\r\n--b\r\n" CTE "8bit\r\nX: y\r\n\r\n" UTF8
     "\r\n--b\r\n\r\n" UTF8 "\r\n--b--\r\n=\r\n.\r\n",
     "Content-Type: multipart/mixed; boundary=b\r\n" CTE "7bit\r\n\r\n" UTF8 "\r\n--b\r\nX: y\r\n" CTE
     "quoted-printable\r\n\r\n=C3=A4\r\n--b\r\n\r\n" UTF8 "\r\n--b--\r\n=\r\n.\r\n"},
    {"part without an empty line",
     "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" CTE "8bit\r\n--b\r\n" CTE "8bit\r\n= text\r\n--b--\r\n.\r\n",
     "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" CTE "quoted-printable\r\n--b\r\n" CTE
     "quoted-printable\r\n\r\n=3D text\r\n--b--\r\n.\r\n"},
    {"attached message",
     "Content-Type: message/rfc822\r\n" CTE "8bit\r\n\r\nSubject: =\r\n" CTE "8bit\r\n\r\n=\r\n.\r\n",
     "Content-Type: message/rfc822\r\n" CTE "7bit\r\n\r\nSubject: =\r\n" CTE "quoted-printable\r\n\r\n=3D\r\n.\r\n"},
    {"attached message of another encoding",
     "Content-Type: message/rfc822\r\n" CTE "base64\r\n\r\n" CTE "8bit\r\n\r\n=\r\n.\r\n",
     "Content-Type: message/rfc822\r\n" CTE "base64\r\n\r\n" CTE "8bit\r\n\r\n=\r\n.\r\n"},
    {"message/global is encoded whole (RFC 6532)",
     "Content-Type: message/global\r\n" CTE "8bit\r\n\r\nSubject: " UTF8 "\r\n" CTE "8bit\r\n\r\n=\r\n.\r\n",
     "Content-Type: message/global\r\n" CTE "quoted-printable\r\n\r\nSubject: =C3=A4\r\n" CTE "8bit\r\n\r\n=3D\r\n.\r\n"},
    {"delivery status",
     "Content-Type: message/delivery-status\r\n" CTE "8bit\r\n\r\nX: =\r\n\r\n" CTE "8bit\r\n.\r\n",
     "Content-Type: message/delivery-status\r\n" CTE "quoted-printable\r\n\r\nX: =3D\r\n\r\n" CTE "8bit\r\n.\r\n"},
    {"digest",
     "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n" CTE "8bit\r\n\r\n=\r\n--b\r\nContent-Type: text/plain\r\n\r\n" CTE
     "8bit\r\n.\r\n",
     "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n" CTE
     "quoted-printable\r\n\r\n=3D\r\n--b\r\nContent-Type: text/plain\r\n\r\n" CTE "8bit\r\n.\r\n"},
    {"unclosed inner multipart",
     "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/x; boundary=i\r\n\r\n--i\r\n" CTE
     "8bit\r\n\r\n=\r\n--o\r\n\r\n=\r\n--i\r\n" CTE "8bit\r\n.\r\n",
     "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/x; boundary=i\r\n\r\n--i\r\n" CTE
     "quoted-printable\r\n\r\n=3D\r\n--o\r\n\r\n=\r\n--i\r\n" CTE "8bit\r\n.\r\n"},
};

static void
test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (size_t step = 1; step <= strlen(cases[i].in); step++) {
            struct buf out = {0};
            convert(slice_from(cases[i].in), step, &out);
            if (strcmp(buf_text(&out), cases[i].want) != 0)
                print_error("case \"%s\", step %zu\n", cases[i].name, step);
            assert_string_equal(buf_text(&out), cases[i].want);
            buf_release(&out);
        }
}

/* A line longer than anything that is held, in pieces of all kinds. */
static void
test_long_line(void **state)
{
    static const size_t steps[] = {1000, 4095, 65536, 300000};
    struct buf wire = {0}, want = {0};

    (void)state;
    buf_append_text(&wire, CTE "8bit\r\n\r\n");
    for (unsigned i = 0; i < 30000; i++)
        buf_append_text(&wire, "a \xe4\r.");
    buf_append_text(&wire, "\t\r\nend\r\n.\r\n");
    convert(buf_slice(&wire), wire.len, &want);
    assert_non_null(strstr(buf_text(&want), "=09\r\nend\r\n.\r\n"));
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct buf out = {0};
        convert(buf_slice(&wire), steps[i], &out);
        assert_int_equal(out.len, want.len);
        assert_memory_equal(out.ptr, want.ptr, want.len);
        buf_release(&out);
    }
    for (struct slice rest = buf_slice(&want), line; slice_cut(&rest, '\n', &line);)
        assert_in_range(line.len, 1, 78);
    buf_release(&wire);
    buf_release(&want);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_long_line)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
