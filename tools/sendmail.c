/* SPDX-License-Identifier: Apache-2.0 */
/* sendmail, mailq, newaliases: the interface that programs know from Sendmail. See sendmail(1). */
#include "tools/sendmail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/conf/conf.h"
#include "lib/mail/messages.h"
#include "lib/mail/verp.h"

enum mode {
    MODE_SUBMIT,
    MODE_LIST,
    MODE_ALIASES,
    MODE_FLUSH,
    MODE_FLUSH_SITE,
    MODE_FLUSH_ID,
    MODE_DAEMON,
    MODE_SMTP,
    MODE_IGNORED
};

struct options {
    enum mode mode;
    const char *argument; /* of -qR, -qI, -oA */
    unsigned verbose;
};

static const char *
base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* -C may name main.cf or its directory. */
static const char *
config_directory(struct arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    struct stat st;

    if (stat(path, &st) < 0 || S_ISDIR(st.st_mode))
        return path;
    return slash ? arena_strndup(arena, path, (size_t)(slash - path)) : ".";
}

static void
load_settings(struct sendmail *s)
{
    struct err err;
    struct conf *conf = conf_load(s->config_directory, &err);

    fatal_set_status(EX_CONFIG);
    if (!conf || tools_settings_load(&s->settings, conf, s->arena, &err) < 0)
        fatal("%s", err.text);
    conf_free(&conf);
    fatal_set_status(EX_USAGE);
}

void
sendmail_execute(const struct sendmail *s, const char *const *words)
{
    const char *path = arena_printf(s->arena, "%s/%s", s->settings.command_directory, words[0]);
    const char *args[16];
    unsigned count = 0;

    args[count++] = words[0];
    if (s->config_directory) {
        args[count++] = "-c";
        args[count++] = s->config_directory;
    }
    for (unsigned i = 1; words[i] && count + 1 < ARRAY_LEN(args); i++)
        args[count++] = words[i];
    args[count] = NULL;
    execv(path, (char *const *)args);
    fatal_set_status(EX_OSERR);
    fatal("execute %s: %s", path, strerror(errno));
}

/* The daemon itself, on standard input and output; what it takes goes through postdrop (smtpd/postdrop.h). */
static NORETURN void
speak_smtp(const struct sendmail *s)
{
    const char *path = arena_printf(s->arena, "%s/smtpd", s->settings.daemon_directory);
    const char *args[] = {"smtpd", "-S", NULL};

    fatal_set_status(EX_OSERR);
    if (s->config_directory && setenv("MAIL_CONFIG", s->config_directory, 1) < 0)
        fatal("environment: %m");
    execv(path, (char *const *)args);
    fatal("execute %s: %s", path, strerror(errno));
}

/* ---- single options ---- */

static int64_t
parse_notify(const char *text)
{
    static const struct {
        const char *name;
        int64_t flag;
    } words[] = {
        {"never", NOTIFY_NEVER}, {"success", NOTIFY_SUCCESS}, {"failure", NOTIFY_FAILURE}, {"delay", NOTIFY_DELAY}};
    struct slice rest = slice_from(text), word;
    int64_t flags = 0;

    while (slice_word(&rest, ", \t", &word)) {
        int64_t flag = 0;

        for (unsigned i = 0; i < ARRAY_LEN(words); i++)
            if (slice_equal_text_fold(word, words[i].name))
                flag = words[i].flag;
        if (!flag)
            fatal("bad -N option value -- specify never, or any of success, failure, delay");
        flags |= flag;
    }
    if (flags == 0 || ((flags & NOTIFY_NEVER) && flags != NOTIFY_NEVER))
        fatal("bad -N option value -- specify never, or any of success, failure, delay");
    return flags;
}

static int64_t
parse_ret(const char *text)
{
    if (strcasecmp(text, "full") == 0)
        return RET_FULL;
    if (strcasecmp(text, "hdrs") == 0)
        return RET_HEADERS;
    fatal("bad -R option value -- specify full or hdrs");
}

static const char *
parse_encoding(const char *text)
{
    if (strcasecmp(text, "8bitmime") == 0)
        return "8bit";
    if (strcasecmp(text, "7bit") == 0)
        return "7bit";
    fatal("-B option needs 8BITMIME or 7BIT");
}

