/* SPDX-License-Identifier: Apache-2.0 */
/* lib/smtp: commands and replies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "lib/base/arena.h"
#include "lib/mail/messages.h"
#include "lib/mail/verp.h"
#include "lib/smtp/command.h"
#include "lib/smtp/reply.h"
#include "tests/unit/with_arena.h"

static void
test_split(void **state)
{
    static const struct {
        const char *line, *verb, *args;
    } rows[] = {
        {"NOOP", "NOOP", ""},
        {"  noop  ", "noop", ""},
        {"MAIL FROM:<a@b>", "MAIL", "FROM:<a@b>"},
        {"MAIL\tFROM:<a@b> ", "MAIL", "FROM:<a@b>"},
        {"", "", ""},
        {"   ", "", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct smtp_command command = smtp_command_split(slice_from(rows[i].line));
        assert_true(slice_equal_text(command.verb, rows[i].verb));
        assert_true(slice_equal_text(command.args, rows[i].args));
    }
}

static void
test_mail(void **state)
{
    static const struct {
        const char *args;
        unsigned allow;
        int code; /* 0: accepted */
        const char *sender;
        int64_t size;
        const char *body;
    } rows[] = {
        {"FROM:<a@b>", 0, 0, "a@b", 0, ""},
        {"from:<a@b>", 0, 0, "a@b", 0, ""},
        {"FROM:<>", 0, 0, "", 0, ""},
        {"FROM: <a@b>", 0, 0, "a@b", 0, ""},
        {"FROM: <a@b>", SMTP_STRICT, 501, NULL, 0, NULL},
        {"FROM:<-a@b>", 0, 501, NULL, 0, NULL},
        {"FROM:<-a@b>", SMTP_DASH, 0, "-a@b", 0, ""},
        {"FROM:a@b", 0, 0, "a@b", 0, ""},
        {"FROM:a@b", SMTP_STRICT, 501, NULL, 0, NULL},
        {"FROM:<a@b> SIZE=123 BODY=8BITMIME", 0, 0, "a@b", 123, "8bit"},
        {"FROM:<a@b> size=0 body=7bit", 0, 0, "a@b", 0, "7bit"},
        {"FROM:<\"a b\"@c>", 0, 0, "a b@c", 0, ""},
        {"FROM:<@x,@y:a@b>", 0, 0, "a@b", 0, ""},
        {"FROM:<a@b> SIZE=", 0, 501, NULL, 0, NULL},
        {"FROM:<a@b> SIZE=-1", 0, 501, NULL, 0, NULL},
        {"FROM:<a@b> SIZE=1x", 0, 501, NULL, 0, NULL},
        {"FROM:<a@b> SIZE=9999999999999999999", 0, 0, "a@b", INT64_MAX, ""},
        {"FROM:<a@b> SIZE=99999999999999999999", 0, 501, NULL, 0, NULL},
        {"FROM:<a@b> SIZE=999999999999999999999", 0, 501, NULL, 0, NULL},
        {"FROM:<a@b> BODY=BINARYMIME", 0, 501, NULL, 0, NULL},
        {"FROM:<a@b> X", 0, 555, NULL, 0, NULL},
        {"FROM:<a@b> XVERP", 0, 555, NULL, 0, NULL},
        {"FROM:<a@b> XVERP=", SMTP_XVERP, 501, NULL, 0, NULL},
        {"FROM:<a@b> xverp SIZE=7", SMTP_XVERP, 0, "a@b", 7, ""},
        {"FROM:<a@b> XVERP=+=", SMTP_XVERP, 0, "a@b", 0, ""},
        {"FROM:<a@b> RET=FULL", 0, 555, NULL, 0, NULL},
        {"FROM:<a@b> ENVID=x+0Ay", SMTP_DSN, 501, NULL, 0, NULL},
        {"FROM:<a@b> ENVID=x+00", SMTP_DSN, 501, NULL, 0, NULL},
        {"FROM:<a@b> ENVID=x+2By RET=HDRS", SMTP_DSN, 0, "a@b", 0, ""},
        {"FROM:<a@b> AUTH=x+0Ayz", 0, 555, NULL, 0, NULL},
        {"FROM:<a@b", 0, 501, NULL, 0, NULL},
        {"FROM:<a@b>x", 0, 501, NULL, 0, NULL},
        {"FROM:<\xc3\xa4@b>", 0, 501, NULL, 0, NULL},
        {"FROM:<\xc3\xa4@b>", SMTP_UTF8, 0, "\xc3\xa4@b", 0, ""},
        {"FROM:", 0, 501, NULL, 0, NULL},
        {"TO:<a@b>", 0, 501, NULL, 0, NULL},
        {"", 0, 501, NULL, 0, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct smtp_mail mail;
        struct smtp_reply refusal = {0};
        int result = smtp_parse_mail(arena, slice_from(rows[i].args), rows[i].allow, &mail, &refusal);
        if (rows[i].code) {
            assert_int_equal(result, -1);
            assert_int_equal(refusal.code, rows[i].code);
            continue;
        }
        assert_int_equal(result, 0);
        assert_string_equal(mail.sender, rows[i].sender);
        assert_int_equal(mail.size, rows[i].size);
        assert_string_equal(mail.body, rows[i].body);
    }
}

