/* SPDX-License-Identifier: Apache-2.0 */
/* What smtpd answers and what it hands on: pipelining at every split, smuggling, relay control, restrictions, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/run/loop.h"
#include "smtpd/content.h"
#include "tests/unit/smtpd_fakes.h"

static struct arena *arena;

/* The last message that went on. */
static struct {
    struct buf content;
    char recipients[256];
    size_t recipient_count;
    const char *encoding;
} got;

static void
keep_message(const struct fake_message *message)
{
    buf_clear(&got.content);
    buf_append_slice(&got.content, message->content);
    got.recipients[0] = '\0';
    got.recipient_count = message->envelope->recipient_count;
    got.encoding = message->envelope->encoding;
    for (size_t i = 0; i < message->envelope->recipient_count && strlen(got.recipients) < 200; i++) {
        size_t used = strlen(got.recipients);
        snprintf(got.recipients + used, sizeof got.recipients - used, "%s ", message->envelope->recipients[i].address);
    }
}

/* The content behind the Received: header. */
static const char *
body(void)
{
    const char *text = buf_text(&got.content);
    const char *end = strstr(text, "(UTC)\r\n");

    return end ? end + 7 : "no Received: header";
}

static void
send_pieces(struct fake_client *client, const char *text, size_t cut)
{
    struct err err;

    stream_write(client->stream, text, cut);
    assert_int_equal(stream_flush(client->stream, &err), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(task_yield(&err), 0);
    stream_write(client->stream, text + cut, strlen(text) - cut);
}

static void
expect(struct fake_client *client, const char *say, int want)
{
    char line[1024] = "";
    int code = fake_say(client, say, line, sizeof line);

    if (code != want)
        print_error("%s-> %s, want %d\n", say ? say : "", line, want);
    assert_int_equal(code, want);
}

/* ---- pipelining ---- */

static void
pipelining(void *arg)
{
    static const char group[] = "MAIL FROM:<s@c.test>\r\nRCPT TO:<a@ours.test>\r\nRCPT TO:<x@far.test>\r\n"
                                "RCPT TO:<b@ours.test>\r\nDATA\r\n";
    static const char content[] = "S: x\r\n\r\n..y\r\n.\r\nRSET\r\nMAIL FROM:<t@c.test>\r\nQUIT\r\n";
    static const int replies[] = {250, 250, 454, 250, 354}, after[] = {250, 250, 250, 221};
    struct server *server = fake_server_new(arena, "");
    struct fake_client client;

    (void)arg;
    for (size_t cut = 0; cut < sizeof group + sizeof content - 1; cut++) {
        size_t first = cut < sizeof group - 1 ? cut : 0, second = cut < sizeof group - 1 ? 0 : cut - sizeof group + 1;
        fake_connect(&client, server, "192.0.2.9");
        expect(&client, NULL, 220);
        expect(&client, "EHLO c.test\r\n", 250);
        send_pieces(&client, group, first);
        for (unsigned i = 0; i < 5; i++)
            expect(&client, NULL, replies[i]);
        send_pieces(&client, content, second);
        for (unsigned i = 0; i < 4; i++)
            expect(&client, NULL, after[i]);
        fake_disconnect(&client);
        assert_string_equal(got.recipients, "a@ours.test b@ours.test ");
        assert_string_equal(body(), "S: x\r\n\r\n..y\r\n");
    }
    fake_server_free(&server);
}

static void
bad_pipelining(void *arg)
{
    static const struct {
        const char *settings, *say;
        int code;
    } rows[] = {
        {"", "EHLO c.test\r\nNOOP\r\n", 554},
        {"", "NOOP\r\nNOOP\r\n", 554},
        {"", "MAIL FROM:<a@b>\r\nRCPT TO:<a@ours.test>\r\n", 554}, /* no EHLO */
        {"smtpd_forbid_unauth_pipelining = no\n", "NOOP\r\nNOOP\r\n", 250},
    };
    (void)arg;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct server *server = fake_server_new(arena, rows[i].settings);
        struct fake_client client;
        fake_connect(&client, server, "192.0.2.9");
        expect(&client, NULL, 220);
        expect(&client, rows[i].say, rows[i].code);
        if (rows[i].code == 554)
            expect(&client, NULL, 0);
        fake_disconnect(&client);
        fake_server_free(&server);
    }
}

/* ---- T01 ---- */

static void
begin_transaction(struct fake_client *client, struct server *server, const char *last)
{
    fake_connect(client, server, "192.0.2.9");
    expect(client, NULL, 220);
    expect(client, "EHLO c.test\r\n", 250);
    expect(client, "MAIL FROM:<s@c.test>\r\n", 250);
    expect(client, "RCPT TO:<r@ours.test>\r\n", 250);
    if (last)
        expect(client, last, 354);
}

static const struct {
    const char *bytes;
    size_t len;
} smuggling[] = {
    {"\n.\n", 3},   {"\n.\r", 3},   {"\r.\n", 3},       {"\r.\r", 3},       {"\n.\r\n", 4},     {"\r.\r\n", 4},
    {"\r\n.\n", 4}, {"\r\n.\r", 4}, {"\r\n\0.\r\n", 6}, {"\r\n.\0\r\n", 6}, {"\r\n.\r\r\n", 6}, {"\r\r\n.\r\r\n", 7},
};

static const char evil[] = "MAIL FROM:<evil@c.test>\r\nRCPT TO:<r@ours.test>\r\nDATA\r\nevil: yes\r\n\r\n";

