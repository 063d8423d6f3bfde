/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/table_text.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wctype.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/text.h"

/* ---- files ---- */

enum { READ_SIZE = 65536 };

static unsigned
line_of(struct slice text, const char *at)
{
    unsigned line = 1;

    for (const char *p = text.ptr; p < at; p++)
        line += *p == '\n';
    return line;
}

static int
read_all(int fd, const char *path, off_t size, struct buf *text, struct err *err)
{
    ssize_t got;

    if (size > 0 && size <= TABLE_TEXT_LIMIT)
        (void)buf_reserve(text, (size_t)size + READ_SIZE);
    while ((got = read(fd, buf_reserve(text, READ_SIZE), READ_SIZE)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, "read %s", path);
        buf_added(text, (size_t)got);
        if (text->len > TABLE_TEXT_LIMIT)
            return err_set(err, ERR_PERM, "%s: file too large", path);
    }
    const char *nul = text->len ? memchr(text->ptr, '\0', text->len) : NULL;
    if (nul)
        return err_set(err, ERR_SYNTAX, "%s, line %u: has a NUL byte in it", path, line_of(buf_slice(text), nul));
    return 0;
}

int
table_text_read(const char *path, struct buf *text, int *fd, struct err *err)
{
    struct stat st;

    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return err_errno(err, "open %s", path);
    int result = fstat(*fd, &st) < 0 ? err_errno(err, "fstat %s", path)
                 : S_ISDIR(st.st_mode) ? err_set(err, ERR_PERM, "%s: is a directory, not a file", path)
                                       : read_all(*fd, path, st.st_size, text, err);
    if (result < 0) {
        close(*fd);
        *fd = -1;
    }
    return result;
}

/* ---- lines ---- */

void
table_lines_begin(struct table_lines *lines, const char *name, struct slice text)
{
    *lines = (struct table_lines){.arena = arena_new(), .name = name, .rest = text};
}

bool
table_lines_next(struct table_lines *lines, struct slice *line)
{
    struct cf_line logical;

    for (;;) {
        arena_reset(lines->arena);
        if (!cf_line_next(lines->arena, &lines->rest, &lines->read, &logical))
            return false;
        lines->number = logical.number;
        *line = slice_trim(logical.text);
        if (logical.orphan)
            table_lines_warn(lines, "logical line must not start with whitespace: \"%.30s\"",
                             arena_strndup(lines->arena, line->ptr, line->len));
        else if (line->len > TABLE_LINE_LIMIT)
            table_lines_warn(lines, "line is longer than %d bytes -- ignoring this line", TABLE_LINE_LIMIT);
        else
            return true;
    }
}

void
table_lines_end(struct table_lines *lines)
{
    arena_free(&lines->arena);
}

void
table_lines_warn(const struct table_lines *lines, const char *fmt, ...)
{
    struct buf text = {0};
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    log_warning("%s, line %u: %s", lines->name, lines->number, buf_text(&text));
    buf_release(&text);
}

int
table_split_pair(struct slice line, struct slice *key, struct slice *value, const char **why)
{
    bool quoted = false;
    size_t i;

    for (i = 0; i < line.len; i++) {
        if (line.ptr[i] == '"')
            quoted = !quoted;
        else if (line.ptr[i] == '\\' && i + 1 < line.len)
            i++;
        else if (!quoted && text_is_space(line.ptr[i]))
            break;
    }
    *key = slice_make(line.ptr, i);
    *value = slice_trim(slice_make(line.ptr + i, line.len - i));
    *why = quoted ? "unbalanced '\"'" : key->len == 0 || value->len == 0 ? "expected format: key whitespace value" : NULL;
    return *why ? -1 : 0;
}

/* ---- lists ---- */

/* The length of what begins with '{', up to its '}'; 0: there is none. */
static size_t
braced_length(struct slice text)
{
    unsigned depth = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\\' && i + 1 < text.len)
            i++;
        else if (text.ptr[i] == '{')
            depth++;
        else if (text.ptr[i] == '}' && --depth == 0)
            return i + 1;
    }
    return 0;
}

bool
table_list_next(struct slice *rest, const char *separators, struct slice *piece)
{
    size_t skip = 0, len = 0;

    while (skip < rest->len && strchr(separators, rest->ptr[skip]))
        skip++;
    *rest = slice_make(rest->ptr + skip, rest->len - skip);
    if (rest->len == 0)
        return false;
    while (len < rest->len && !strchr(separators, rest->ptr[len])) {
        size_t braced = rest->ptr[len] == '{' ? braced_length(slice_make(rest->ptr + len, rest->len - len)) : 1;
        if (braced == 0) {
            *piece = slice_make(NULL, 0);
            *rest = slice_make(rest->ptr + rest->len, 0);
            return true;
        }
        len += braced;
    }
    *piece = slice_make(rest->ptr, len);
    *rest = slice_make(rest->ptr + len, rest->len - len);
    return true;
}

bool
table_unbrace(struct slice *text)
{
    if (text->len < 2 || text->ptr[0] != '{' || braced_length(*text) != text->len)
        return false;
    *text = slice_trim(slice_make(text->ptr + 1, text->len - 2));
    return true;
}

