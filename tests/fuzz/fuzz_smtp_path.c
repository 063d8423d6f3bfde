/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines: MAIL, RCPT, BDAT and their parameters, strict and not. What is accepted holds no byte that could end a line or a
 * record, fits the messages that carry it, and an accepted address comes out the same when it is quoted and parsed again. */
#include <stdint.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/check.h"
#include "lib/mail/addr.h"
#include "lib/smtp/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_text(const char *text, size_t limit)
{
    check(strlen(text) <= limit);
    for (const char *p = text; *p; p++)
        check((unsigned char)*p >= 32 && *p != 127);
}

static void
check_round_trip(struct arena *arena, const char *raw)
{
    const char *again;
    struct slice rest;
    struct err err;

    if (!raw[0])
        return;
    const char *path = arena_printf(arena, "<%s>", addr_quote(arena, raw));
    if (addr_parse_path(arena, slice_from(path), false, false, &again, &rest, &err) == 0)
        check(strcmp(raw, again) == 0);
}

static void
check_reply(struct smtp_reply reply)
{
    struct buf out = {0};

    check(reply.code == 501 || reply.code == 553 || reply.code == 555);
    smtp_reply_encode(reply, &out);
    check(out.len > 6 && memcmp(out.ptr + out.len - 2, "\r\n", 2) == 0);
    for (size_t i = 0; i + 2 < out.len; i++)
        check(out.ptr[i] >= 32 && out.ptr[i] < 127);
    buf_release(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (memchr(data, '\n', size)) /* a line has none */
        return 0;
    struct arena *arena = arena_new();
    struct smtp_command command = smtp_command_split(slice_make(data, size));
    struct smtp_reply refusal;
    struct smtp_mail mail;
    struct smtp_rcpt rcpt;
    uint64_t count;
    bool last;

    for (unsigned allow = 0; allow <= (SMTP_STRICT | SMTP_DSN); allow++) {
        if (smtp_parse_mail(arena, command.args, allow, &mail, &refusal) == 0) {
            check_text(mail.sender, 2048);
            check_text(mail.envid, 1024);
            check(mail.size >= 0);
            check_round_trip(arena, mail.sender);
        } else {
            check_reply(refusal);
        }
        if (smtp_parse_rcpt(arena, command.args, allow, &rcpt, &refusal) == 0) {
            check(rcpt.address[0]);
            check_text(rcpt.address, 2048);
            check_text(rcpt.orcpt, 2048);
            check_round_trip(arena, rcpt.address);
        } else {
            check_reply(refusal);
        }
    }
    if (smtp_parse_bdat(command.args, &count, &last) == 0)
        check(count <= INT64_MAX);
    arena_free(&arena);
    return 0;
}
