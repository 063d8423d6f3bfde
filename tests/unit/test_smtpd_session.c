/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd's sessions against a reference automaton: every short sequence of commands (RELIABILITY G9, T06, T07). */
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
#include "tests/unit/smtpd_fakes.h"

static struct arena *arena;

/* ---- the reference: what RFC 5321 and RFC 3030 say, in as few words as can be ---- */

enum verb {
    HELO,
    EHLO,
    MAIL,
    RCPT,
    DATA,
    RSET,
    NOOP,
    VRFY,
    QUIT,
    RCPT_DENIED,
    BDAT,
    BDAT_LAST,
    BOGUS,
    STARTTLS,
    VERBS
};

static const char *const said[VERBS] = {
    [HELO] = "HELO c.test\r\n",
    [EHLO] = "EHLO c.test\r\n",
    [MAIL] = "MAIL FROM:<s@c.test>\r\n",
    [RCPT] = "RCPT TO:<r@ours.test>\r\n",
    [DATA] = "DATA\r\n",
    [RSET] = "RSET\r\n",
    [NOOP] = "NOOP\r\n",
    [VRFY] = "VRFY r@ours.test\r\n",
    [QUIT] = "QUIT\r\n",
    [RCPT_DENIED] = "RCPT TO:<r@far.test>\r\n",
    [BDAT] = "BDAT 4\r\nab\r\n",
    [BDAT_LAST] = "BDAT 3 LAST\r\nx\r\n",
    [BOGUS] = "BOGUS\r\n",
    [STARTTLS] = "STARTTLS\r\n",
};

struct automaton {
    enum { NONE, SENDER, RECIPIENT, CHUNKS, OVER } state;
    bool denied;
    unsigned messages;
};

static int
begin(struct automaton *a)
{
    a->state = NONE;
    a->denied = false;
    return 250;
}

/* The code that the verb must get. For DATA: the one after the content, if there is to be one. */
static int
step(struct automaton *a, enum verb verb)
{
    bool sender = a->state == SENDER || a->state == RECIPIENT;

    switch (verb) {
    case HELO:
    case EHLO:
    case RSET: return begin(a);
    case NOOP: return 250;
    case BOGUS: return 502;
    case VRFY: return a->state == CHUNKS ? 503 : 252;
    case STARTTLS: return a->state == NONE ? 502 : 503;
    case QUIT: a->state = OVER; return 221;
    case MAIL:
        if (a->state != NONE)
            return 503;
        a->state = SENDER;
        return 250;
    case RCPT:
        if (!sender)
            return 503;
        a->state = RECIPIENT;
        return 250;
    case RCPT_DENIED:
        if (!sender)
            return 503;
        a->denied = true;
        return 454;
    case DATA:
        if (a->state != RECIPIENT)
            return a->state == SENDER && a->denied ? 554 : 503;
        a->messages++;
        return begin(a);
    case BDAT:
    case BDAT_LAST:
        if (a->state != RECIPIENT && a->state != CHUNKS)
            return a->state == SENDER && a->denied ? 554 : 503;
        if (verb == BDAT) {
            a->state = CHUNKS;
            return 250;
        }
        a->messages++;
        return begin(a);
    case VERBS: break;
    }
    return 0;
}

/* ---- sequences ---- */

static void
tell_sequence(const enum verb *verbs, unsigned length)
{
    for (unsigned i = 0; i < length; i++)
        print_error("%s", said[verbs[i]]);
}

static void
run_sequence(struct server *server, const enum verb *verbs, unsigned length)
{
    struct automaton a = {.state = NONE};
    struct fake_client client;
    unsigned before = fake_messages;

    fake_connect(&client, server, "192.0.2.9");
    assert_int_equal(fake_say(&client, NULL, NULL, 0), 220);
    for (unsigned i = 0; i < length && a.state != OVER; i++) {
        bool content = verbs[i] == DATA && a.state == RECIPIENT;
        int want = step(&a, verbs[i]), got = fake_say(&client, said[verbs[i]], NULL, 0);
        if (content) {
            assert_int_equal(got, 354);
            got = fake_say(&client, "a: b\r\n\r\nx\r\n.\r\n", NULL, 0);
        }
        if (got != want) {
            print_error("got %d, want %d, after:\n", got, want);
            tell_sequence(verbs, i + 1);
        }
        assert_int_equal(got, want);
    }
    fake_disconnect(&client);
    assert_int_equal(fake_messages - before, a.messages);
}

static void
run_all(struct server *server, unsigned verb_count, unsigned length)
{
    enum verb verbs[8];
    unsigned long total = 1;

    for (unsigned i = 0; i < length; i++)
        total *= verb_count;
    for (unsigned long n = 0; n < total; n++) {
        unsigned long rest = n;
        for (unsigned i = 0; i < length; i++, rest /= verb_count)
            verbs[i] = (enum verb)(rest % verb_count);
        run_sequence(server, verbs, length);
    }
}

static void
check_message(const struct fake_message *message)
{
    assert_string_equal(message->envelope->sender, "s@c.test");
    for (size_t i = 0; i < message->envelope->recipient_count; i++)
        assert_string_equal(message->envelope->recipients[i].address, "r@ours.test");
    assert_true(message->envelope->recipient_count > 0);
    assert_true(message->content.len > 10 && memcmp(message->content.ptr, "Received: ", 10) == 0);
}

static void
sequences(void *arg)
{
    struct server *server = fake_server_new(arena, "");

    (void)arg;
    fake_on_message = check_message;
    /* SMTPD_SEQUENCES=5: every sequence of five of all verbs, which takes a minute. */
    const char *longer = getenv("SMTPD_SEQUENCES");
    run_all(server, VERBS, longer ? (unsigned)strtoul(longer, NULL, 10) : 3);
    run_all(server, QUIT, 4); /* the verbs before QUIT: the mandatory ones, and VRFY */
    fake_server_free(&server);
}

static void
test_every_sequence(void **state)
{
    (void)state;
    task_run_main(sequences, NULL);
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
    loop_release();
    arena_free(&arena);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_sequence),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
