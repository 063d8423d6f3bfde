/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of an aliases file: "name: value, value", as aliases(5) describes them. Names lose their quotes; values are written in
 * one form: single blanks between words, a blank behind each comma. */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/text.h"
#include "lib/conf/settings_tools.h"
#include "tools/map_command.h"

/* ---- tokens ---- */

enum token_kind { TOKEN_ATOM, TOKEN_QUOTED, TOKEN_LITERAL, TOKEN_COMMENT, TOKEN_SPECIAL };

static const char specials[] = "<>:;@,.|";

/* The length of what ends with close, at text.ptr[0]. Comments nest. */
static size_t
enclosed_length(struct slice text, char open, char close)
{
    unsigned depth = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\\' && i + 1 < text.len)
            i++;
        else if (i > 0 && text.ptr[i] == close && --depth == 0)
            return i + 1;
        else if (text.ptr[i] == open && (i == 0 || open == '('))
            depth++;
    }
    return text.len;
}

/* Takes blanks, then a token. False at the end. */
static bool
next_token(struct slice *rest, enum token_kind *kind, struct slice *token)
{
    size_t len = 0;

    while (rest->len > 0 && text_is_space(rest->ptr[0]))
        *rest = slice_make(rest->ptr + 1, rest->len - 1);
    if (rest->len == 0)
        return false;
    char c = rest->ptr[0];
    if (c == '"' || c == '(' || c == '[') {
        *kind = c == '"' ? TOKEN_QUOTED : c == '(' ? TOKEN_COMMENT : TOKEN_LITERAL;
        len = enclosed_length(*rest, c, c == '"' ? '"' : c == '(' ? ')' : ']');
    } else if (strchr(specials, c)) {
        *kind = TOKEN_SPECIAL;
        len = 1;
    } else {
        *kind = TOKEN_ATOM;
        while (len < rest->len && !text_is_space(rest->ptr[len]) && !strchr("\"([", rest->ptr[len]) &&
               !strchr(specials, rest->ptr[len]))
            len += rest->ptr[len] == '\\' && len + 1 < rest->len ? 2 : 1;
    }
    *token = slice_make(rest->ptr, len);
    *rest = slice_make(rest->ptr + len, rest->len - len);
    return true;
}

/* What an atom or a quoted string stands for. */
static void
append_unquoted(struct buf *out, struct slice token)
{
    size_t i = 0, end = token.len;

    if (token.ptr[0] == '"') {
        i = 1;
        if (end > 1 && token.ptr[end - 1] == '"')
            end--;
    }
    for (; i < end; i++) {
        if (token.ptr[i] == '\\' && i + 1 < end)
            i++;
        buf_append_byte(out, text_is_space(token.ptr[i]) ? ' ' : token.ptr[i]);
    }
}

static void
append_quoted(struct buf *out, struct slice token)
{
    struct buf plain = {0};

    append_unquoted(&plain, token);
    buf_append_byte(out, '"');
    for (size_t i = 0; i < plain.len; i++) {
        if (plain.ptr[i] == '"' || plain.ptr[i] == '\\')
            buf_append_byte(out, '\\');
        buf_append_byte(out, plain.ptr[i]);
    }
    buf_append_byte(out, '"');
    buf_release(&plain);
}

/* An atom with backslashes is written without them where that means the same. */
static void
append_text(struct buf *out, enum token_kind kind, struct slice token)
{
    struct buf plain = {0};
    bool quote = kind == TOKEN_QUOTED;

    append_unquoted(&plain, token);
    for (size_t i = 0; i < plain.len && !quote; i++)
        quote = slice_has_byte(token, '\\') && (strchr("()<>@,;:\\\".[] ", plain.ptr[i]) != NULL);
    if (quote)
        append_quoted(out, token);
    else
        buf_append_slice(out, buf_slice(&plain));
    buf_release(&plain);
}

/* ---- values ---- */

static void
append_value(struct buf *out, struct slice text)
{
    bool after_word = false;
    enum token_kind kind;
    struct slice token;

    while (next_token(&text, &kind, &token)) {
        bool is_word = kind != TOKEN_SPECIAL;
        if (after_word && (is_word || token.ptr[0] == '<'))
            buf_append_byte(out, ' ');
        after_word = is_word;
        if (kind == TOKEN_QUOTED || kind == TOKEN_ATOM) {
            append_text(out, kind, token);
            continue;
        }
        buf_append_slice(out, token);
        if (kind == TOKEN_LITERAL && token.ptr[token.len - 1] != ']')
            buf_append_byte(out, ']');
        if (token.len == 1 && token.ptr[0] == ',')
            buf_append_byte(out, ' ');
    }
}

/* ---- names ---- */

/* Up to the first ':' . NULL: fine; else what is wrong. */
static const char *
take_name(struct slice *text, struct buf *name)
{
    bool after_word = false, any = false, at = false;
    enum token_kind kind;
    struct slice token;

    while (next_token(text, &kind, &token)) {
        if (kind == TOKEN_SPECIAL && token.ptr[0] == ':')
            return !any ? "need name:value pair" : at ? "name must be local" : NULL;
        if (kind == TOKEN_SPECIAL && token.ptr[0] == ',')
            break;
        any = true;
        at = at || (kind == TOKEN_SPECIAL && token.ptr[0] == '@');
        if (kind != TOKEN_SPECIAL && after_word)
            buf_append_byte(name, ' ');
        after_word = kind != TOKEN_SPECIAL;
        if (kind == TOKEN_ATOM || kind == TOKEN_QUOTED)
            append_unquoted(name, token);
        else
            buf_append_slice(name, token);
    }
    return "need name:value pair";
}

static void
alias_line(struct map_builder *builder, const struct table_lines *lines, struct slice line)
{
    struct arena *arena = map_builder_arena(builder);
    struct buf name = {0}, value = {0};

    if (map_builder_command(builder)->utf8 && !text_is_utf8(line)) {
        table_lines_warn(lines, "non-UTF-8 input \"%s\" -- ignoring this line",
                         arena_strndup(arena, line.ptr, line.len));
        return;
    }
    const char *wrong = take_name(&line, &name);
    if (!wrong) {
        append_value(&value, line);
        if (value.len == 0)
            wrong = "need name:value pair";
    }
    if (wrong)
        table_lines_warn(lines, "%s", wrong);
    else
        map_entry(builder, buf_slice(&name), buf_slice(&value));
    buf_release(&name);
    buf_release(&value);
}

/* What Sendmail and NIS look for. */
static void
alias_complete(struct map_builder *builder)
{
    const struct map_command *command = map_builder_command(builder);
    struct arena *arena = map_builder_arena(builder);
    struct tools_settings settings;
    struct err err;

    if (tools_settings_load(&settings, command->conf, arena, &err) < 0)
        fatal("%s", err.text);
    map_entry_replace(builder, "@", "@");
    map_entry_replace(builder, "YP_LAST_MODIFIED", arena_printf(arena, "%010lld", (long long)time(NULL)));
    map_entry_replace(builder, "YP_MASTER_NAME", settings.myhostname);
}

const struct map_kind map_kind_aliases = {.separator = ":\t", .line = alias_line, .complete = alias_complete};
