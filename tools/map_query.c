/* SPDX-License-Identifier: Apache-2.0 */
/* Asking tables, listing them, and what postmap and postalias have in common besides. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/conf/settings_tools.h"
#include "lib/mail/mime.h"
#include "lib/run/crypto.h"
#include "lib/table/table.h"
#include "tools/map_command.h"

void
map_command_init(struct map_command *command, const struct map_kind *kind, const struct conf *conf)
{
    struct arena *arena = arena_new();
    struct tools_settings settings;
    struct err err;

    command->kind = kind;
    command->conf = conf;
    if (tools_settings_load(&settings, conf, arena, &err) < 0)
        fatal("%s", err.text);
    command->default_type = settings.default_database_type;
    command->utf8 = settings.smtputf8_enable && !command->no_utf8; /* the arena lives as long as the program */
}

void
map_name_split(const struct map_command *command, struct arena *arena, const char *text, const char **type,
               const char **name)
{
    const char *colon = strchr(text, ':');

    *type = colon ? arena_strndup(arena, text, (size_t)(colon - text)) : command->default_type;
    *name = colon ? colon + 1 : text;
    if (**name == '\0' || **type == '\0')
        fatal("open dictionary: expecting \"type:name\" form instead of \"%s\"", text);
}

static unsigned
table_flags(const struct map_command *command)
{
    return (command->no_fold ? 0U : TABLE_FOLD_FIXED) | (command->no_utf8 ? TABLE_NO_UTF8 : 0U) |
           (command->values_are_files ? TABLE_SOURCE_RAW : 0U);
}

/* ---- printing ---- */

static void
print_json_text(struct slice text)
{
    putchar('"');
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 32 || c == 127)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void
print_entry(const struct map_command *command, struct slice key, struct slice value)
{
    if (!command->json) { /* there is one thread: no locks */
        fwrite_unlocked(key.ptr, 1, key.len, stdout);
        fputs_unlocked(command->kind->separator, stdout);
        fwrite_unlocked(value.ptr, 1, value.len, stdout);
    } else {
        fputs("{\"key\": ", stdout);
        print_json_text(key);
        fputs(", \"value\": ", stdout);
        print_json_text(value);
        putchar('}');
    }
    putchar_unlocked('\n');
}

/* With -F values are base64. */
static struct slice
decode_value(const struct map_command *command, struct arena *arena, const char *table, struct slice key,
             const char *value)
{
    struct buf out = {0};

    if (!command->values_are_files)
        return slice_from(value);
    if (crypto_base64_decode(slice_from(value), &out) < 0)
        fatal("table %s: key %.*s: malformed base64 value: %.30s%s", table, SLICE_ARG(key), value,
              strlen(value) > 30 ? "..." : "");
    struct slice decoded = arena_slice(arena, buf_slice(&out));
    buf_release(&out);
    return decoded;
}

/* ---- asking ---- */

struct query {
    const struct map_command *command;
    struct table **tables;
    size_t count;
    struct arena *arena; /* of the tables' list */
    struct arena *scratch;
    struct arena *ahead; /* of keys that will be asked for */
};

enum { LINES_AHEAD = 32 };

/* Files that are named without a type have the default type, and no directory but ours. */
static void
open_tables(struct query *q, const struct map_command *command, char **names)
{
    struct err err;

    *q = (struct query){.command = command, .arena = arena_new(), .scratch = arena_new(), .ahead = arena_new()};
    for (q->count = 0; names[q->count]; q->count++)
        ;
    q->tables = arena_array(q->arena, q->count, sizeof *q->tables);
    for (size_t i = 0; i < q->count; i++) {
        const char *type, *name;
        map_name_split(command, q->arena, names[i], &type, &name);
        q->tables[i] = table_open(command->conf, arena_printf(q->arena, "%s:%s", type, name), table_flags(command),
                                  &err);
        if (!q->tables[i])
            fatal("%s", err.text);
    }
}

static void
close_query(struct query *q)
{
    arena_free(&q->ahead);
    arena_free(&q->scratch);
    arena_free(&q->arena);
}

