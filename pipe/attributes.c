/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "lib/base/text.h"
#include "pipe/pipe.h"

static const struct {
    char letter;
    unsigned flag;
} letters[] = {
    {'B', PIPE_BLANK_LINE},  {'D', PIPE_DELIVERED_TO}, {'F', PIPE_FROM_LINE},   {'O', PIPE_ORIGINAL_TO},
    {'R', PIPE_RETURN_PATH}, {'X', PIPE_FINAL},        {'h', PIPE_FOLD_DOMAIN}, {'q', PIPE_QUOTE},
    {'u', PIPE_FOLD_LOCAL},  {'.', PIPE_STUFF_DOTS},   {'>', PIPE_QUOTE_FROM},
};

static int
parse_flags(const char *text, unsigned *flags, struct err *err)
{
    for (const char *at = text; *at; at++) {
        unsigned flag = 0;

        for (size_t i = 0; i < ARRAY_LEN(letters); i++)
            if (letters[i].letter == *at)
                flag = letters[i].flag;
        if (!flag)
            return err_set(err, ERR_SYNTAX, "unknown flag: %c", *at);
        *flags |= flag;
    }
    return 0;
}

/* \n and its kin, \ooo. */
static int
parse_eol(struct arena *arena, const char *text, struct slice *eol, struct err *err)
{
    static const char names[] = "abfnrtv\\", bytes[] = "\a\b\f\n\r\t\v\\";
    char *out = arena_alloc(arena, strlen(text) + 1);
    size_t len = 0;

    while (*text) {
        const char *name;

        if (*text != '\\') {
            out[len++] = *text++;
            continue;
        }
        text++;
        name = *text ? strchr(names, *text) : NULL;
        if (name) {
            out[len++] = bytes[name - names];
            text++;
        } else if (*text >= '0' && *text <= '7') {
            unsigned value = 0;

            for (unsigned i = 0; i < 3 && *text >= '0' && *text <= '7'; i++)
                value = value * 8 + (unsigned)(*text++ - '0');
            out[len++] = (char)value;
        } else {
            return err_set(err, ERR_SYNTAX, "eol: unknown escape \\%c", *text ? *text : ' ');
        }
    }
    *eol = slice_make(out, len);
    return 0;
}

static int
parse_size(const char *text, int64_t *size, struct err *err)
{
    unsigned long long value;

    if (slice_to_u64(slice_from(text), INT64_MAX, &value) < 0)
        return err_set(err, ERR_SYNTAX, "bad size limit: %s", text);
    *size = (int64_t)value;
    return 0;
}

/* argv=: this word and all that follow. "{ text }" was joined by the reader of master.cf, or stands as it is. */
static int
parse_argv(struct arena *arena, char **args, struct pipe_attributes *a, struct err *err)
{
    size_t count = 0;

    while (args[count])
        count++;
    a->argv = arena_array(arena, count + 1, sizeof *a->argv);
    for (size_t i = 0; i < count; i++) {
        const char *word = i == 0 ? args[i] + strlen("argv=") : args[i];
        struct slice text = slice_from(word);

        if (text.len >= 2 && text.ptr[0] == '{' && text.ptr[text.len - 1] == '}')
            text = slice_trim(slice_make(text.ptr + 1, text.len - 2));
        a->argv[i] = arena_strndup(arena, text.ptr, text.len);
        if (pipe_macros_check(a->argv[i], err) < 0)
            return -1;
    }
    return *a->argv[0] ? 0 : err_set(err, ERR_SYNTAX, "argv: no command");
}

static int
parse_one(struct arena *arena, const char *word, const struct pipe_settings *settings, struct pipe_attributes *a,
          struct err *err)
{
    const char *equals = strchr(word, '=');
    struct slice name = slice_make(word, equals ? (size_t)(equals - word) : 0);

    if (!equals)
        return err_set(err, ERR_SYNTAX, "unknown attribute name: %s", word);
    if (slice_equal_text(name, "flags"))
        return parse_flags(equals + 1, &a->flags, err);
    if (slice_equal_text(name, "eol"))
        return parse_eol(arena, equals + 1, &a->eol, err);
    if (slice_equal_text(name, "size"))
        return parse_size(equals + 1, &a->size_limit, err);
    if (slice_equal_text(name, "user")) {
        a->has_user = true;
        return exec_identity_parse(equals + 1, settings->mail_owner, &a->who, err);
    }
    if (slice_equal_text(name, "chroot"))
        a->chroot_dir = equals + 1;
    else if (slice_equal_text(name, "directory"))
        a->directory = equals + 1;
    else if (slice_equal_text(name, "null_sender"))
        a->null_sender = equals + 1;
    else
        return err_set(err, ERR_SYNTAX, "unknown attribute name: %s", word);
    return 0;
}

int
pipe_attributes_parse(char **args, const struct pipe_settings *settings, struct arena *arena,
                      struct pipe_attributes *a, struct err *err)
{
    *a = (struct pipe_attributes){.eol = {"\n", 1}, .null_sender = "MAILER-DAEMON"};
    for (; *args && strncmp(*args, "argv=", 5) != 0; args++)
        if (parse_one(arena, *args, settings, a, err) < 0)
            return -1;
    if (!*args)
        return err_set(err, ERR_SYNTAX, "missing attribute: argv=command");
    if (!a->has_user)
        return err_set(err, ERR_SYNTAX, "missing attribute: user=username");
    return parse_argv(arena, args, a, err);
}