static void
test_verp(void **state)
{
    static const struct {
        const char *delimiters, *sender, *address, *original, *want;
    } rows[] = {
        {"+=", "l@src.test", "a@dst.test", "", "l+a=dst.test@src.test"},
        {"-=", "l-@src.test", "a@dst.test", "o@dst.test", "l--o=dst.test@src.test"},
        {"+=", "l", "a", "", "l+a="},
        {"+=", "x@y@src.test", "a@b@c", "", "x@y+a@b=c@src.test"},
    };
    struct smtp_reply refusal;
    struct smtp_mail mail;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct envelope e = envelope_empty();
        struct envelope_recipient recipient = {
            .address = rows[i].address, .original = rows[i].original, .dsn_original = ""};

        e.sender = rows[i].sender;
        assert_false(verp_is_wanted(&e));
        e.verp = rows[i].delimiters;
        assert_true(verp_is_wanted(&e));
        assert_string_equal(verp_sender(arena, &e, &recipient), rows[i].want);
    }
    assert_int_equal(smtp_parse_mail(arena, slice_from("FROM:<a@b> XVERP"), SMTP_XVERP, &mail, &refusal), 0);
    assert_string_equal(mail.xverp, "");
    assert_int_equal(smtp_parse_mail(arena, slice_from("FROM:<a@b> XVERP=-="), SMTP_XVERP, &mail, &refusal), 0);
    assert_string_equal(mail.xverp, "-=");
    assert_true(verp_delimiters_are_good(slice_from("-="), "-=+"));
    assert_false(verp_delimiters_are_good(slice_from("-"), "-=+"));
    assert_false(verp_delimiters_are_good(slice_from("-=+"), "-=+"));
    assert_false(verp_delimiters_are_good(slice_make("-\0", 2), "-=+"));
}

