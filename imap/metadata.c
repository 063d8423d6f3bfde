/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/metadata.h"

#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/store/file.h"

enum { FILE_LIMIT = 16 << 20 };

const char metadata_file[] = "postern-metadata", metadata_server_file[] = "postern-server-metadata";

static bool
is_plain(char c)
{
    return (unsigned char)c > ' ' && (unsigned char)c < 127 && c != '%';
}

static void
put_escaped(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (is_plain(text.ptr[i]))
            buf_append_byte(out, text.ptr[i]);
        else
            buf_printf(out, "%%%02X", (unsigned char)text.ptr[i]);
    }
}

static int
hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* False: malformed. */
static bool
unescape(struct arena *arena, struct slice text, struct slice *out)
{
    char *to = arena_alloc(arena, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '%') {
            to[len++] = text.ptr[i];
            continue;
        }
        if (text.len - i < 3 || hex_digit(text.ptr[i + 1]) < 0 || hex_digit(text.ptr[i + 2]) < 0)
            return false;
        to[len++] = (char)(hex_digit(text.ptr[i + 1]) * 16 + hex_digit(text.ptr[i + 2]));
        i += 2;
    }
    *out = slice_make(to, len);
    return true;
}

void
metadata_parse(struct arena *arena, struct slice text, struct metadata *m)
{
    struct slice line, name;
    *m = (struct metadata){.entries = arena_array(arena, METADATA_ENTRIES, sizeof(*m->entries))};
    while (m->count < METADATA_ENTRIES && slice_cut(&text, '\n', &line)) {
        struct metadata_entry entry;
        if (slice_cut(&line, ' ', &name) && unescape(arena, name, &entry.name) && entry.name.len > 0 &&
            unescape(arena, line, &entry.value) && !metadata_find(m, entry.name))
            m->entries[m->count++] = entry;
    }
}

int
metadata_read(struct arena *arena, int folder_fd, const char *file, struct metadata *m, struct err *err)
{
    struct slice text;
    if (file_read_name(arena, folder_fd, file, FILE_LIMIT, &text, err) < 0)
        return -1;
    metadata_parse(arena, text, m);
    return 0;
}

int
metadata_write(int folder_fd, const char *file, const struct metadata *m, struct err *err)
{
    struct buf out = {0}, temporary = {0};
    char random[17];
    for (size_t i = 0; i < m->count; i++) {
        put_escaped(&out, m->entries[i].name);
        buf_append_byte(&out, ' ');
        put_escaped(&out, m->entries[i].value);
        buf_append_byte(&out, '\n');
    }
    file_random_hex(random, 16);
    buf_printf(&temporary, "%s.%s", file, random);
    int result = file_replace(folder_fd, file, buf_text(&temporary), buf_slice(&out), NULL, err);
    buf_release(&out);
    buf_release(&temporary);
    return result;
}

const struct metadata_entry *
metadata_find(const struct metadata *m, struct slice name)
{
    for (size_t i = 0; i < m->count; i++)
        if (slice_equal(m->entries[i].name, name))
            return &m->entries[i];
    return NULL;
}

int
metadata_set(struct metadata *m, struct slice name, struct slice value, bool is_nil)
{
    size_t at = 0;
    while (at < m->count && !slice_equal(m->entries[at].name, name))
        at++;
    if (is_nil) {
        if (at < m->count)
            m->entries[at] = m->entries[--m->count];
        return 0;
    }
    if (at == METADATA_ENTRIES)
        return -1;
    if (at == m->count)
        m->count++;
    m->entries[at] = (struct metadata_entry){name, value};
    return 0;
}

bool
metadata_name(struct arena *arena, struct slice given, struct slice *name)
{
    char *copy = arena_strndup(arena, given.ptr, given.len);
    if (given.len > METADATA_NAME || given.len == 0 || given.ptr[given.len - 1] == '/')
        return false;
    for (size_t i = 0; i < given.len; i++) {
        if ((unsigned char)copy[i] <= ' ' || (unsigned char)copy[i] >= 127 || copy[i] == '*' || copy[i] == '%' ||
            (copy[i] == '/' && copy[i + 1] == '/'))
            return false;
        copy[i] = (char)(copy[i] >= 'A' && copy[i] <= 'Z' ? copy[i] + 32 : copy[i]);
    }
    *name = slice_make(copy, given.len);
    return strncmp(copy, "/private/", 9) == 0 || strncmp(copy, "/shared/", 8) == 0;
}