static const char *
parse_envelope_id(const char *text)
{
    if (strlen(text) > 100)
        fatal("-V option value is too long");
    for (const char *at = text; *at; at++)
        if (*at <= ' ' || *at > '~')
            fatal("bad -V option value: only printable characters, no blanks");
    return text;
}

static const char *
parse_verp(const struct sendmail *s, const char *text)
{
    if (*text && !verp_delimiters_are_good(slice_from(text), s->settings.verp_delimiter_filter))
        fatal("-V requires two characters from %s", s->settings.verp_delimiter_filter);
    return *text ? text : s->settings.default_verp_delimiters;
}

static void
parse_b(struct sendmail *s, struct options *o, const char *text)
{
    switch (*text) {
    case 'm': o->mode = MODE_SUBMIT; break;
    case 'p': o->mode = MODE_LIST; break;
    case 'i': o->mode = MODE_ALIASES; break;
    case 'd':
    case 'l': o->mode = MODE_DAEMON; break;
    case 's': o->mode = MODE_SMTP; break;
    case 'h':
    case 'H': o->mode = MODE_IGNORED; break;
    case 'v':
        o->mode = MODE_SUBMIT;
        s->is_verification = true;
        break;
    default: fatal("unsupported: -b%c", *text ? *text : ' ');
    }
}

static void
parse_o(struct sendmail *s, struct options *o, const char *text)
{
    if (*text == 'A')
        o->argument = text + 1;
    else if (*text == 'i')
        s->ignore_dots = true;
    /* -o7 -o8 -oe -om and all others ask for what is so anyway, or what main.cf says */
}

static void
parse_q(struct options *o, const char *text)
{
    if (*text == 'I' || *text == 'R') {
        o->mode = *text == 'I' ? MODE_FLUSH_ID : MODE_FLUSH_SITE;
        o->argument = text + 1;
        if (!*o->argument) {
            fatal_set_status(EX_TEMPFAIL); /* as Postfix's */
            fatal("specify: -q%c%s", *text, *text == 'I' ? "queueid" : "sitename");
        }
    } else if (*text == '\0') {
        o->mode = MODE_FLUSH;
    } else if (!text_is_digit(*text)) {
        fatal("-q%c is not implemented", *text);
    } else if (o->mode == MODE_SUBMIT) {
        o->mode = MODE_IGNORED; /* an interval: queue_run_delay says it, and "-bd -q1h" starts the mail system */
    }
}

static void
parse_option(struct sendmail *s, struct options *o, int option, const char *value)
{
    switch (option) {
    case 'B': s->encoding = parse_encoding(value); break;
    case 'b': parse_b(s, o, value); break;
    case 'F': s->full_name = value; break;
    case 'f':
    case 'r': s->sender = value; break;
    case 'G': s->is_gateway = true; break;
    case 'I': o->mode = MODE_ALIASES; break;
    case 'i': s->ignore_dots = true; break;
    case 'N': s->notify = parse_notify(value); break;
    case 'o': parse_o(s, o, value); break;
    case 'q': parse_q(o, value); break;
    case 'R': s->ret = parse_ret(value); break;
    case 't': s->extract_recipients = true; break;
    case 'V': s->envelope_id = parse_envelope_id(value); break;
    case 'v': o->verbose++; break;
    case 'X':
        if (*value == 'V')
            s->verp = parse_verp(s, value + 1);
        break;
    case '?': fatal("usage: %s [options] [recipient ...]", s->name);
    default: break; /* ignored */
    }
}

/* Sendmail's "-q" and "-X..." and "-V" take a value or not: getopt() is told of those that may lack it. "-n", "-e..." alone
 * are flags of old mail programs. */
static const char options[] = "A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:q::r:tvx";

/* Before 2.3 -V stood for what is -XV now: alone, or with two delimiters. The next word is looked at. */
static void
modernize(const struct sendmail *s, int argc, char **argv)
{
    const char *word = optind < argc ? argv[optind] : "", *next = optind + 1 < argc ? argv[optind + 1] : "-";
    bool is_old = strcmp(word, "-V") == 0
                      ? *next == '-'
                      : strncmp(word, "-V", 2) == 0 &&
                            verp_delimiters_are_good(slice_from(word + 2), s->settings.verp_delimiter_filter);

    if (!is_old)
        return;
    log_warning("option -V means an envelope id now; -XV asks for VERP");
    argv[optind] = arena_printf(s->arena, "-X%s", word + 1);
}