static void
check_wire_form(void)
{
    struct slice c = buf_slice(&got.content);

    for (size_t i = 0; i < c.len; i++) {
        assert_true(c.ptr[i] != '\n' || (i > 0 && c.ptr[i - 1] == '\r'));
        assert_true(c.ptr[i] != '\r' || (i + 1 < c.len && c.ptr[i + 1] == '\n'));
    }
    assert_null(memmem(c.ptr, c.len, "\r\n.\r\n", 5));
}

static void
smuggling_in_data(void *arg)
{
    struct server *server = fake_server_new(arena, "");

    (void)arg;
    for (size_t i = 0; i < sizeof smuggling / sizeof *smuggling; i++) {
        struct buf text = {0};
        buf_append_text(&text, "a: b\r\n\r\nx");
        buf_append(&text, smuggling[i].bytes, smuggling[i].len);
        buf_append_text(&text, evil);
        buf_append_text(&text, ".\r\n");
        for (size_t cut = 0; cut <= text.len; cut += cut > 8 && cut < text.len - 4 && cut > 20 ? 7 : 1) {
            struct fake_client client;
            unsigned before = fake_messages;
            struct err err;
            begin_transaction(&client, server, "DATA\r\n");
            stream_write(client.stream, text.ptr, cut);
            assert_int_equal(stream_flush(client.stream, &err), 0);
            for (unsigned turn = 0; turn < 2; turn++)
                assert_int_equal(task_yield(&err), 0);
            stream_write(client.stream, text.ptr + cut, text.len - cut);
            expect(&client, NULL, 250);
            expect(&client, "QUIT\r\n", 221);
            fake_disconnect(&client);
            assert_int_equal(fake_messages - before, 1);
            assert_string_equal(got.recipients, "r@ours.test ");
            assert_non_null(memmem(got.content.ptr, got.content.len, "evil: yes\r\n", 11));
            check_wire_form();
        }
        buf_release(&text);
    }
    fake_server_free(&server);
}

static void
smuggling_in_bdat(void *arg)
{
    struct server *server = fake_server_new(arena, "");

    (void)arg;
    for (size_t i = 0; i < sizeof smuggling / sizeof *smuggling; i++) {
        struct fake_client client;
        unsigned before = fake_messages;
        size_t len = smuggling[i].len + sizeof evil - 1;
        /* Cut into two chunks within the sequence. */
        for (size_t cut = 0; cut <= smuggling[i].len; cut++) {
            struct buf text = {0};
            begin_transaction(&client, server, NULL);
            buf_printf(&text, "BDAT %zu\r\n", cut);
            buf_append(&text, smuggling[i].bytes, cut);
            buf_printf(&text, "BDAT %zu LAST\r\n", len - cut);
            buf_append(&text, smuggling[i].bytes + cut, smuggling[i].len - cut);
            buf_append(&text, evil, sizeof evil - 1);
            stream_write(client.stream, text.ptr, text.len);
            expect(&client, NULL, 250);
            expect(&client, NULL, 250);
            expect(&client, "QUIT\r\n", 221);
            fake_disconnect(&client);
            assert_int_equal(fake_messages - before, cut + 1);
            check_wire_form();
            buf_release(&text);
        }
    }
    fake_server_free(&server);
}

static void
bare_lf_settings(void *arg)
{
    static const struct {
        const char *settings, *address;
        int code;
    } rows[] = {
        {"smtpd_forbid_bare_newline = normalize\n", "192.0.2.9", 250},
        {"smtpd_forbid_bare_newline = no\n", "192.0.2.9", 250},
        {"smtpd_forbid_bare_newline = note\n", "192.0.2.9", 250},
        {"smtpd_forbid_bare_newline = reject\n", "192.0.2.9", 550},
        {"smtpd_forbid_bare_newline = reject\n", "127.0.0.1", 250},
    };
    (void)arg;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct server *server = fake_server_new(arena, rows[i].settings);
        struct fake_client client;
        fake_connect(&client, server, rows[i].address);
        expect(&client, NULL, 220);
        expect(&client, "MAIL FROM:<s@c.test>\r\n", 250);
        expect(&client, "RCPT TO:<r@ours.test>\r\n", 250);
        expect(&client, "DATA\r\n", 354);
        expect(&client, "a\nb\n.\nc\r\n.\r\n", rows[i].code);
        expect(&client, "NOOP\r\n", 250);
        fake_disconnect(&client);
        fake_server_free(&server);
    }
}

/* ---- BDAT: T06 ---- */

static void
bdat(void *arg)
{
    struct server *server = fake_server_new(arena, "message_size_limit = 1000\n");
    struct fake_client client;

    (void)arg;
    begin_transaction(&client, server, NULL);
    expect(&client, "BDAT 12\r\na: b\r\n\r\n.\r\nx", 250);
    expect(&client, "BDAT 0\r\n", 250);
    expect(&client, "RCPT TO:<r@ours.test>\r\n", 503);
    expect(&client, "MAIL FROM:<r@ours.test>\r\n", 503);
    expect(&client, "DATA\r\n", 503);
    expect(&client, "BDAT 3 LAST\r\ny\nz", 250);
    assert_string_equal(body(), "a: b\r\n\r\n..\r\nxy\r\nz\r\n");
    expect(&client, "BDAT 6\r\nQUIT\r\n", 503); /* the bytes are no command */
    expect(&client, "BDAT 0 LAST\r\n", 503);
    /* A chunk that is too much; what comes after it is thrown away too. */
    expect(&client, "MAIL FROM:<s@c.test>\r\n", 250);
    expect(&client, "RCPT TO:<r@ours.test>\r\n", 250);
    struct buf chunk = {0};
    buf_append_text(&chunk, "BDAT 2000\r\n");
    for (unsigned i = 0; i < 500; i++)
        buf_append_text(&chunk, "xx\r\n");
    unsigned before = fake_messages;
    expect(&client, buf_text(&chunk), 552);
    expect(&client, "BDAT 6\r\nRSET\r\n", 551);
    expect(&client, "BDAT 6 LAST\r\nRSET\r\n", 552);
    expect(&client, "MAIL FROM:<s@c.test>\r\n", 250);
    assert_int_equal(fake_messages, before);
    expect(&client, "BDAT -1\r\n", 521);
    expect(&client, NULL, 0);
    fake_disconnect(&client);
    buf_release(&chunk);
    fake_server_free(&server);
}

