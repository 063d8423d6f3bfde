/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "bounce/report.h"

static const struct bounce_recipient failed = {
    .address = "bob@far.test",
    .original = "robert@first.test",
    .dsn_original = "rfc822;robert@first.test",
    .status = "5.1.1",
    .action = "failed",
    .reason = "host mx.far.test[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command)",
    .diag_type = "smtp",
    .diag_text = "550 5.1.1 no such user",
    .mta_type = "dns",
    .mta_name = "mx.far.test"};

static struct bounce_template templates[TEMPLATE_KINDS];

static struct report
report_of(enum report_kind kind, const struct bounce_recipient *recipient)
{
    static const enum bounce_template_kind kinds[] = {[REPORT_DELAYED] = TEMPLATE_DELAY,
                                                      [REPORT_SUCCESS] = TEMPLATE_SUCCESS,
                                                      [REPORT_VERIFY] = TEMPLATE_VERIFY,
                                                      [REPORT_POSTMASTER_DELAY] = TEMPLATE_DELAY,
                                                      [REPORT_DOUBLE] = TEMPLATE_FAILURE};

    bounce_templates_builtin(templates);
    return (struct report){.kind = kind,
                           .template = &templates[kinds[kind]],
                           .text = "Sorry.\n",
                           .myhostname = "mail.test",
                           .mail_name = "Postfix",
                           .id = "NEWID",
                           .now = SECONDS(1795503621),
                           .to = "a@src.test",
                           .original_id = "OLDID",
                           .message_id = "",
                           .sender = "a@src.test",
                           .envelope_id = "",
                           .arrival = SECONDS(1795503600),
                           .expires = 1795900000,
                           .recipients = recipient,
                           .recipient_count = 1};
}

static const char *
made(const struct report *report, struct buf *out)
{
    buf_clear(out);
    report_begin(report, out);
    buf_append_text(out, "Subject: x\r\n\r\nhi\r\n");
    report_end(report, out);
    return buf_text(out);
}

static void
assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in: %s", part, text);
}

static void
test_report_points_to_the_original(void **state)
{
    struct report report = report_of(REPORT_FAILED, &failed);
    struct buf out = {0};

    (void)state;
    assert_null(strstr(made(&report, &out), "References:"));
    report.message_id = "<x\r\nEvil: 1@src.test>";
    assert_has(made(&report, &out), "\r\nReferences: <x??Evil: 1@src.test>\r\nIn-Reply-To: <x??Evil: 1@src.test>\r\n");
    buf_release(&out);
}

static void
test_report_of_a_failure(void **state)
{
    struct report report = report_of(REPORT_FAILED, &failed);
    struct buf out = {0};
    const char *text = made(&report, &out);

    (void)state;
    assert_has(text, "Subject: Undelivered Mail Returned to Sender\r\n");
    assert_has(text, "\r\nFrom: Mail Delivery System <MAILER-DAEMON>\r\n");
    assert_has(text, "Content-Type: text/plain; charset=us-ascii\r\n\r\nSorry.\r\n\r\n<bob@");
    assert_has(text, "<bob@far.test> (expanded from <robert@first.test>): host\r\n    mx.far.test");
    assert_has(
        text,
        "\r\nReporting-MTA: dns; mail.test\r\nX-Postfix-Queue-ID: OLDID\r\nX-Postfix-Sender: rfc822; a@src.test\r\n");
    assert_has(text, "\r\n\r\nFinal-Recipient: rfc822; bob@far.test\r\nOriginal-Recipient: rfc822;robert@first.test\r\n"
                     "Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.far.test\r\n"
                     "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n");
    assert_has(
        text,
        "Content-Type: message/rfc822\r\n\r\nReturn-Path: <a@src.test>\r\nSubject: x\r\n\r\nhi\r\n\r\n--OLDID.1795503621/mail.test--\r\n");
    buf_release(&out);
}

static void
test_other_kinds(void **state)
{
    struct report report = report_of(REPORT_DELAYED, &failed);
    struct buf out = {0};

    (void)state;
    report.headers_only = true;
    assert_has(made(&report, &out), "Subject: Delayed Mail (still being retried)\r\n");
    assert_has(buf_text(&out), "\r\nWill-Retry-Until: ");
    assert_has(buf_text(&out), "Content-Type: text/rfc822-headers\r\n");
    report = report_of(REPORT_SUCCESS, &failed);
    assert_has(made(&report, &out), "Subject: Successful Mail Delivery Report\r\n");
    report.utf8 = true;
    assert_has(made(&report, &out), "report-type=global-delivery-status;");
    assert_has(buf_text(&out), "Content-Type: message/global\r\n");
    buf_release(&out);
}

