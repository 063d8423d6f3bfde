/* SPDX-License-Identifier: Apache-2.0 */
/* A DNS message, after a byte that says which type is wanted. Whatever is read from it fits the message that carries it to
 * the other daemons: encoded and decoded it is the same. */
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/mail/messages.h"
#include "resolver/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_record(const struct dns_record *record, const char *type)
{
    unsigned char bytes[16];

    check(strcmp(record->type, type) == 0);
    if (strcmp(type, "A") == 0)
        check(inet_pton(AF_INET, record->data, bytes) == 1);
    else if (strcmp(type, "AAAA") == 0)
        check(inet_pton(AF_INET6, record->data, bytes) == 1);
    else if (strcmp(type, "MX") == 0 || strcmp(type, "PTR") == 0)
        check(packet_is_name(record->data) || strcmp(record->data, ".") == 0);
    for (const char *p = record->data; *p; p++)
        check((unsigned char)*p >= 32 && *p != 127);
}

static void
check_round_trip(struct arena *arena, const struct msg_dns_answer *answer)
{
    struct buf encoded = {0};
    struct slice rest;
    struct err err;

    msg_encode(&type_dns_answer, answer, &encoded);
    const struct msg_dns_answer *again = msg_decode(arena, &type_dns_answer, buf_slice(&encoded), &rest, &err);
    check(again && again->record_count == answer->record_count && again->status == answer->status);
    for (size_t i = 0; i < answer->record_count; i++)
        check(strcmp(again->records[i].data, answer->records[i].data) == 0 &&
              strcmp(again->records[i].name, answer->records[i].name) == 0);
    buf_release(&encoded);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = {"A", "AAAA", "MX", "PTR", "TXT", "TLSA", "SRV", "CNAME", "NS"};
    struct msg_dns_answer answer = {.reason = ""};
    struct err err;

    if (size < 1)
        return 0;
    struct arena *arena = arena_new();
    const char *type = types[data[0] % ARRAY_LEN(types)];
    if (packet_read(arena, slice_make(data + 1, size - 1), packet_type(type), &answer, &err) == 0) {
        check(answer.record_count <= PACKET_RECORDS && answer.ttl >= 0);
        check((answer.record_count > 0) == (answer.status == DNS_FOUND));
        for (size_t i = 0; i < answer.record_count; i++)
            check_record(&answer.records[i], type);
        check_round_trip(arena, &answer);
    } else {
        check(answer.record_count == 0);
    }
    arena_free(&arena);
    return 0;
}