/* A million one-byte chunks: memory stays flat. Shorter here. */
static void
many_chunks(void *arg)
{
    struct server *server = fake_server_new(arena, "");
    struct fake_client client;

    (void)arg;
    begin_transaction(&client, server, NULL);
    for (unsigned i = 0; i < 2000; i++)
        expect(&client, "BDAT 1\r\nx", 250);
    expect(&client, "BDAT 0 LAST\r\n", 250);
    assert_int_equal(strlen(body()), 2002);
    fake_disconnect(&client);
    fake_server_free(&server);
}

/* ---- relay control ---- */

static void
relay(void *arg)
{
    static const struct {
        const char *client, *rcpt;
        int code;
    } rows[] = {
        {"192.0.2.9", "<a@ours.test>", 250},
        {"192.0.2.9", "<a@relay.test>", 250},
        {"192.0.2.9", "<postmaster>", 250},
        {"192.0.2.9", "<@x.test:a@ours.test>", 250},
        {"192.0.2.9", "<a@far.test>", 554},
        {"192.0.2.9", "<@ours.test:a@far.test>", 554},
        {"192.0.2.9", "<a%far.test@ours.test>", 554},
        {"192.0.2.9", "<a%far.test@relay.test>", 554},
        {"192.0.2.9", "<a%far.test>", 554},
        {"192.0.2.9", "<far.test!a@ours.test>", 554},
        {"192.0.2.9", "<far.test!a>", 554},
        {"192.0.2.9", "<a@far.test@ours.test>", 554},
        {"192.0.2.9", "<\"a@far.test\"@ours.test>", 554},
        {"192.0.2.9", "<\"a%far.test\"@ours.test>", 554},
        {"192.0.2.9", "<\"far.test!a\"@ours.test>", 554},
        {"192.0.2.9", "<\"a@far.test\">", 554},
        {"192.0.2.9", "<a\\@far.test@ours.test>", 554},
        {"192.0.2.9", "<a@[192.0.2.77]>", 554},
        {"192.0.2.9", "<a@[IPv6:2001:db8::1]>", 554},
        {"192.0.2.9", "<a@ours.test.>", 554},
        {"192.0.2.9", "<a@ours.test@far.test>", 554},
        {"192.0.2.9", "<a@fail.test>", 451},
        {"127.0.0.1", "<a@far.test>", 250},
        {"127.0.0.1", "<a%far.test@ours.test>", 250},
        {"127.0.0.1", "<a@fail.test>", 451}, /* nobody knows whether there is such a user */
    };
    struct server *server =
        fake_server_new(arena, "smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n");
    struct fake_client client;
    char line[256];

    (void)arg;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fake_connect(&client, server, rows[i].client);
        expect(&client, NULL, 220);
        expect(&client, "MAIL FROM:<s@c.test>\r\n", 250);
        snprintf(line, sizeof line, "RCPT TO:%s\r\n", rows[i].rcpt);
        expect(&client, line, rows[i].code);
        fake_disconnect(&client);
    }
    fake_server_free(&server);
}

/* ---- restrictions ---- */

