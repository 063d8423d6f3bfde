/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/packet.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/text.h"

enum {
    HEADER_SIZE = 12,
    CLASS_IN = 1,
    JUMP_LIMIT = 64,  /* compression pointers in one name */
    DATA_LIMIT = 4096 /* dns_record.data */
};

enum {
    TYPE_A = 1,
    TYPE_NS = 2,
    TYPE_CNAME = 5,
    TYPE_PTR = 12,
    TYPE_MX = 15,
    TYPE_TXT = 16,
    TYPE_AAAA = 28,
    TYPE_SRV = 33,
    TYPE_TLSA = 52
};

static const struct {
    const char *name;
    unsigned number;
} types[] = {{"A", TYPE_A},     {"NS", TYPE_NS},     {"CNAME", TYPE_CNAME}, {"PTR", TYPE_PTR},  {"MX", TYPE_MX},
             {"TXT", TYPE_TXT}, {"AAAA", TYPE_AAAA}, {"SRV", TYPE_SRV},     {"TLSA", TYPE_TLSA}};

unsigned
packet_type(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (strcmp(types[i].name, name) == 0)
            return types[i].number;
    return 0;
}

static const char *
type_name(unsigned number)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (types[i].number == number)
            return types[i].name;
    return "";
}

/* ---- names ---- */

static bool
is_name_byte(char c)
{
    return text_is_alnum(c) || c == '-' || c == '_' || c == '/';
}

bool
packet_is_name(const char *text)
{
    size_t len = strlen(text), label = 0;

    if (len > 0 && text[len - 1] == '.')
        len--;
    if (len == 0 || len > 253)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '.') {
            if (label == 0)
                return false;
            label = 0;
        } else if (!is_name_byte(text[i]) || ++label > 63) {
            return false;
        }
    }
    return label > 0;
}

/* Where we are in the message. Reading beyond its end gives zeros and sets bad. */
struct cursor {
    struct slice packet;
    size_t at;
    bool bad;
};

static unsigned
byte_at(struct cursor *c)
{
    if (c->at >= c->packet.len) {
        c->bad = true;
        return 0;
    }
    return (unsigned char)c->packet.ptr[c->at++];
}

static unsigned
u16(struct cursor *c)
{
    unsigned high = byte_at(c);
    return high << 8 | byte_at(c);
}

static uint32_t
u32(struct cursor *c)
{
    uint32_t high = u16(c);
    return high << 16 | u16(c);
}

static void
skip(struct cursor *c, size_t n)
{
    if (n > c->packet.len - c->at) {
        c->bad = true;
        n = c->packet.len - c->at;
    }
    c->at += n;
}

/* Appends a label; false if it holds what no host name does, or there is no room. */
static bool
add_label(const struct cursor *c, unsigned len, char *text, size_t *used)
{
    if (*used + len + 2 > PACKET_NAME)
        return false;
    if (*used > 0)
        text[(*used)++] = '.';
    for (unsigned i = 0; i < len; i++) {
        char byte = c->packet.ptr[c->at + i];
        if (!is_name_byte(byte))
            return false;
        text[(*used)++] = byte;
    }
    text[*used] = '\0';
    return true;
}

/* Reads a name into text (PACKET_NAME bytes), "." for the root, and moves behind it. False: it is none that we can use; a message that
 * can't be read on is marked. */
static bool
read_name(struct cursor *c, char *text)
{
    struct cursor at = *c;
    size_t used = 0;
    unsigned jumps = 0;
    bool usable = true;

    text[0] = '\0';
    for (;;) {
        unsigned len = byte_at(&at);
        if (at.bad || (len & 0xc0) == 0x40 || (len & 0xc0) == 0x80)
            break;
        if ((len & 0xc0) == 0xc0) {
            size_t target = (len & 0x3f) << 8 | byte_at(&at);
            if (jumps == 0)
                c->at = at.at;
            if (at.bad || ++jumps > JUMP_LIMIT)
                break;
            at.at = target;
            continue;
        }
        if (len > 0 && len <= at.packet.len - at.at)
            usable = usable && add_label(&at, len, text, &used);
        skip(&at, len);
        if (len > 0)
            continue;
        if (jumps == 0)
            c->at = at.at;
        if (used == 0 && usable)
            snprintf(text, PACKET_NAME, ".");
        return usable;
    }
    c->bad = true;
    return false;
}

/* ---- records ---- */

