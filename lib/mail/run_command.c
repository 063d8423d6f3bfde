/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/run_command.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/base/text.h"

enum { FIRST_FREE = STDERR_FILENO + 1, COMMAND_SHOWN = 200, CODE_LIMIT = 9, USUAL_DESCRIPTORS = 1024 };

/* ---- becoming the command ---- */

static void NORETURN
give_up(const char *program, const char *doing, const char *what)
{
    dprintf(STDERR_FILENO, "%s: fatal: %s %s: %s\n", program, doing, what, strerror(errno));
    _exit(EX_TEMPFAIL);
}

/* A descriptor that is one of 0 to 2 could be overwritten before it is used: it moves up first. */
static int
move_up(int fd)
{
    int moved;

    while ((moved = dup(fd)) >= 0 && moved < FIRST_FREE)
        ; /* closed with the rest */
    return moved;
}

static void
take_descriptors(int in, int out, int error)
{
    int from[] = {move_up(in), move_up(out), move_up(error)};

    for (int i = 0; i < FIRST_FREE; i++)
        if (from[i] < 0 || dup2(from[i], i) < 0)
            _exit(EX_TEMPFAIL);
    if (close_range(FIRST_FREE, UINT_MAX, 0) < 0)
        _exit(EX_TEMPFAIL);
}

/* Daemons raise the limit of descriptors for their own sake; programs that use select() expect the customary one. */
static void
reset_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > USUAL_DESCRIPTORS) {
        limit.rlim_cur = USUAL_DESCRIPTORS;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void
reset_process(void)
{
    const struct sched_param none = {0};
    sigset_t no_signals;

    reset_descriptor_limit();
    for (int i = 1; i < NSIG; i++)
        (void)signal(i, SIG_DFL);
    sigemptyset(&no_signals);
    (void)sigprocmask(SIG_SETMASK, &no_signals, NULL);
    (void)sched_setscheduler(0, SCHED_OTHER, &none);
    (void)umask(077);
}

void
run_command_prepare(const struct run_command *c, const char *program, int in, int out, int error)
{
    struct rlimit size = {(rlim_t)c->file_limit, (rlim_t)c->file_limit};

    (void)setsid();
    take_descriptors(in, out, error);
    reset_process();
    if (c->file_limit > 0)
        (void)setrlimit(RLIMIT_FSIZE, &size);
    if (clearenv() != 0)
        give_up(program, "clear", "environment");
    for (char *const *at = c->env; at && *at; at++)
        if (putenv(*at) != 0)
            give_up(program, "set", "environment");
    if (c->directory && chdir(c->directory) < 0)
        give_up(program, "chdir", c->directory);
}

void
run_command_become(const struct run_command *c, const char *program, int in, int out, int error)
{
    run_command_prepare(c, program, in, out, error);
    execvp(c->argv[0], c->argv);
    give_up(program, "execvp", c->argv[0]);
}

/* ---- its end ---- */

static const struct {
    int status;
    const char *dsn, *text;
} exits[] = {
    {EX_USAGE, "5.3.0", "command line usage error"},    {EX_DATAERR, "5.6.0", "data format error"},
    {EX_NOINPUT, "5.3.0", "cannot open input"},         {EX_NOUSER, "5.1.1", "user unknown"},
    {EX_NOHOST, "5.1.2", "host name unknown"},          {EX_UNAVAILABLE, "5.3.0", "service unavailable"},
    {EX_SOFTWARE, "5.3.0", "internal software error"},  {EX_OSERR, "4.3.0", "system resource problem"},
    {EX_OSFILE, "5.3.0", "critical OS file missing"},   {EX_CANTCREAT, "5.2.0", "can't create user output file"},
    {EX_IOERR, "5.3.0", "input/output error"},          {EX_TEMPFAIL, "4.3.0", "temporary failure"},
    {EX_PROTOCOL, "5.5.0", "remote error in protocol"}, {EX_NOPERM, "5.7.0", "permission denied"},
    {EX_CONFIG, "5.3.5", "local configuration error"},
};

/* One printable line without blanks at its ends. */
static void
tidy(const char *output, char *text, size_t size)
{
    struct slice kept = slice_trim(slice_from(output));

    if (kept.len >= size)
        kept.len = size - 1;
    memcpy(text, kept.ptr, kept.len);
    text[kept.len] = '\0';
    for (size_t i = 0; i < kept.len; i++)
        if (text_is_space(text[i]))
            text[i] = ' ';
    text_printable(text, kept.len, '_', false); /* as Postfix has it */
}

/* "5.1.1 text": how long the code is; 0: there is none. */
static size_t
status_code(const char *output)
{
    size_t len = strspn(output, "0123456789."), dots = 0;

    if (len < 5 || len > CODE_LIMIT || !strchr("245", output[0]) || output[1] != '.' || output[len - 1] == '.' ||
        (output[len] && output[len] != ' '))
        return 0;
    for (size_t i = 0; i < len; i++) {
        dots += output[i] == '.';
        if (output[i] == '.' && output[i + 1] == '.')
            return 0;
    }
    return dots == 2 ? len : 0;
}

/* meaning: what the report says of a command that wrote nothing. */
static void
say(struct run_command_verdict *v, const char *dsn, const char *text, const char *output, const char *meaning)
{
    snprintf(v->dsn, sizeof v->dsn, "%s", dsn);
    snprintf(v->text, sizeof v->text, "%s%s%s", text, *output ? ". Command output: " : "", output);
    snprintf(v->diag, sizeof v->diag, "%s", *output ? output : meaning);
}

void
run_command_judge(const struct run_command_end *end, struct run_command_verdict *v)
{
    char *output = v->output, text[COMMAND_SHOWN + 80], meaning[64];
    size_t code;

    v->diag[0] = '\0';
    tidy(end->output, output, sizeof v->output);
    if (end->timed_out) {
        snprintf(text, sizeof text, "Command time limit exceeded: \"%.*s\"", COMMAND_SHOWN, end->command);
        say(v, "5.3.0", text, output, "time limit exceeded");
        return;
    }
    if (!WIFEXITED(end->status)) {
        snprintf(text, sizeof text, "Command died with signal %d: \"%.*s\"", WTERMSIG(end->status), COMMAND_SHOWN,
                 end->command);
        say(v, "4.3.0", text, output, "internal software error");
        return;
    }
    if (WEXITSTATUS(end->status) == 0) {
        snprintf(v->dsn, sizeof v->dsn, "2.0.0");
        snprintf(v->text, sizeof v->text, "%s", output);
        return;
    }
    code = status_code(output);
    if (code > 0) {
        snprintf(v->dsn, sizeof v->dsn, "%.*s", (int)code, output);
        if (v->dsn[0] == '2') /* it failed all the same */
            v->dsn[0] = '5';
        snprintf(v->diag, sizeof v->diag, "%s", output + code + strspn(output + code, " "));
        snprintf(v->text, sizeof v->text, "%s", v->diag);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(exits); i++)
        if (exits[i].status == WEXITSTATUS(end->status)) {
            say(v, exits[i].dsn, exits[i].text, output, exits[i].text);
            return;
        }
    snprintf(text, sizeof text, "Command died with status %d: \"%.*s\"", WEXITSTATUS(end->status), COMMAND_SHOWN,
             end->command);
    snprintf(meaning, sizeof meaning, "unknown mail system error %d", WEXITSTATUS(end->status));
    say(v, "5.3.0", text, output, meaning);
}