/* What a recipient is told. */
static const struct {
    const char *settings, *client, *helo, *sender, *rcpt, *reply;
} verdicts[] = {
    {"", "192.0.2.9", "c.test", "s@c.test", "r@far.test", "454 4.7.1 <r@far.test>: Relay access denied"},
    {"smtpd_recipient_restrictions = no_such_thing\n", "192.0.2.9", "c.test", "s@c.test", "r@ours.test",
     "451 4.3.5 Server configuration error"},
    {"smtpd_recipient_restrictions = permit, no_such_thing\n", "192.0.2.9", "c.test", "s@c.test", "r@ours.test",
     "250 2.1.5 Ok"},
    {"smtpd_relay_restrictions = reject_unauth_destination\nsmtpd_client_restrictions = check_client_access hash:/x\n",
     "192.0.2.9", "c.test", "s@c.test", "r@ours.test", "451 4.3.0 <unknown[192.0.2.9]>: Temporary lookup failure"},
    {"smtpd_client_restrictions = reject\n", "192.0.2.9", "c.test", "s@c.test", "r@ours.test",
     "554 5.7.1 <unknown[192.0.2.9]>: Client host rejected: Access denied"},
    {"smtpd_client_restrictions = permit_mynetworks, reject\n", "127.0.0.1", "c.test", "s@c.test", "r@ours.test",
     "250 2.1.5 Ok"},
    {"smtpd_client_restrictions = defer\n", "192.0.2.9", "c.test", "s@c.test", "r@ours.test",
     "450 4.3.2 <unknown[192.0.2.9]>: Client host rejected: Try again later"},
    {"smtpd_client_restrictions = warn_if_reject reject\n", "192.0.2.9", "c.test", "s@c.test", "r@ours.test",
     "250 2.1.5 Ok"},
    {"smtpd_helo_restrictions = reject_non_fqdn_helo_hostname\n", "192.0.2.9", "c", "s@c.test", "r@ours.test",
     "504 5.5.2 <c>: Helo command rejected: need fully-qualified hostname"},
    {"smtpd_helo_restrictions = reject_non_fqdn_helo_hostname\n", "192.0.2.9", "[192.0.2.9]", "s@c.test", "r@ours.test",
     "250 2.1.5 Ok"},
    {"smtpd_helo_restrictions = reject_invalid_helo_hostname\n", "192.0.2.9", "a..b", "s@c.test", "r@ours.test",
     "501 5.5.2 <a..b>: Helo command rejected: Invalid name"},
    {"smtpd_helo_restrictions = reject_unknown_helo_hostname\n", "192.0.2.9", "none.test", "s@c.test", "r@ours.test",
     "450 4.7.1 <none.test>: Helo command rejected: Host not found"},
    {"smtpd_sender_restrictions = reject_non_fqdn_sender\n", "192.0.2.9", "c.test", "s@c", "r@ours.test",
     "504 5.5.2 <s@c>: Sender address rejected: need fully-qualified address"},
    {"smtpd_sender_restrictions = reject_non_fqdn_sender\n", "192.0.2.9", "c.test", "", "r@ours.test", "250 2.1.5 Ok"},
    {"smtpd_sender_restrictions = reject_unknown_sender_domain\n", "192.0.2.9", "c.test", "s@none.test", "r@ours.test",
     "450 4.1.8 <s@none.test>: Sender address rejected: Domain not found"},
    {"smtpd_sender_restrictions = reject_unknown_sender_domain\n", "192.0.2.9", "c.test", "s@fail.test", "r@ours.test",
     "451 4.3.0 <s@fail.test>: Temporary lookup failure"},
    {"smtpd_sender_restrictions = reject_unknown_sender_domain\n", "192.0.2.9", "c.test", "s@sub.fail.test",
     "r@ours.test", "450 4.1.8 <s@sub.fail.test>: Sender address rejected: Domain not found"},
    {"smtpd_sender_restrictions = reject_unknown_sender_domain\n", "192.0.2.9", "c.test", "s@known.test", "r@ours.test",
     "250 2.1.5 Ok"},
    {"smtpd_sender_restrictions = reject_unknown_sender_domain\n", "192.0.2.9", "c.test", "s@ours.test", "r@ours.test",
     "250 2.1.5 Ok"},
    {"smtpd_recipient_restrictions = defer_if_permit\n", "192.0.2.9", "c.test", "s@c.test", "r@ours.test",
     "450 4.3.2 <r@ours.test>: Recipient address rejected: Try again later"},
    {"smtpd_recipient_restrictions = defer_if_reject, reject\n", "192.0.2.9", "c.test", "s@c.test", "r@ours.test",
     "450 4.7.0 <r@ours.test>: Recipient address rejected: Access denied"},
    {"smtpd_recipient_restrictions = reject_plaintext_session\n", "192.0.2.9", "c.test", "s@c.test", "r@ours.test",
     "450 4.7.1 Session encryption is required"},
    {"smtpd_client_restrictions = reject_unknown_client_hostname\n", "192.0.2.1", "c.test", "s@c.test", "r@ours.test",
     "250 2.1.5 Ok"},
    {"smtpd_client_restrictions = reject_unknown_client_hostname\n", "192.0.2.2", "c.test", "s@c.test", "r@ours.test",
     "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.2]"},
    /* T34 */
    {"smtpd_client_restrictions = reject_unknown_reverse_client_hostname\n", "192.0.2.7", "c.test", "s@c.test",
     "r@ours.test", "450 4.7.25 Client host rejected: cannot find your reverse hostname, [192.0.2.7]"},
    {"smtpd_client_restrictions = reject_unknown_reverse_client_hostname\n", "192.0.2.2", "c.test", "s@c.test",
     "r@ours.test", "250 2.1.5 Ok"},
    {"smtpd_client_restrictions = reject_unknown_client_hostname\nunknown_client_reject_code = 550\n", "192.0.2.3",
     "c.test", "s@c.test", "r@ours.test", "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.3]"},
    {"smtpd_sender_restrictions = warn_if_reject reject_unknown_sender_domain\n", "192.0.2.9", "c.test",
     "s@sub.fail.test", "r@ours.test", "250 2.1.5 Ok"},
    {"smtpd_sender_restrictions = reject_unknown_sender_domain, warn_if_reject reject_unknown_sender_domain\n",
     "192.0.2.9", "c.test", "s@sub.fail.test", "r@ours.test",
     "450 4.1.8 <s@sub.fail.test>: Sender address rejected: Domain not found"},
    {"smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_rhswl_client listed.test, "
     "reject_unauth_destination\n",
     "192.0.2.1", "c.test", "s@c.test", "r@far.test", "554 5.7.1 <r@far.test>: Relay access denied"},
    {"smtpd_recipient_restrictions = permit_rhswl_client listed.test, reject\n", "192.0.2.1", "c.test", "s@c.test",
     "r@ours.test", "250 2.1.5 Ok"},
    {"smtpd_recipient_restrictions = permit_rhswl_client listed.test, reject\n", "192.0.2.9", "c.test", "s@c.test",
     "r@ours.test", "554 5.7.1 <r@ours.test>: Recipient address rejected: Access denied"},
    {"smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = check_sender_a_access inline:{known.test=OK}, "
     "reject_unauth_destination\n",
     "192.0.2.9", "c.test", "s@known.test", "r@far.test", "554 5.7.1 <r@far.test>: Relay access denied"},
    {"smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = check_reverse_client_hostname_access "
     "inline:{known.test=OK}, reject_unauth_destination\n",
     "192.0.2.2", "c.test", "s@c.test", "r@far.test", "554 5.7.1 <r@far.test>: Relay access denied"},
    {"smtpd_sender_restrictions = reject_sender_login_mismatch\nsmtpd_sender_login_maps = inline:{s=owner}\n",
     "192.0.2.9", "c.test", "s@fail.test", "r@ours.test", "451 4.3.0 <s@fail.test>: Temporary lookup failure"},
    {"smtpd_client_restrictions = permit_inet_interfaces, reject\ninet_interfaces = 127.0.0.1\n", "127.0.0.1", "c.test",
     "s@c.test", "r@ours.test", "250 2.1.5 Ok"},
    {"smtpd_client_restrictions = permit_inet_interfaces, reject\ninet_interfaces = 127.0.0.1\n", "127.0.0.2", "c.test",
     "s@c.test", "r@ours.test", "554 5.7.1 <unknown[127.0.0.2]>: Client host rejected: Access denied"},
    {"smtpd_sender_restrictions = reject_unknown_address\n", "192.0.2.9", "c.test", "s@nowhere.test", "r@ours.test",
     "450 4.1.8 <s@nowhere.test>: Sender address rejected: Domain not found"},
    {"smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = check_relay_domains, reject\n", "192.0.2.9", "c.test",
     "s@c.test", "r@ours.test", "250 2.1.5 Ok"},
    {"smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = check_relay_domains\n", "127.0.0.1", "c.test",
     "s@c.test", "r@far.test", "554 5.7.1 <r@far.test>: Recipient address rejected: Relay access denied"},
    {"smtpd_helo_restrictions = permit_naked_ip_address, reject\n", "192.0.2.9", "192.0.2.9", "s@c.test", "r@ours.test",
     "250 2.1.5 Ok"},
    {"smtpd_helo_restrictions = permit_naked_ip_address, reject\n", "192.0.2.9", "c.test", "s@c.test", "r@ours.test",
     "554 5.7.1 <c.test>: Helo command rejected: Access denied"},
    {"smtpd_relay_restrictions = permit_naked_ip_address, reject\n", "192.0.2.9", "192.0.2.9", "s@c.test", "r@far.test",
     "554 5.7.1 <r@far.test>: Recipient address rejected: Access denied"},
    {"smtpd_client_restrictions = reject_maps_rbl\nmaps_rbl_domains = none.test, listed.test\n", "192.0.2.1", "c.test",
     "s@c.test", "r@ours.test", "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using listed.test"},
    {"smtpd_client_restrictions = reject_maps_rbl\nmaps_rbl_domains = none.test\n", "192.0.2.1", "c.test", "s@c.test",
     "r@ours.test", "250 2.1.5 Ok"},
    {"smtpd_relay_restrictions = permit_mx_backup, reject\n", "192.0.2.9", "c.test", "s@c.test", "r@backup.test",
     "250 2.1.5 Ok"},
    {"smtpd_relay_restrictions = permit_mx_backup, reject\n", "192.0.2.9", "c.test", "s@c.test", "r@ours-first.test",
     "554 5.7.1 <r@ours-first.test>: Recipient address rejected: Access denied"},
    {"smtpd_relay_restrictions = permit_mx_backup, reject\n", "192.0.2.9", "c.test", "s@c.test", "r@far.test",
     "554 5.7.1 <r@far.test>: Recipient address rejected: Access denied"},
    {"smtpd_relay_restrictions = permit_mx_backup, reject\n", "192.0.2.9", "c.test", "s@c.test", "r@x.fail.test",
     "450 4.4.4 <r@x.fail.test>: Recipient address rejected: Unable to look up mail exchanger information"},
    {"smtpd_relay_restrictions = permit_mx_backup, reject\npermit_mx_backup_networks = 198.51.100.0/24\n", "192.0.2.9",
     "c.test", "s@c.test", "r@backup.test", "250 2.1.5 Ok"},
    {"smtpd_relay_restrictions = permit_mx_backup, reject\npermit_mx_backup_networks = 203.0.113.0/24\n", "192.0.2.9",
     "c.test", "s@c.test", "r@backup.test", "554 5.7.1 <r@backup.test>: Recipient address rejected: Access denied"},
    {"smtpd_relay_restrictions = permit_mx_backup, reject\n", "192.0.2.9", "c.test", "s@c.test",
     "r%far.test@backup.test", "554 5.7.1 <r%far.test@backup.test>: Recipient address rejected: Access denied"},
    {"smtpd_recipient_restrictions = reject_unverified_recipient, permit\n", "127.0.0.1", "c.test", "s@c.test",
     "r@ours.test",
     "450 4.1.1 <r@ours.test>: Recipient address rejected: unverified address: this system can't probe "
     "addresses yet"},
    {"smtpd_recipient_restrictions = reject_unverified_sender, permit\n", "127.0.0.1", "c.test", "s@c.test",
     "r@ours.test",
     "450 4.1.7 <s@c.test>: Sender address rejected: unverified address: this system can't probe "
     "addresses yet"},
    {"smtpd_recipient_restrictions = reject_unverified_sender, permit\n", "127.0.0.1", "c.test", "", "r@ours.test",
     "250 2.1.5 Ok"},
    {"mynetworks = hash:/x\n", "192.0.2.9", "c.test", "s@c.test", "r@ours.test",
     "451 4.3.0 <r@ours.test>: Temporary lookup failure"},
    {"reject_code = 200\nsmtpd_client_restrictions = reject\n", "192.0.2.9", "c.test", "s@c.test", "r@ours.test",
     "554 5.7.1 <unknown[192.0.2.9]>: Client host rejected: Access denied"},
};