/* Strings of a TXT record, joined. */
static bool
read_texts(struct cursor *c, size_t end, char *text)
{
    size_t used = 0;

    while (c->at < end && !c->bad) {
        unsigned len = byte_at(c);
        if (len > end - c->at || used + len >= DATA_LIMIT)
            return false;
        memcpy(text + used, c->packet.ptr + c->at, len);
        used += len;
        c->at += len;
    }
    text_printable(text, used, '?', false);
    text[used] = '\0';
    return true;
}

/* "3 1 1 hex" */
static bool
read_tlsa(struct cursor *c, size_t end, char *text)
{
    if (end - c->at < 4 || end - c->at > (DATA_LIMIT - 16) / 2)
        return false;
    unsigned usage = byte_at(c), selector = byte_at(c), matching = byte_at(c);
    int used = snprintf(text, DATA_LIMIT, "%u %u %u ", usage, selector, matching);
    while (c->at < end)
        used += snprintf(text + used, DATA_LIMIT - (size_t)used, "%02x", byte_at(c));
    return true;
}

static bool
read_address(struct cursor *c, size_t end, int family, size_t size, char *text)
{
    return end - c->at == size && inet_ntop(family, c->packet.ptr + c->at, text, DATA_LIMIT);
}

/* The data of a record, up to end, into *record and text (DATA_LIMIT bytes). False: it can't be used. */
static bool
read_data(struct cursor *c, size_t end, unsigned type, struct dns_record *record, char *text)
{
    switch (type) {
    case TYPE_A: return read_address(c, end, AF_INET, 4, text);
    case TYPE_AAAA: return read_address(c, end, AF_INET6, 16, text);
    case TYPE_TXT: return read_texts(c, end, text);
    case TYPE_TLSA: return read_tlsa(c, end, text);
    case TYPE_SRV:
        record->preference = u16(c);
        record->weight = u16(c);
        record->port = u16(c);
        break;
    case TYPE_MX: record->preference = u16(c); break;
    default: break;
    }
    return read_name(c, text) && c->at == end;
}

/* One record of the answer section; kept if it is of the type. */
static void
read_record(struct arena *arena, struct cursor *c, unsigned type, struct msg_dns_answer *answer, char *text)
{
    char owner[PACKET_NAME];
    bool usable = read_name(c, owner);
    unsigned its_type = u16(c), class = u16(c);
    uint32_t ttl = u32(c);
    size_t len = u16(c);
    size_t end = c->at + len;
    struct dns_record record = {.type = type_name(type)};

    if (c->bad || len > c->packet.len - c->at) {
        c->bad = true;
        return;
    }
    if (ttl > INT32_MAX) /* RFC 2181 section 8 */
        ttl = 0;
    if (answer->ttl == 0 || (int64_t)ttl < answer->ttl)
        answer->ttl = ttl;
    struct cursor data = {.packet = slice_make(c->packet.ptr, end), .at = c->at};
    c->at = end;
    if (!usable || class != CLASS_IN || its_type != type || answer->record_count >= PACKET_RECORDS ||
        !read_data(&data, end, type, &record, text) || data.bad)
        return;
    record.name = arena_strdup(arena, owner);
    record.data = arena_strdup(arena, text);
    answer->records[answer->record_count++] = record;
}

int
packet_read(struct arena *arena, struct slice packet, unsigned type, struct msg_dns_answer *answer, struct err *err)
{
    struct cursor c = {.packet = packet};
    char name[PACKET_NAME];
    size_t before = answer->record_count;

    if (packet.len < HEADER_SIZE)
        return err_set(err, ERR_SYNTAX, "DNS message of %zu bytes", packet.len);
    c.at = 2;
    unsigned rcode = u16(&c) & 15, questions = u16(&c), answers = u16(&c);
    c.at = HEADER_SIZE;
    if (!answer->records)
        answer->records = arena_array(arena, PACKET_RECORDS, sizeof(*answer->records));
    for (; questions > 0 && !c.bad; questions--) {
        read_name(&c, name);
        skip(&c, 4);
    }
    char *text = arena_alloc(arena, DATA_LIMIT);
    for (; answers > 0 && !c.bad; answers--)
        read_record(arena, &c, type, answer, text);
    if (c.bad) {
        answer->record_count = before;
        return err_set(err, ERR_SYNTAX, "malformed DNS message");
    }
    if (answer->record_count > before)
        answer->status = DNS_FOUND;
    else
        answer->status = rcode == 0 ? DNS_NODATA : rcode == 3 ? DNS_NXDOMAIN : DNS_FAIL;
    return 0;
}