/* The first table that knows the key. *value is in q->scratch. */
static bool may_wait
ask(struct query *q, struct slice key, struct slice *value)
{
    struct err err;
    const char *text;

    arena_reset(q->scratch);
    for (size_t i = 0; i < q->count; i++) {
        const char *name = table_name(q->tables[i]);
        if (table_find(q->tables[i], q->scratch, key, &text, &err) < 0) {
            fflush(stdout);
            fatal("table %s: query error: %s", name, err.text);
        }
        if (!text)
            continue;
        if (*text == '\0') {
            log_warning("table %s: key %.*s: empty string result is not allowed", name, SLICE_ARG(key));
            log_warning("table %s should return NO RESULT in case of NOT FOUND", name);
        }
        *value = decode_value(q->command, q->scratch, name, key, text);
        return true;
    }
    return false;
}

bool
map_query(const struct map_command *command, char **names, const char *key)
{
    struct query q;
    struct slice value;

    open_tables(&q, command, names);
    bool found = ask(&q, slice_from(key), &value);
    if (found && command->json) {
        print_entry(command, slice_from(key), value);
    } else if (found) {
        fwrite(value.ptr, 1, value.len, stdout);
        if (!command->values_are_files)
            putchar('\n');
    }
    close_query(&q);
    return found;
}

static bool may_wait
ask_and_print(struct query *q, struct slice key)
{
    struct slice value;

    if (!ask(q, key, &value))
        return false;
    print_entry(q->command, key, value);
    return true;
}

/* Complete lines of the input, a few at a time, so that tables can look ahead. */
static bool may_wait
ask_group(struct query *q, struct slice *lines, size_t count)
{
    bool found = false;

    arena_reset(q->ahead);
    for (size_t i = 0; i < q->count; i++)
        table_warm(q->tables[i], q->ahead, lines, count);
    for (size_t i = 0; i < count; i++)
        found |= ask_and_print(q, lines[i]);
    return found;
}

static bool may_wait
ask_complete_lines(struct query *q, struct buf *input)
{
    struct slice rest = buf_slice(input), lines[LINES_AHEAD];
    bool found = false;
    size_t count = 0;
    const char *end;

    while ((end = rest.len ? memchr(rest.ptr, '\n', rest.len) : NULL)) {
        size_t len = (size_t)(end - rest.ptr);
        lines[count++] = slice_make(rest.ptr, len);
        rest = slice_make(end + 1, rest.len - len - 1);
        if (count == LINES_AHEAD) {
            found |= ask_group(q, lines, count);
            count = 0;
        }
    }
    found |= ask_group(q, lines, count);
    buf_consume(input, input->len - rest.len);
    return found;
}

/* Lines as they come; what was found goes out whenever there is nothing more to read, for a program that asks one at a time. */
static bool may_wait
ask_lines(struct query *q)
{
    struct buf input = {0};
    bool found = false, ended = false;

    while (!ended || input.len > 0) {
        found |= ask_complete_lines(q, &input);
        if (ended && input.len > 0) {
            found |= ask_and_print(q, buf_slice(&input));
            buf_clear(&input);
        }
        if (ended)
            break;
        fflush(stdout);
        ssize_t got = read(STDIN_FILENO, buf_reserve(&input, 65536), 65536);
        ended = got <= 0;
        if (got > 0)
            buf_added(&input, (size_t)got);
    }
    buf_release(&input);
    return found;
}

bool
map_query_stdin(const struct map_command *command, char **names)
{
    struct query q;

    open_tables(&q, command, names);
    bool found = ask_lines(&q);
    close_query(&q);
    return found;
}

/* ---- listing ---- */