static void
restrictions(void *arg)
{
    unsigned failed = 0;

    (void)arg;
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        struct server *server = fake_server_new(arena, verdicts[i].settings);
        struct fake_client client;
        char say[256], reply[512] = "";
        fake_connect(&client, server, verdicts[i].client);
        expect(&client, NULL, 220);
        snprintf(say, sizeof say, "EHLO %s\r\n", verdicts[i].helo);
        expect(&client, say, 250);
        snprintf(say, sizeof say, "MAIL FROM:<%s>\r\n", verdicts[i].sender);
        expect(&client, say, 250);
        snprintf(say, sizeof say, "RCPT TO:<%s>\r\n", verdicts[i].rcpt);
        fake_say(&client, say, reply, sizeof reply);
        if (strcmp(reply, verdicts[i].reply) != 0) {
            print_error("row %zu: %s-> %s\n", i, verdicts[i].settings, reply);
            failed++;
        }
        fake_disconnect(&client);
        fake_server_free(&server);
    }
    assert_int_equal(failed, 0);
}

static void
restrictions_at_once(void *arg)
{
    static const char settings[] = "smtpd_delay_reject = no\nsmtpd_sender_restrictions = reject_non_fqdn_sender\n"
                                   "smtpd_helo_restrictions = reject_invalid_helo_hostname\n"
                                   "smtpd_data_restrictions = reject_multi_recipient_bounce\n"
                                   "smtpd_end_of_data_restrictions = reject\n";
    struct server *server = fake_server_new(arena, settings);
    struct fake_client client;
    unsigned before = fake_messages;

    (void)arg;
    fake_connect(&client, server, "192.0.2.9");
    expect(&client, NULL, 220);
    expect(&client, "EHLO a..b\r\n", 501);
    expect(&client, "EHLO a.b\r\n", 250);
    expect(&client, "MAIL FROM:<s@c>\r\n", 504);
    expect(&client, "MAIL FROM:<>\r\n", 250);
    expect(&client, "RCPT TO:<a@ours.test>\r\n", 250);
    expect(&client, "RCPT TO:<b@ours.test>\r\n", 250);
    expect(&client, "DATA\r\n", 550);
    expect(&client, "RSET\r\n", 250);
    expect(&client, "MAIL FROM:<>\r\n", 250);
    expect(&client, "RCPT TO:<a@ours.test>\r\n", 250);
    expect(&client, "DATA\r\n", 354);
    expect(&client, "x\r\n.\r\n", 554);
    expect(&client, "RCPT TO:<a@ours.test>\r\n", 503); /* T07: the transaction is gone */
    expect(&client, "DATA\r\n", 503);
    fake_disconnect(&client);
    fake_server_free(&server);
    server = fake_server_new(arena, "smtpd_delay_reject = no\nsmtpd_client_restrictions = reject\n");
    fake_connect(&client, server, "192.0.2.9");
    expect(&client, NULL, 554);
    expect(&client, "EHLO a.b\r\n", 503);
    expect(&client, "QUIT\r\n", 221);
    fake_disconnect(&client);
    fake_server_free(&server);
    assert_int_equal(fake_messages, before);
}

