/* SPDX-License-Identifier: Apache-2.0 */
/* postfix user: the users who may log in, kept in auth_users_file. Passwords are asked for, or read from standard input when that
 * is no terminal; never taken from the command line, which others can see. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/password.h"
#include "lib/table/user_table.h"
#include "tools/postfix_command.h"

enum { PASSWORD_MOST = 1024 };

static void complain(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* To the one who typed the command; the log is no place for it. */
static void
complain(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fputs("postfix user: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
}

/* A line without its end. False: there is none, or it is too long. */
static bool
read_secret(const char *prompt, char *text, size_t size)
{
    struct termios old, quiet;
    bool terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &old) == 0;

    if (terminal) {
        fputs(prompt, stderr);
        quiet = old;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    }
    bool got = fgets(text, (int)size, stdin) != NULL && strchr(text, '\n');
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
        fputc('\n', stderr);
    }
    if (got)
        text[strcspn(text, "\r\n")] = '\0';
    return got;
}

static bool
read_password(char *password, size_t size)
{
    char again[PASSWORD_MOST + 2] = "";
    bool same = true;

    if (!read_secret("Password: ", password, size)) {
        complain("no password, or one that is too long");
        return false;
    }
    if (isatty(STDIN_FILENO)) {
        same = read_secret("Once more: ", again, sizeof again) && strcmp(password, again) == 0;
        crypto_wipe(again, sizeof again);
    }
    if (!same)
        complain("the two passwords differ");
    return same;
}

static int
set_password(struct control *c, struct user_table *table, const char *name)
{
    char password[PASSWORD_MOST + 2] = "";
    struct err err;
    int result = 1;

    if (read_password(password, sizeof password)) {
        const char *record = password_record(c->arena, slice_from(password), &err);
        if (record && user_table_set(table, slice_from(name), record, &err) == 0)
            result = 0;
        else
            complain("%s", err.text);
    }
    crypto_wipe(password, sizeof password);
    return result;
}

static bool
print_name(void *ctx, struct slice name, const char *record)
{
    (void)ctx;
    (void)record;
    printf("%.*s\n", SLICE_ARG(name));
    return true;
}

/* 1: said already. */
static int
exists(struct control *c, struct user_table *table, const char *name, bool *there)
{
    const char *record;
    struct err err;

    if (user_table_get(table, c->arena, slice_from(name), &record, &err) < 0) {
        complain("%s", err.text);
        return 1;
    }
    *there = record != NULL;
    return 0;
}

static int
add_or_change(struct control *c, struct user_table *table, const char *name, bool add)
{
    bool there;

    if (!user_table_name_is_valid(slice_from(name))) {
        complain("not a name for a user: %s", name);
        return 1;
    }
    if (exists(c, table, name, &there))
        return 1;
    if (there == add) {
        complain(add ? "there is a user %s already: use passwd" : "there is no user %s: use add", name);
        return 1;
    }
    return set_password(c, table, name);
}

static int delete (struct user_table *table, const char *name)
{
    struct err err;
    bool found;

    if (user_table_delete(table, slice_from(name), &found, &err) < 0)
        complain("%s", err.text);
    else if (!found)
        complain("there is no user %s", name);
    else
        return 0;
    return 1;
}

static int
list(struct user_table *table)
{
    struct err err;

    if (user_table_each(table, print_name, NULL, &err) == 0)
        return 0;
    complain("%s", err.text);
    return 1;
}

int
command_user(struct control *c, char **args)
{
    const char *verb = args[0] ? args[0] : "", *name = args[0] ? args[1] : NULL;
    bool is_list = strcmp(verb, "list") == 0;
    struct user_table *table;
    struct err err;
    int result = 1;

    if (is_list ? name != NULL : !name || args[2]) {
        complain("usage: postfix user add|passwd|del name, or postfix user list");
        return 1;
    }
    table = user_table_open(c->settings.auth_users_file, true, &err);
    if (!table) {
        complain("%s", err.text);
        return 1;
    }
    if (is_list)
        result = list(table);
    else if (strcmp(verb, "add") == 0 || strcmp(verb, "passwd") == 0)
        result = add_or_change(c, table, name, strcmp(verb, "add") == 0);
    else if (strcmp(verb, "del") == 0)
        result = delete (table, name);
    else
        complain("unknown: postfix user %s", verb);
    user_table_close(&table);
    return result;
}