/* Options from the command line, in two rounds: -C decides which settings the others are checked with. */
static void
read_arguments(struct sendmail *s, struct options *o, int argc, char **argv)
{
    int option;

    opterr = 0;
    while ((option = getopt(argc, argv, options)) != -1)
        if (option == 'C')
            s->config_directory = config_directory(s->arena, optarg);
    load_settings(s);
    optind = 1;
    opterr = 1;
    while (modernize(s, argc, argv), (option = getopt(argc, argv, options)) != -1)
        parse_option(s, o, option, optarg ? optarg : "");
    s->recipients = argv + optind;
}

static void
list_queue(const struct sendmail *s, const char *option, const char *argument)
{
    sendmail_execute(s, (const char *const[]){"postqueue", option, argument, NULL});
}

static void
submit(struct sendmail *s, const struct options *o)
{
    if (s->is_verification)
        s->trace = TRACE_VERIFY;
    else if (o->verbose > 0)
        s->trace = TRACE_RECORD;
    if (s->is_verification && (s->extract_recipients || o->verbose > 0))
        fatal("-%c option cannot be used with -bv", s->extract_recipients ? 't' : 'v');
    sendmail_submit(s);
}

/* Recipients are for messages alone. */
static void
check_mode(const struct sendmail *s, const struct options *o)
{
    static const char *const names[] = {
        [MODE_LIST] = "display queue",    [MODE_ALIASES] = "alias initialization", [MODE_FLUSH] = "flush queue",
        [MODE_FLUSH_SITE] = "flush site", [MODE_FLUSH_ID] = "flush queue_id",      [MODE_DAEMON] = "daemon",
        [MODE_SMTP] = "stand-alone"};

    if (o->mode == MODE_SUBMIT || o->mode == MODE_IGNORED)
        return;
    if (*s->recipients)
        fatal("%s mode requires no recipient", names[o->mode]);
    if (s->extract_recipients)
        fatal("-t can be used only in delivery mode");
}

int
main(int argc, char **argv)
{
    struct sendmail s = {.name = base_name(argv[0]), .arena = arena_new(), .encoding = "", .envelope_id = ""};
    struct options o = {.mode = MODE_SUBMIT};

    log_init(s.name);
    fatal_set_status(EX_USAGE);
    if (strcmp(s.name, "mailq") == 0)
        o.mode = MODE_LIST;
    else if (strcmp(s.name, "newaliases") == 0)
        o.mode = MODE_ALIASES;
    read_arguments(&s, &o, argc, argv);
    if (o.verbose > 1 || getenv("MAIL_VERBOSE"))
        log_set_verbose((int)o.verbose);
    check_mode(&s, &o);
    switch (o.mode) {
    case MODE_SUBMIT: submit(&s, &o); break;
    case MODE_LIST: list_queue(&s, "-p", NULL); break;
    case MODE_FLUSH: list_queue(&s, "-f", NULL); break;
    case MODE_FLUSH_SITE: list_queue(&s, "-s", o.argument); break;
    case MODE_FLUSH_ID: list_queue(&s, "-i", o.argument); break;
    case MODE_DAEMON: sendmail_execute(&s, (const char *const[]){"postfix", "start", NULL}); break;
    case MODE_SMTP: speak_smtp(&s); break;
    case MODE_ALIASES: {
        const char *base = o.argument ? o.argument : s.settings.alias_database;
        const char *words[14] = {"postalias"};
        struct slice rest = slice_from(base), word;

        for (unsigned n = 1; n + 1 < ARRAY_LEN(words) && slice_word(&rest, ", \t\r\n", &word); n++)
            words[n] = arena_strndup(s.arena, word.ptr, word.len);
        if (words[1])
            sendmail_execute(&s, words);
        break;
    }
    case MODE_IGNORED: break;
    }
    arena_free(&s.arena);
    return 0;
}