int
table_text_open(const char *name, struct buf *text, int *fd, struct err *err)
{
    struct slice rest = slice_from(name), piece;

    *fd = -1;
    if (name[0] != '{')
        return table_text_read(name, text, fd, err);
    if (!table_unbrace(&rest))
        return err_set(err, ERR_SYNTAX, "missing '}' in \"%s\"", name);
    while (table_list_next(&rest, ", \t\r\n", &piece)) {
        if (!piece.ptr || !table_unbrace(&piece))
            return err_set(err, ERR_SYNTAX, "missing '{' or '}' around a rule in \"%s\"", name);
        buf_append_slice(text, piece);
        buf_append_byte(text, '\n');
    }
    return 0;
}

/* ---- folding ---- */

static locale_t
utf8_locale(void)
{
    static locale_t locale;

    if (!locale)
        locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
    return locale;
}

/* The bytes of the character that begins at *at, which is valid UTF-8. */
static wchar_t
next_character(const char **at)
{
    unsigned char first = (unsigned char)*(*at)++;
    unsigned more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    unsigned long c = more == 0 ? first : first & (0x3fU >> more);

    while (more-- > 0)
        c = (c << 6) | ((unsigned char)*(*at)++ & 0x3f);
    return (wchar_t)c;
}

static void
append_character(struct buf *out, wchar_t wide)
{
    unsigned long c = (unsigned long)wide;

    if (c < 0x80) {
        buf_append_byte(out, (char)c);
        return;
    }
    unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    buf_append_byte(out, (char)(((0xff00U >> (more + 1)) & 0xff) | (c >> (6 * more))));
    while (more-- > 0)
        buf_append_byte(out, (char)(0x80 | ((c >> (6 * more)) & 0x3f)));
}

static struct slice
fold_utf8(struct arena *arena, struct slice key)
{
    struct buf out = {0};
    locale_t locale = utf8_locale();

    for (const char *at = key.ptr; at < key.ptr + key.len;) {
        wchar_t c = next_character(&at);
        append_character(&out, locale ? (wchar_t)towlower_l((wint_t)c, locale) : c < 0x80 ? text_lower((char)c) : c);
    }
    struct slice folded = arena_slice(arena, buf_slice(&out));
    buf_release(&out);
    return folded;
}

bool
table_is_ascii(struct slice text)
{
    uint64_t word, all = 0;
    size_t i = 0;

    for (; i + sizeof word <= text.len; i += sizeof word) {
        memcpy(&word, text.ptr + i, sizeof word);
        all |= word;
    }
    for (; i < text.len; i++)
        all |= (unsigned char)text.ptr[i];
    return !(all & UINT64_C(0x8080808080808080));
}

/* Has one of eight bytes a capital letter of ASCII? In each byte, without its highest bit: a sum reaches that bit from 'A' on,
 * and another from behind 'Z' on. */
static bool
has_upper(const char *eight)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = UINT64_C(0x80) * ones;
    uint64_t word;

    memcpy(&word, eight, sizeof word);
    uint64_t low = word & ~high, from_a = low + (0x80 - 'A') * ones, behind_z = low + (0x7f - 'Z') * ones;
    return ((from_a ^ behind_z) & ~word & high) != 0;
}

struct slice
table_fold(struct arena *arena, struct slice key, bool utf8)
{
    size_t i = 0;

    if (utf8 && !table_is_ascii(key) && text_is_utf8(key))
        return fold_utf8(arena, key);
    while (i + sizeof(uint64_t) <= key.len && !has_upper(key.ptr + i))
        i += sizeof(uint64_t);
    while (i < key.len && (unsigned char)(key.ptr[i] - 'A') >= 26)
        i++;
    if (i == key.len)
        return key;
    char *copy = arena_strndup(arena, key.ptr, key.len);
    text_lower_all(copy + i, key.len - i);
    return slice_make(copy, key.len);
}

/* ---- tables in memory ---- */

struct table_memory {
    struct map *map; /* key: its value in the arena */
    struct arena *arena;
    size_t position;
};

struct table_memory *
table_memory_new(void)
{
    struct arena *arena = arena_new();
    struct table_memory *memory = ARENA_NEW(arena, struct table_memory);

    memory->arena = arena;
    memory->map = map_new();
    return memory;
}

void
table_memory_free(struct table_memory *memory)
{
    struct arena *arena = memory->arena;

    map_free(&memory->map, NULL);
    arena_free(&arena);
}

bool
table_memory_has(const struct table_memory *memory, struct slice key)
{
    return map_get(memory->map, key) != NULL;
}

void
table_memory_put(struct table_memory *memory, struct slice key, struct slice value)
{
    (void)map_put(memory->map, key, arena_strndup(memory->arena, value.ptr, value.len));
}

const char *
table_memory_find(const struct table_memory *memory, struct slice key)
{
    return map_get(memory->map, key);
}

int
table_memory_next(struct table_memory *memory, bool first, struct slice *key, const char **value)
{
    void *text;

    if (first)
        memory->position = 0;
    if (!map_next(memory->map, &memory->position, key, &text)) {
        *key = slice_make(NULL, 0);
        return 0;
    }
    *value = text;
    return 0;
}