static void
test_rcpt(void **state)
{
    static const struct {
        const char *args;
        unsigned allow;
        int code;
        const char *address;
        int notify;
        const char *orcpt;
    } rows[] = {
        {"TO:<a@b>", 0, 0, "a@b", 0, ""},
        {"To:<postmaster>", 0, 0, "postmaster", 0, ""},
        {"TO:<>", 0, 501, NULL, 0, NULL},
        {"TO:<\"-oQ\"@b>", 0, 501, NULL, 0, NULL},
        {"TO:<-oQ@b>", SMTP_DASH, 0, "-oQ@b", 0, ""},
        {"TO:", 0, 501, NULL, 0, NULL},
        {"FROM:<a@b>", 0, 501, NULL, 0, NULL},
        {"TO:<a@b> NOTIFY=NEVER", 0, 555, NULL, 0, NULL},
        {"TO:<a@b> NOTIFY=SUCCESS,DELAY", SMTP_DSN, 0, "a@b", NOTIFY_SUCCESS | NOTIFY_DELAY, ""},
        {"TO:<a@b> NOTIFY=NEVER,DELAY", SMTP_DSN, 501, NULL, 0, NULL},
        {"TO:<a@b> NOTIFY=", SMTP_DSN, 501, NULL, 0, NULL},
        {"TO:<a@b> ORCPT=rfc822;x+2By@z", SMTP_DSN, 0, "a@b", 0, "rfc822;x+y@z"},
        {"TO:<a@b> ORCPT=rfc822;a+0A", SMTP_DSN, 501, NULL, 0, NULL},
        {"TO:<a@b> ORCPT=rfc822", SMTP_DSN, 501, NULL, 0, NULL},
        {"TO:<a@b> ORCPT=;a", SMTP_DSN, 501, NULL, 0, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct smtp_rcpt rcpt;
        struct smtp_reply refusal = {0};
        int result = smtp_parse_rcpt(arena, slice_from(rows[i].args), rows[i].allow, &rcpt, &refusal);
        if (rows[i].code) {
            assert_int_equal(result, -1);
            assert_int_equal(refusal.code, rows[i].code);
            continue;
        }
        assert_int_equal(result, 0);
        assert_string_equal(rcpt.address, rows[i].address);
        assert_int_equal(rcpt.notify, rows[i].notify);
        assert_string_equal(rcpt.orcpt, rows[i].orcpt);
    }
}

static void
test_bdat(void **state)
{
    static const struct {
        const char *args;
        int result;
        uint64_t count;
        bool last;
    } rows[] = {
        {"0", 0, 0, false},
        {"12 LAST", 0, 12, true},
        {"12 last", 0, 12, true},
        {"0 LAST", 0, 0, true},
        {"9223372036854775807", 0, INT64_MAX, false},
        {"9223372036854775808", -1, 0, false},
        {"99999999999999999999", -1, 0, false},
        {"-1", -1, 0, false},
        {"", -1, 0, false},
        {"LAST", -1, 0, false},
        {"1 LAST 2", -1, 0, false},
        {"1 FIRST", -1, 0, false},
        {"+1", -1, 0, false},
        {"0x10", -1, 0, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t count;
        bool last;
        assert_int_equal(smtp_parse_bdat(slice_from(rows[i].args), &count, &last), rows[i].result);
        if (rows[i].result < 0)
            continue;
        assert_int_equal(count, rows[i].count);
        assert_int_equal(last, rows[i].last);
    }
}

static void
test_reply(void **state)
{
    struct buf out = {0};
    (void)state;
    smtp_reply_encode(smtp_reply(arena, 250, "2.1.0", "Ok"), &out);
    assert_string_equal(buf_text(&out), "250 2.1.0 Ok\r\n");
    buf_clear(&out);
    smtp_reply_encode(smtp_reply(arena, 250, NULL, "host\nPIPELINING\nSIZE 1"), &out);
    assert_string_equal(buf_text(&out), "250-host\r\n250-PIPELINING\r\n250 SIZE 1\r\n");
    buf_clear(&out);
    smtp_reply_encode(smtp_reply(arena, 554, "5.7.1", "<a\rb\033@c\xc3\xa4>: no\nway"), &out);
    assert_string_equal(buf_text(&out), "554-5.7.1 <a?b?@c?\?>: no\r\n554 5.7.1 way\r\n");
    buf_release(&out);
    assert_string_equal(smtp_reply_line(arena, smtp_reply(arena, 450, "4.0.0", "a\nb")), "450 4.0.0 a b");
}

static void
test_foreign_reply_is_put_right(void **state)
{
    (void)state;
    struct smtp_reply reply = smtp_reply_lenient(arena, 451, "5.7.2", "x");
    assert_string_equal(reply.enhanced, "4.3.0");
    reply = smtp_reply_lenient(arena, 7, "bogus", "x");
    assert_int_equal(reply.code, 451);
    assert_string_equal(reply.enhanced, "4.3.0");
    reply = smtp_reply_lenient(arena, 554, "5.7.1", "x");
    assert_string_equal(reply.enhanced, "5.7.1");
    reply = smtp_reply_lenient(arena, 554, "", "x");
    assert_string_equal(reply.enhanced, "5.0.0");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split), cmocka_unit_test(test_mail),
        cmocka_unit_test(test_verp),  cmocka_unit_test(test_rcpt),
        cmocka_unit_test(test_bdat),  cmocka_unit_test(test_reply), cmocka_unit_test(test_foreign_reply_is_put_right),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