/* ---- limits: T17 and others ---- */

static void
long_lines(void *arg)
{
    struct server *server = fake_server_new(arena, "line_length_limit = 1000\n");
    struct fake_client client;
    struct buf line = {0};

    (void)arg;
    fake_connect(&client, server, "192.0.2.9");
    expect(&client, NULL, 220);
    for (size_t len = 995; len < 1005; len++) {
        buf_clear(&line);
        buf_append_text(&line, "NOOP ");
        while (line.len < len)
            buf_append_byte(&line, 'x');
        buf_append_text(&line, "\r\n");
        expect(&client, buf_text(&line), len <= 1000 ? 250 : 500);
    }
    expect(&client, "NOOP\r\n", 250);
    buf_clear(&line);
    buf_append_text(&line, "EHLO ");
    for (unsigned i = 0; i < 11000; i++)
        buf_append_byte(&line, 'x');
    buf_append_text(&line, "\r\n");
    expect(&client, buf_text(&line), 500);
    expect(&client, "EHLO c.test\r\n", 250);
    /* No end at all: the session ends. */
    buf_clear(&line);
    for (unsigned i = 0; i < 70000; i++)
        buf_append_byte(&line, 'x');
    expect(&client, buf_text(&line), 500);
    expect(&client, NULL, 0);
    fake_disconnect(&client);
    buf_release(&line);
    fake_server_free(&server);
}