void
map_list(const struct map_command *command, const char *name)
{
    char *names[] = {(char *)(uintptr_t)name, NULL};
    struct query q;
    struct slice key;
    const char *text;
    struct err err;

    open_tables(&q, command, names);
    for (bool first = true;; first = false) {
        arena_reset(q.scratch);
        if (table_next(q.tables[0], q.scratch, first, &key, &text, &err) < 0) {
            fflush(stdout);
            if (err.kind == ERR_PERM)
                fatal("%s", err.text);
            fatal("table %s: sequence error: %s", table_name(q.tables[0]), err.text);
        }
        if (!key.ptr)
            break;
        if (key.len == 0)
            log_warning("table %s: empty lookup key value is not allowed", table_name(q.tables[0]));
        if (*text == '\0')
            log_warning("table %s: key %.*s: empty string result is not allowed", table_name(q.tables[0]),
                        SLICE_ARG(key));
        print_entry(command, key, decode_value(command, q.scratch, table_name(q.tables[0]), key, text));
    }
    close_query(&q);
}

/* ---- messages ---- */

struct message_query {
    struct query q;
    bool header, body, mime, found;
};

static struct slice
without_line_end(struct slice text)
{
    if (text.len > 0 && text.ptr[text.len - 1] == '\n')
        text.len--;
    return text;
}

/* Each field with its continuation lines is a key, with newlines in it. */
static void may_wait
ask_fields(struct message_query *m, struct slice header)
{
    while (header.len > 0 && header.ptr[0] != '\n') {
        size_t len = 0;
        do {
            const char *end = memchr(header.ptr + len, '\n', header.len - len);
            len = end ? (size_t)(end - header.ptr) + 1 : header.len;
        } while (len < header.len && (header.ptr[len] == ' ' || header.ptr[len] == '\t'));
        m->found |= ask_and_print(&m->q, without_line_end(slice_make(header.ptr, len)));
        header = slice_make(header.ptr + len, header.len - len);
    }
}

static void may_wait
ask_body(struct message_query *m, struct slice body)
{
    struct slice line;

    while (slice_cut(&body, '\n', &line))
        m->found |= ask_and_print(&m->q, line);
}

/* A part's own header, then what is in it. */
static void may_wait
ask_part(struct message_query *m, const struct mime_part *part)
{
    if (m->header)
        ask_fields(m, part->header);
    if (part->message)
        ask_part(m, part->message);
    else if (!part->is_multipart && m->body)
        ask_body(m, part->body);
    for (unsigned i = 0; i < part->part_count; i++)
        ask_part(m, part->parts[i]);
}

/* The header ends at the first line that is no field. */
static size_t
header_length(struct slice message)
{
    size_t at = 0;

    while (at < message.len) {
        const char *end = memchr(message.ptr + at, '\n', message.len - at);
        size_t next = end ? (size_t)(end - message.ptr) + 1 : message.len, i = at;
        bool continues = at > 0 && (message.ptr[at] == ' ' || message.ptr[at] == '\t');
        while (i < next && message.ptr[i] > ' ' && message.ptr[i] != ':' && message.ptr[i] < 127)
            i++;
        size_t name_end = i;
        while (i < next && (message.ptr[i] == ' ' || message.ptr[i] == '\t'))
            i++;
        if (!continues && (name_end == at || i >= next || message.ptr[i] != ':'))
            break;
        at = next;
    }
    return at;
}

static struct slice
read_message(struct arena *arena)
{
    struct buf text = {0};
    ssize_t got;

    while ((got = read(STDIN_FILENO, buf_reserve(&text, 65536), 65536)) > 0)
        buf_added(&text, (size_t)got);
    struct slice message = arena_slice(arena, buf_slice(&text));
    buf_release(&text);
    return message;
}

bool
map_query_message(const struct map_command *command, char **names, bool header, bool body, bool mime)
{
    struct message_query m = {.header = header, .body = body, .mime = mime};
    struct arena *arena = arena_new();

    open_tables(&m.q, command, names);
    struct slice message = read_message(arena);
    if (mime) {
        ask_part(&m, mime_parse(arena, message));
    } else {
        size_t len = header_length(message);
        if (header)
            ask_fields(&m, slice_make(message.ptr, len));
        if (len < message.len && message.ptr[len] == '\n' && !body)
            len++;
        if (body)
            ask_body(&m, slice_make(message.ptr + len, message.len - len));
    }
    close_query(&m.q);
    arena_free(&arena);
    return m.found;
}