/* T09, T10: what a hostile server or sender put into a text can't make a line, a header or a part of its own. */
static void
test_texts_from_outside_stay_in_their_line(void **state)
{
    struct bounce_recipient bad = failed;
    struct report report;
    struct buf out = {0};
    size_t lines = 0, longest = 0;

    (void)state;
    bad.reason = bad.diag_text = "550 a\r\nSubject: forged\r\n\r\n--OLDID.1795503621/mail.test--\r\n\x80\xff.";
    bad.address = "b\r\nx: y@far.test";
    bad.mta_name = "m\r\n.\r\nx";
    report = report_of(REPORT_FAILED, &bad);
    report.envelope_id = "e\r\nz: 1";
    made(&report, &out);
    assert_null(strstr(buf_text(&out), "\nSubject: forged"));
    assert_null(strstr(buf_text(&out), "\nx: y"));
    assert_null(strstr(buf_text(&out), "\n.\r"));
    assert_null(strstr(buf_text(&out), "\nz: 1"));
    for (size_t i = 0, start = 0; i < out.len; i++) {
        assert_true((unsigned char)out.ptr[i] < 128);
        if (out.ptr[i] != '\n')
            continue;
        assert_true(i > 0 && out.ptr[i - 1] == '\r');
        if (i - start > longest)
            longest = i - start;
        start = i + 1;
        lines++;
    }
    assert_true(lines > 20 && longest <= 998);
    buf_release(&out);
}

static void
test_templates_text(void **state)
{
    struct report report = report_of(REPORT_FAILED, &failed);
    struct buf out = {0};
    static const char end_of_text[] = "\nbare\rCR \xfc\n..x\n";
    char line[2500];

    (void)state;
    templates[TEMPLATE_FAILURE].charset = "iso-8859-1";
    templates[TEMPLATE_FAILURE].subject = "a\tb";
    templates[TEMPLATE_FAILURE].postmaster_subject = "to you";
    memset(line, '.', sizeof(line) - 1);
    memcpy(line + sizeof(line) - sizeof(end_of_text), end_of_text, sizeof(end_of_text));
    report.text = line;
    report.utf8 = true; /* addresses in UTF-8 have no place in that character set */
    struct bounce_recipient recipient = failed;
    recipient.reason = "\xc3\xbc";
    report.recipients = &recipient;
    made(&report, &out);
    assert_has(buf_text(&out), "Subject: a b\r\n");
    assert_has(buf_text(&out), "; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n...");
    assert_has(buf_text(&out), ".\r\nbareCR \xfc\r\n...x\r\n\r\n<bob@");
    assert_has(buf_text(&out), ": ??\r\n");
    assert_true(report_is_8bit(&report));
    for (const char *at = buf_text(&out), *end; (end = strchr(at, '\n')); at = end + 1)
        assert_true(end - at <= 998);

    report = report_of(REPORT_POSTMASTER_COPY, &failed);
    templates[TEMPLATE_FAILURE].postmaster_subject = "to you";
    assert_has(made(&report, &out), "Subject: to you\r\n");
    assert_null(strstr(buf_text(&out), "Sorry."));
    assert_has(buf_text(&out), "\r\nThis is the mail system at host mail.test.\r\n");
    assert_false(report_is_8bit(&report));
    buf_release(&out);
}

static void
test_folding(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"", ""},
        {"short", "short"},
        {"1234567890 1234567890 1234567890 1234567890 1234567890 1234567890 1234567890 12345",
         "1234567890 1234567890 1234567890 1234567890 1234567890 1234567890 1234567890\r\n    12345"},
    };
    struct buf out = {0};
    char word[3000];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_clear(&out);
        report_fold(rows[i].in, "    ", &out);
        assert_string_equal(buf_text(&out), rows[i].out);
    }
    memset(word, 'x', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    buf_clear(&out);
    report_fold(word, "    ", &out);
    assert_true(strchr(buf_text(&out), '\r') - out.ptr <= 998);
    buf_release(&out);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report_points_to_the_original),
        cmocka_unit_test(test_report_of_a_failure),
        cmocka_unit_test(test_other_kinds),
        cmocka_unit_test(test_texts_from_outside_stay_in_their_line),
        cmocka_unit_test(test_templates_text),
        cmocka_unit_test(test_folding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