static void
helo_names(void *arg)
{
    struct server *server = fake_server_new(arena, "smtpd_helo_required = yes\n");
    struct fake_client client;
    char line[400];

    (void)arg;
    fake_connect(&client, server, "192.0.2.9");
    expect(&client, NULL, 220);
    expect(&client, "MAIL FROM:<a@b>\r\n", 503);
    expect(&client, "EHLO\r\n", 501);
    for (int len = 254; len < 258; len++) {
        snprintf(line, sizeof line, "EHLO %.*s\r\n", len,
                 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        expect(&client, line, len <= 255 ? 250 : 501);
    }
    expect(&client, "HELO a b\r\n", 250);
    expect(&client, "MAIL FROM:<a@b>\r\n", 250);
    fake_disconnect(&client);
    fake_server_free(&server);
}

static void
recipient_limit(void *arg)
{
    struct server *server = fake_server_new(arena, "smtpd_recipient_limit = 3\nsmtpd_recipient_overshoot_limit = 2\n"
                                                   "smtpd_hard_error_limit = 2\n");
    struct fake_client client;

    (void)arg;
    begin_transaction(&client, server, NULL);
    expect(&client, "RCPT TO:<b@ours.test>\r\n", 250);
    expect(&client, "RCPT TO:<c@ours.test>\r\n", 250);
    expect(&client, "RCPT TO:<d@ours.test>\r\n", 452);
    expect(&client, "RCPT TO:<e@ours.test>\r\n", 452);
    expect(&client, "RCPT TO:<f@ours.test>\r\n", 452); /* from here on an error */
    expect(&client, "DATA\r\n", 354);
    expect(&client, "x\r\n.\r\n", 250);
    assert_int_equal(got.recipient_count, 3);
    expect(&client, "BOGUS\r\n", 502); /* delivery forgave the error before */
    expect(&client, "BOGUS\r\n", 502);
    expect(&client, NULL, 421);
    expect(&client, NULL, 0);
    fake_disconnect(&client);
    fake_server_free(&server);
}

static void
junk_limit(void *arg)
{
    struct server *server = fake_server_new(arena, "smtpd_junk_command_limit = 3\nsmtpd_hard_error_limit = 2\n");
    struct fake_client client;

    (void)arg;
    fake_connect(&client, server, "192.0.2.9");
    expect(&client, NULL, 220);
    for (unsigned i = 0; i < 5; i++)
        expect(&client, "NOOP\r\n", 250);
    expect(&client, NULL, 421);
    fake_disconnect(&client);
    fake_server_free(&server);
}

static void
size_limit(void *arg)
{
    struct server *server = fake_server_new(arena, "message_size_limit = 300000\n");
    struct fake_client client;
    struct buf text = {0};
    unsigned before = fake_messages, aborted = fake_aborted;

    (void)arg;
    begin_transaction(&client, server, NULL);
    expect(&client, "RSET\r\n", 250);
    expect(&client, "MAIL FROM:<s@c.test> SIZE=300001\r\n", 552);
    expect(&client, "MAIL FROM:<s@c.test> SIZE=99999999999999999999\r\n", 501);
    expect(&client, "MAIL FROM:<s@c.test> SIZE=300000 BODY=8BITMIME\r\n", 250);
    expect(&client, "RCPT TO:<r@ours.test>\r\n", 250);
    expect(&client, "DATA\r\n", 354);
    while (text.len < 299990)
        buf_append_text(&text, "0123456\r\n");
    buf_append_text(&text, ".\r\n");
    expect(&client, buf_text(&text), 250);
    assert_int_equal(fake_messages - before, 1); /* through submission_begin() */
    assert_int_equal(strlen(body()), text.len - 3);
    assert_string_equal(got.encoding, "8bit");
    text.len -= 3;
    for (unsigned i = 0; i < 10000; i++)
        buf_append_text(&text, "0123456\r\n");
    buf_append_text(&text, ".\r\n");
    expect(&client, "MAIL FROM:<s@c.test>\r\n", 250);
    expect(&client, "RCPT TO:<r@ours.test>\r\n", 250);
    expect(&client, "DATA\r\n", 354);
    expect(&client, buf_text(&text), 552);
    assert_int_equal(fake_messages - before, 1);
    assert_int_equal(fake_aborted - aborted, 1);
    expect(&client, "DATA\r\n", 503);
    /* The client goes away in the midst of a large content. */
    expect(&client, "MAIL FROM:<s@c.test>\r\n", 250);
    expect(&client, "RCPT TO:<r@ours.test>\r\n", 250);
    expect(&client, "DATA\r\n", 354);
    struct err err;
    stream_write(client.stream, text.ptr, 200000);
    assert_int_equal(stream_flush(client.stream, &err), 0);
    fake_disconnect(&client);
    assert_int_equal(fake_messages - before, 1);
    assert_int_equal(fake_aborted - aborted, 2);
    buf_release(&text);
    fake_server_free(&server);
}

static void
odd_commands(void *arg)
{
    static const struct {
        const char *say;
        int code;
    } rows[] = {
        {"\r\n", 500},
        {"   \r\n", 500},
        {"noop\r\n", 250},
        {"NOOP hello\r\n", 250},
        {"NOOP\n", 250}, /* a command may end in a bare LF */
        {"RSET x\r\n", 501},
        {"QUIT x\r\n", 501},
        {"STARTTLS\r\n", 502},
        {"VRFY\r\n", 501},
        {"VRFY <>\r\n", 501},
        {"VRFY \xc3\xa4@ours.test\r\n", 252},
        {"VRFY r@\xc3\xa4.test\r\n", 501},
        {"VRFY r@ours.test\r\n", 252},
        {"VRFY r@far.test\r\n", 454},
        {"EXPN x\r\n", 502},
        {"HELP\r\n", 502},
        {"AUTH PLAIN\r\n", 503},
        {"MAIL FROM:<a@\xc3\xa4.test>\r\n", 501},
        {"MAIL FROM:<a@c.test> SMTPUTF8\r\n", 250},
        {"RSET\r\n", 250},
        {"MAIL FROM:<a@c.test> NOSUCH\r\n", 555},
        {"MAIL FROM:<a@c.test> AUTH=<>\r\n", 555},
        {"MAIL FROM:<;sleep 66;>\r\n", 501},
    };
    struct server *server = fake_server_new(arena, "");
    struct fake_client client;

    (void)arg;
    fake_connect(&client, server, "192.0.2.9");
    expect(&client, NULL, 220);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect(&client, rows[i].say, rows[i].code);
    expect(&client, "GET / HTTP/1.0\r\n", 221);
    expect(&client, NULL, 0);
    fake_disconnect(&client);
    fake_connect(&client, server, "192.0.2.9");
    expect(&client, NULL, 220);
    expect(&client, "\x16\x03\x01\r\n", 221);
    fake_disconnect(&client);
    fake_server_free(&server);
}

static void
ehlo(void *arg)
{
    struct server *server = fake_server_new(arena, "smtpd_discard_ehlo_keywords = vrfy, silent-discard\n"
                                                   "message_size_limit = 1000\n");
    struct fake_client client;
    struct slice bytes;
    struct err err;

    (void)arg;
    fake_connect(&client, server, "192.0.2.9");
    expect(&client, NULL, 220);
    stream_write_text(client.stream, "EHLO c.test\r\n");
    assert_int_equal(stream_peek(client.stream, &bytes, &err), 0);
    static const char want[] =
        "250-mail.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-ETRN\r\n250-ENHANCEDSTATUSCODES\r\n"
        "250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n";
    assert_int_equal(bytes.len, strlen(want));
    assert_memory_equal(bytes.ptr, want, bytes.len);
    fake_disconnect(&client);
    fake_server_free(&server);
}

static void
received(void *arg)
{
    struct server *server = fake_server_new(arena, "mail_name = Postern\n");
    struct fake_client client;

    (void)arg;
    fake_connect(&client, server, "192.0.2.1");
    expect(&client, NULL, 220);
    expect(&client, "EHLO c.test\r\n", 250);
    expect(&client, "MAIL FROM:<>\r\n", 250);
    expect(&client, "RCPT TO:<\"a b\"@ours.test>\r\n", 250);
    expect(&client, "DATA\r\n", 354);
    expect(&client, ".\r\n", 250);
    const char *text = buf_text(&got.content);
    static const char start[] =
        "Received: from c.test (known.test [192.0.2.1])\r\n\tby mail.test (Postern) with ESMTP id ";
    assert_memory_equal(text, start, sizeof start - 1);
    assert_non_null(strstr(text, "\r\n\tfor <\"a b\"@ours.test>; "));
    assert_string_equal(body(), "");
    fake_disconnect(&client);
    fake_connect(&client, server, "2001:db8::9");
    expect(&client, NULL, 220);
    expect(&client, "HELO c.\x1b[31m\xc3\xa4\r\n", 250);
    expect(&client, "MAIL FROM:<>\r\n", 250);
    expect(&client, "RCPT TO:<a@ours.test>\r\n", 250);
    expect(&client, "RCPT TO:<b@ours.test>\r\n", 250);
    expect(&client, "DATA\r\n", 354);
    expect(&client, "x\r\n.\r\n", 250);
    text = buf_text(&got.content);
    static const char other[] =
        "Received: from c.?[31m?? (unknown [IPv6:2001:db8::9])\r\n\tby mail.test (Postern) with SMTP id ";
    assert_memory_equal(text, other, sizeof other - 1);
    assert_non_null(strstr(text, ";\r\n\t"));
    fake_disconnect(&client);
    fake_server_free(&server);
}

static void
refused_by_cleanup(const struct fake_message *message)
{
    *message->answer = (struct msg_submitted){.code = 554, .enhanced = "5.4.0", .text = "Error: too many hops"};
}

static void
cleanup_refuses(void *arg)
{
    struct server *server = fake_server_new(arena, "");
    struct fake_client client;
    char line[256];

    (void)arg;
    fake_on_message = refused_by_cleanup;
    begin_transaction(&client, server, "DATA\r\n");
    fake_say(&client, "x\r\n.\r\n", line, sizeof line);
    fake_on_message = keep_message;
    assert_string_equal(line, "554 5.4.0 Error: too many hops");
    expect(&client, "DATA\r\n", 503);
    fake_disconnect(&client);
    fake_server_free(&server);
}

/* ---- running them ---- */

static void
run(void **state)
{
    void (*fn)(void *);

    memcpy(&fn, state, sizeof fn);
    fake_on_message = keep_message;
    task_run_main(fn, NULL);
}

static int
setup(void **state)
{
    (void)state;
    arena = arena_new();
    loop_init();
    if (!getenv("SMTPD_LOG"))
        log_to_fd(open("/dev/null", O_WRONLY | O_CLOEXEC), false);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    buf_release(&got.content);
    loop_release();
    arena_free(&arena);
    return 0;
}

#define IN_TASK(fn)                                   \
    {                                                 \
#fn, run, NULL, NULL, (void *)(uintptr_t)(fn) \
    }

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TASK(pipelining),
        IN_TASK(bad_pipelining),
        IN_TASK(smuggling_in_data),
        IN_TASK(smuggling_in_bdat),
        IN_TASK(bare_lf_settings),
        IN_TASK(bdat),
        IN_TASK(many_chunks),
        IN_TASK(relay),
        IN_TASK(restrictions),
        IN_TASK(restrictions_at_once),
        IN_TASK(long_lines),
        IN_TASK(helo_names),
        IN_TASK(recipient_limit),
        IN_TASK(junk_limit),
        IN_TASK(size_limit),
        IN_TASK(odd_commands),
        IN_TASK(ehlo),
        IN_TASK(received),
        IN_TASK(cleanup_refuses),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
