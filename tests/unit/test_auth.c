/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords as they are stored, tickets, base64, and the escaping of the authentication protocol. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "lib/mail/auth_protocol.h"
#include "lib/mail/auth_ticket.h"
#include "lib/mail/password.h"

static struct arena *arena;

static bool
matches(const char *record, const char *password)
{
    bool known;

    return password_matches(record, slice_from(password), &known) && known;
}

static void
stored_passwords(void **state)
{
    struct err err;
    const char *record = password_record(arena, slice_from("secret"), &err);
    bool known;

    (void)state;
    assert_non_null(record);
    assert_null(strstr(record, "secret"));
    assert_true(matches(record, "secret"));
    assert_false(matches(record, "secre"));
    assert_false(matches(record, ""));
    assert_true(matches("{PLAIN}x y", "x y"));
    assert_false(matches("{PLAIN}x y", "x"));
    assert_false(password_matches("{WHAT}abc", slice_from("abc"), &known));
    assert_false(known);
    assert_false(password_matches("", slice_from(""), &known));
    assert_null(password_record(arena, slice_from(""), &err));
    password_pretend(NULL, slice_from("anything"));
}

static bool
scram(const char *record, const char *digest, struct scram_keys *keys)
{
    return password_scram_keys(record, slice_from("key"), slice_from("nobody"), digest, keys);
}

static void
scram_keys(void **state)
{
    /* RFC 7677 section 3: user, password "pencil". */
    static const char stored[] =
        "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    struct scram_keys keys, again;
    struct err err;

    (void)state;
    assert_true(matches(stored, "pencil"));
    assert_false(matches(stored, "Pencil"));
    assert_true(scram(stored, "SHA256", &keys));
    assert_int_equal(keys.iterations, 4096);
    assert_false(scram(stored, "SHA1", &keys));
    assert_true(scram(password_record(arena, slice_from("pencil"), &err), "SHA1", &keys));
    assert_true(scram("{PLAIN}pencil", "SHA256", &keys));
    assert_false(scram("{SCRAM-SHA-256}0,W22ZaJ0SNY7soEsUEjb6gQ==,eA==,eA==", "SHA256", &keys));
    password_scram_pretend(NULL, slice_from("key"), slice_from("nobody"), "SHA256", &keys);
    password_scram_pretend(NULL, slice_from("key"), slice_from("nobody"), "SHA256", &again);
    assert_memory_equal(keys.salt, again.salt, keys.salt_len);
    assert_memory_not_equal(keys.stored, again.stored, keys.size);
    /* A plain password shows the same salt each time too, and who does not exist what those show who do. */
    assert_true(scram("{PLAIN}pencil", "SHA256", &again));
    assert_memory_equal(keys.salt, again.salt, keys.salt_len);
    password_scram_pretend(stored, slice_from("key"), slice_from("nobody"), "SHA256", &keys);
    assert_int_equal(keys.iterations, 4096);
    assert_int_equal(keys.salt_len, 16);
}

static void
tickets(void **state)
{
    const unsigned char key[AUTH_KEY_SIZE] = "a key of thirty-two bytes length", other[AUTH_KEY_SIZE] = "another";
    struct auth_ticket ticket = {.user = "tom",
                                 .service = "imap",
                                 .uid = 1000,
                                 .gid = 100,
                                 .home = "/home/tom",
                                 .mail = "maildir:/home/tom/Maildir/",
                                 .expires = SECONDS(1020)},
                       got;
    const char *text = auth_ticket_make(arena, &ticket, key);
    struct err err;

    (void)state;
    assert_int_equal(auth_ticket_verify(arena, text, key, SECONDS(1000), &got, &err), 0);
    assert_string_equal(got.user, "tom");
    assert_string_equal(got.mail, "maildir:/home/tom/Maildir/");
    assert_int_equal(got.uid, 1000);
    assert_true(strlen(got.nonce) > 8);
    assert_int_equal(auth_ticket_verify(arena, text, other, SECONDS(1000), &got, &err), -1);
    assert_int_equal(auth_ticket_verify(arena, text, key, SECONDS(1021), &got, &err), -1);
    assert_int_equal(auth_ticket_verify(arena, text, key, SECONDS(900), &got, &err), -1); /* good for too long */
    for (size_t i = 0; i < strlen(text); i++) {
        char *changed = arena_strdup(arena, text);
        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        assert_int_equal(auth_ticket_verify(arena, changed, key, SECONDS(1000), &got, &err), -1);
    }
    ticket.uid = 0;
    assert_int_equal(auth_ticket_verify(arena, auth_ticket_make(arena, &ticket, key), key, SECONDS(1000), &got, &err),
                     -1);
    assert_int_equal(auth_ticket_verify(arena, "", key, SECONDS(1000), &got, &err), -1);
}

static void
base64(void **state)
{
    static const char *const bad[] = {
        "A", "AA", "AAA", "A===", "AB==", "AAB=", "AA=A", "A A=", "====", "AAAA=", "\xff\xff\xff\xff"};
    struct buf out = {0}, back = {0};

    (void)state;
    for (size_t len = 0; len < 50; len++) {
        const char *text = "The quick brown fox jumps over the lazy dog, twice";
        buf_clear(&out);
        buf_clear(&back);
        crypto_base64_encode(slice_make(text, len), &out);
        assert_int_equal(crypto_base64_decode(buf_slice(&out), &back), 0);
        assert_true(slice_equal(buf_slice(&back), slice_make(text, len)));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(crypto_base64_decode(slice_from(bad[i]), &back), -1);
    buf_release(&out);
    buf_release(&back);
}

static void
escaping(void **state)
{
    struct slice text = slice_make("a\tb\nc\rd\001e", 9);
    struct buf out = {0}, back = {0};

    (void)state;
    auth_escape(text, &out);
    assert_false(slice_has_byte(buf_slice(&out), '\t') || slice_has_byte(buf_slice(&out), '\n'));
    auth_unescape(buf_slice(&out), &back);
    assert_true(slice_equal(buf_slice(&back), text));
    buf_release(&out);
    buf_release(&back);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(stored_passwords), cmocka_unit_test(scram_keys),
                                       cmocka_unit_test(tickets), cmocka_unit_test(base64), cmocka_unit_test(escaping)};

    arena = arena_new();
    int result = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&arena);
    return result;
}
