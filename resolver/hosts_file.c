/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/hosts_file.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/base/buf.h"
#include "lib/run/net.h"
#include "resolver/packet.h"

enum { FILE_LIMIT = 4 << 20, NAME_LIMIT = 20000 };

/* One for each name; those of one line follow each other. */
struct entry {
    const char *address, *name;
    bool is_ipv6;
};

struct hosts_file {
    struct entry *entries;
    size_t count;
};

static void
parse_line(struct arena *arena, struct hosts_file *hosts, struct slice line)
{
    struct slice word, rest = line;
    struct net_addr addr;
    char numeric[INET6_ADDRSTRLEN];

    if (!slice_word(&rest, " \t\r", &word) ||
        net_addr_parse(arena_strndup(arena, word.ptr, word.len), 0, &addr, NULL) < 0)
        return;
    net_addr_format(&addr, numeric, sizeof(numeric));
    const char *address = arena_strdup(arena, numeric);
    while (slice_word(&rest, " \t\r", &word) && hosts->count < NAME_LIMIT) {
        const char *name = arena_strndup(arena, word.ptr, word.len);
        if (!packet_is_name(name))
            continue;
        hosts->entries[hosts->count++] =
            (struct entry){.address = address, .name = name, .is_ipv6 = addr.any.sa_family == AF_INET6};
    }
}

static size_t
count_words(struct slice text)
{
    struct slice word;
    size_t n = 0;

    while (n < NAME_LIMIT && slice_word(&text, " \t\r\n", &word))
        n++;
    return n;
}

struct hosts_file *
hosts_file_parse(struct arena *arena, struct slice text)
{
    struct hosts_file *hosts = ARENA_NEW(arena, struct hosts_file);
    struct slice line;

    hosts->entries = arena_array(arena, count_words(text), sizeof(*hosts->entries));
    while (slice_cut(&text, '\n', &line)) {
        const char *comment = line.len ? memchr(line.ptr, '#', line.len) : NULL;
        if (comment)
            line.len = (size_t)(comment - line.ptr);
        parse_line(arena, hosts, line);
    }
    return hosts;
}

struct hosts_file *
hosts_file_load(struct arena *arena, const char *path)
{
    struct buf text = {0};
    FILE *file = fopen(path, "re");
    size_t n = 1;

    while (file && n > 0 && text.len < FILE_LIMIT) {
        n = fread(buf_reserve(&text, 4096), 1, 4096, file);
        buf_added(&text, n);
    }
    if (file)
        fclose(file);
    struct hosts_file *hosts = hosts_file_parse(arena, buf_slice(&text));
    buf_release(&text);
    return hosts;
}

static void
add(struct arena *arena, struct msg_dns_answer *answer, const char *name, const char *type, const char *data)
{
    if (!answer->records)
        answer->records = arena_array(arena, PACKET_RECORDS, sizeof(*answer->records));
    if (answer->record_count < PACKET_RECORDS)
        answer->records[answer->record_count++] = (struct dns_record){.name = name, .type = type, .data = data};
    answer->status = DNS_FOUND;
}

static bool
same_name(const char *a, const char *b)
{
    size_t len = strlen(b);

    if (len > 0 && b[len - 1] == '.')
        len--;
    return strlen(a) == len && strncasecmp(a, b, len) == 0;
}

bool
hosts_file_addresses(const struct hosts_file *hosts, struct arena *arena, const char *name,
                     struct msg_dns_answer *answer)
{
    size_t before = answer->record_count;

    for (size_t i = 0; i < hosts->count; i++)
        if (same_name(hosts->entries[i].name, name))
            add(arena, answer, hosts->entries[i].name, hosts->entries[i].is_ipv6 ? "AAAA" : "A",
                hosts->entries[i].address);
    return answer->record_count > before;
}
