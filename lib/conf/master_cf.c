/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/master_cf.h"

#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/text.h"
#include "lib/conf/cf_file.h"
#include "lib/conf/expand.h"
#include "lib/conf/list.h"
#include "lib/conf/main_cf.h"

static const char blanks[] = " \t\r\n\v\f";

static const struct {
    const char *name;
    enum service_type type;
} types[] = {
    {"inet", SERVICE_INET}, {"unix", SERVICE_UNIX}, {"unix-dgram", SERVICE_UNIX_DGRAM},
    {"fifo", SERVICE_FIFO}, {"pass", SERVICE_PASS},
};

/* What the fields' "-" mean, and where the line is. */
struct parser {
    struct arena *arena;
    bool chroot_default;
    int64_t process_limit;
    enum master_cf_rigour rigour;
    struct master_cf *master;
    struct err *err;
};

static void
add_warning(struct parser *p, const char *text)
{
    struct master_cf *master = p->master;
    const char **all = arena_array(p->arena, master->warning_count + 1, sizeof(*all));
    if (master->warning_count > 0)
        memcpy(all, master->warnings, master->warning_count * sizeof(*all));
    all[master->warning_count++] = text;
    master->warnings = all;
}

const char *
master_type_name(enum service_type type)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (types[i].type == type)
            return types[i].name;
    return "unknown";
}

/* --- fields --- */

static int
bad_field(struct parser *p, const char *field, const char *text)
{
    return err_set(p->err, ERR_SYNTAX, "bad %s field: \"%s\"", field, text);
}

static int
parse_type(struct parser *p, const char *text, enum service_type *type)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (strcmp(types[i].name, text) == 0) {
            *type = types[i].type;
            return 0;
        }
    return bad_field(p, "type", text);
}

static int
parse_yes(struct parser *p, const char *field, const char *text, bool unset, bool *value)
{
    *value = strcmp(text, "-") == 0 ? unset : strcmp(text, "y") == 0;
    if (strcmp(text, "-") == 0 || strcmp(text, "y") == 0 || strcmp(text, "n") == 0)
        return 0;
    return bad_field(p, field, text);
}

static int
parse_number(struct parser *p, const char *field, const char *text, struct slice digits, int64_t unset, unsigned *value)
{
    unsigned long long number;
    if (slice_equal_text(digits, "-"))
        number = (unsigned long long)unset;
    else if (slice_to_u64(digits, INT_MAX, &number) < 0)
        return bad_field(p, field, text);
    *value = (unsigned)number;
    return 0;
}

static int
parse_wakeup(struct parser *p, const char *text, struct master_service *service)
{
    struct slice digits = slice_from(text);
    service->wakeup_if_used = digits.len > 1 && digits.ptr[digits.len - 1] == '?';
    if (service->wakeup_if_used)
        digits.len--;
    return parse_number(p, "wakeup", text, digits, 0, &service->wakeup);
}

/* "port", "host:port", "[address]:port" */
static int
parse_inet_name(struct parser *p, struct master_service *service)
{
    const char *name = service->name, *colon = strrchr(name, ':'), *port = colon ? colon + 1 : name;
    if (*name == '[') {
        const char *close = strchr(name, ']');
        if (!close || close == name + 1 || close[1] != ':')
            return bad_field(p, "service", name);
        service->host = arena_strndup(p->arena, name + 1, (size_t)(close - name - 1));
        port = close + 2;
    } else if (colon && colon > name) {
        service->host = arena_strndup(p->arena, name, (size_t)(colon - name));
    }
    if (!*port || strpbrk(port, ":[]") || (!service->host && strpbrk(name, ":[]") && *name != ':'))
        return bad_field(p, "service", name);
    service->port = arena_strdup(p->arena, port);
    return 0;
}

static int
parse_fields(struct parser *p, struct master_service *service)
{
    const char *const *field = service->fields;
    service->name = field[0];
    service->maxproc_is_given = strcmp(field[6], "-") != 0;
    if (parse_type(p, field[1], &service->type) < 0 ||
        parse_yes(p, "private", field[2], true, &service->is_private) < 0 ||
        parse_yes(p, "unprivileged", field[3], true, &service->unprivileged) < 0 ||
        parse_yes(p, "chroot", field[4], p->chroot_default, &service->chroot) < 0 ||
        parse_wakeup(p, field[5], service) < 0 ||
        parse_number(p, "process_limit", field[6], slice_from(field[6]), p->process_limit, &service->maxproc) < 0)
        return -1;
    service->command = field[7];
    if (service->type != SERVICE_INET)
        return p->rigour == MASTER_CF_STRICT && strchr(service->name, '/') ? bad_field(p, "service", service->name) : 0;
    service->is_private = false;
    return parse_inet_name(p, service);
}

/* --- arguments --- */

/* For services an error, for who edits a warning. */
static int
complain(struct parser *p)
{
    if (p->rigour == MASTER_CF_STRICT)
        return -1;
    add_warning(p, arena_printf(p->arena, "master.cf: %s", p->err->text));
    return 0;
}

/* How long the word is that text begins with; blanks in braces are part of it. */
static size_t
word_len(struct slice text)
{
    int level = 0;
    size_t i = 0;
    for (; i < text.len && (level > 0 || !memchr(blanks, text.ptr[i], sizeof(blanks) - 1)); i++)
        level += (text.ptr[i] == '{') - (text.ptr[i] == '}');
    return i;
}

/* The next word, or what stands in braces, which may hold braces in pairs. */
static int
cut_argument(struct parser *p, struct slice *rest, const char **argument)
{
    struct slice inside = {0};
    *rest = slice_trim(*rest);
    if (rest->len == 0 || *rest->ptr != '{') {
        *argument = slice_word(rest, blanks, &inside) ? arena_strndup(p->arena, inside.ptr, inside.len) : NULL;
        return 0;
    }
    size_t close = list_find_close(*rest);
    size_t end = close < rest->len ? word_len(*rest) : rest->len;
    if (close == rest->len)
        err_set(p->err, ERR_SYNTAX, "missing '}' in \"%.*s\"", SLICE_ARG(*rest));
    else if (close + 1 < end)
        err_set(p->err, ERR_SYNTAX, "syntax error after '}' in \"%.*s\"", (int)end, rest->ptr);
    if (close + 1 != end && complain(p) < 0)
        return -1;
    inside = slice_trim(slice_make(rest->ptr + 1, close - 1));
    *argument = arena_strndup(p->arena, inside.ptr, inside.len);
    *rest = slice_make(rest->ptr + end, rest->len - end);
    return 0;
}

static size_t
count_words(struct slice text)
{
    struct slice word;
    size_t count = 0;
    while (slice_word(&text, blanks, &word))
        count++;
    return count;
}

/* An option's argument "a = b" becomes "a=b"; what is no setting stays for the command to complain about. */
static void
take_option(struct parser *p, struct master_service *service, char **argument, bool braced)
{
    const char *name, *value;
    struct err why;
    if (main_cf_split(p->arena, slice_from(*argument), &name, &value, &why) < 0) {
        if (braced)
            add_warning(p, arena_printf(p->arena, "master.cf: %s", why.text));
        return;
    }
    *argument = arena_printf(p->arena, "%s=%s", name, value);
    service->options[service->option_count++] = (struct master_option){name, value};
}

static void
count_verbose(struct master_service *service, const char *argument)
{
    if (argument[0] == '-' && argument[1] == 'v' && argument[1 + strspn(argument + 1, "v")] == 0)
        service->verbose += (unsigned)strlen(argument + 1);
}

/* Is the word the first that is no option of the daemon's, nor belongs to one? What follows is for it, or for a command. */
static bool
ends_options(const char *before, const char *argument)
{
    static const char without_value[] = "vDdlzSV";

    if (*argument == '-')
        return strcmp(argument, "--") == 0;
    return !before || before[0] != '-' || before[1] == '\0' || before[2] != '\0' || strchr(without_value, before[1]);
}

static size_t
option_words(const struct master_service *service)
{
    size_t n = 0;

    while (n < service->arg_count && !ends_options(n > 0 ? service->args[n - 1] : NULL, service->args[n]))
        n++;
    return n;
}

static int
parse_arguments(struct parser *p, struct slice rest, struct master_service *service)
{
    size_t most = count_words(rest) * 2 + 1;
    const char *argument = NULL, *before = NULL;
    bool is_option = false, options_ended = false;
    service->args = arena_array(p->arena, most + 1, sizeof(*service->args));
    service->options = arena_array(p->arena, most, sizeof(*service->options));
    for (;;) {
        struct slice ahead = slice_trim(rest);
        bool braced = ahead.len > 0 && *ahead.ptr == '{';
        if (!is_option && !options_ended && ahead.len > 2 && memcmp(ahead.ptr, "-o{", 3) == 0) {
            /* "-o{name = value}": the same with a blank behind -o. */
            service->args[service->arg_count++] = arena_strdup(p->arena, "-o");
            rest = slice_make(ahead.ptr + 2, ahead.len - 2);
            before = "-o";
            is_option = true;
            continue;
        }
        if (cut_argument(p, &rest, &argument) < 0)
            return -1;
        if (!argument)
            return 0;
        check(service->arg_count < most);
        char **slot = &service->args[service->arg_count++];
        *slot = arena_strdup(p->arena, argument);
        if (!is_option && ends_options(before, argument))
            options_ended = true;
        before = *slot;
        if (options_ended)
            continue;
        if (is_option) {
            take_option(p, service, slot, braced);
            is_option = false;
        } else if (strcmp(argument, "-o") == 0) {
            is_option = true;
        } else if (strncmp(argument, "-o", 2) == 0 && !text_is_space(argument[2]) && strchr(argument, '=')) {
            /* "-oname=value" in one word: the same in two. */
            *slot = arena_strdup(p->arena, "-o");
            slot = &service->args[service->arg_count++];
            *slot = arena_strdup(p->arena, argument + 2);
            take_option(p, service, slot, false);
        } else {
            count_verbose(service, argument);
        }
    }
}

static int
parse_line(struct parser *p, const struct cf_line *line, struct master_service *service)
{
    struct slice rest = line->text, word;
    bool lenient = p->rigour == MASTER_CF_EDIT;
    service->line = line->number;
    for (unsigned i = 0; i < MASTER_CF_FIELDS; i++) {
        bool found = slice_word(&rest, blanks, &word);
        if (!found && !lenient)
            return err_set(p->err, ERR_SYNTAX, "bad field count");
        service->fields[i] = found ? arena_strndup(p->arena, word.ptr, word.len) : "";
    }
    service->name = service->fields[0];
    if (parse_fields(p, service) < 0 && !lenient)
        return -1;
    return parse_arguments(p, rest, service);
}

/* --- the file --- */

static int
load_defaults(const struct conf *conf, struct parser *p)
{
    struct arena *arena = arena_new();
    int order = 0, result = -1;
    char *level = conf_string(conf, arena, "compatibility_level", p->err);
    if (level && expand_compare_levels(slice_from(level), slice_from("1"), &order, p->err) == 0 &&
        conf_int(conf, "default_process_limit", &p->process_limit, p->err) == 0)
        result = 0;
    p->chroot_default = order < 0;
    arena_free(&arena);
    return result;
}

static struct master_service *
add_service(struct parser *p, struct master_cf *master, size_t *cap)
{
    if (master->count == *cap) {
        size_t larger = *cap ? *cap * 2 : 32;
        struct master_service *all = arena_array(p->arena, larger, sizeof(*all));
        if (master->count > 0)
            memcpy(all, master->services, master->count * sizeof(*all));
        master->services = all;
        *cap = larger;
    }
    return &master->services[master->count++];
}

static int
parse_file(struct parser *p, const char *path, struct slice content)
{
    struct cf_line line;
    unsigned number = 0;
    size_t cap = 0;

    p->master->path = arena_strdup(p->arena, path);
    while (cf_line_next(p->arena, &content, &number, &line)) {
        if (line.orphan)
            add_warning(p,
                        arena_printf(p->arena, "%s, line %u: logical line must not start with whitespace: \"%.*s\"",
                                     path, line.number, line.text.len > 30 ? 30 : (int)line.text.len, line.text.ptr));
        else if (parse_line(p, &line, add_service(p, p->master, &cap)) < 0)
            return err_context(p->err, "file %s: line %u", path, line.number);
    }
    return 0;
}

int
master_cf_parse(const struct conf *conf, struct arena *arena, const char *path, struct slice content,
                struct master_cf *master, struct err *err)
{
    struct parser p = {.arena = arena, .master = master, .err = err};
    *master = (struct master_cf){.count = 0};
    return load_defaults(conf, &p) < 0 ? -1 : parse_file(&p, path, content);
}

int
master_cf_read(struct arena *arena, const char *path, struct slice content, enum master_cf_rigour rigour,
               struct master_cf *master, struct err *err)
{
    struct parser p = {.arena = arena, .master = master, .rigour = rigour, .process_limit = 100, .err = err};
    *master = (struct master_cf){.count = 0};
    return parse_file(&p, path, content);
}

int
master_cf_load(const struct conf *conf, struct arena *arena, struct master_cf *master, struct err *err)
{
    const char *path = arena_printf(arena, "%s/master.cf", conf_directory(conf));
    struct slice content;
    if (cf_file_read(arena, path, &content, err) < 0)
        return -1;
    return master_cf_parse(conf, arena, path, content, master, err);
}

struct master_service *
master_cf_find(const struct master_cf *master, const char *name, const char *type)
{
    for (size_t i = 0; i < master->count; i++)
        if (strcmp(master->services[i].name, name) == 0 &&
            strcmp(master_type_name(master->services[i].type), type) == 0)
            return &master->services[i];
    return NULL;
}

/* --- addresses --- */

/* A container often has no /etc/services; mail's own ports work all the same. */
static const struct {
    const char *name;
    unsigned port;
} ports[] = {
    {"smtp", 25},  {"smtps", 465}, {"submissions", 465}, {"submission", 587}, {"lmtp", 24},   {"pop3", 110},
    {"imap", 143}, {"imaps", 993}, {"pop3s", 995},       {"qmqp", 628},       {"imap2", 143}, {"mail", 25},
};

int
master_port(const char *text, unsigned *port, struct err *err)
{
    unsigned long long number;
    if (slice_to_u64(slice_from(text), 65535, &number) == 0 && number > 0) {
        *port = (unsigned)number;
        return 0;
    }
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    if (!text_is_digit(*text) && getaddrinfo(NULL, text, &hints, &found) == 0) {
        *port = ntohs(((struct sockaddr_in *)(void *)found->ai_addr)->sin_port);
        freeaddrinfo(found);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(ports); i++)
        if (strcmp(ports[i].name, text) == 0) {
            *port = ports[i].port;
            return 0;
        }
    return err_set(err, ERR_PERM, "unknown service: %s/tcp", text);
}

static void
set_port(struct net_addr *addr, unsigned port)
{
    if (addr->any.sa_family == AF_INET)
        addr->in4.sin_port = htons((uint16_t)port);
    else
        addr->in6.sin6_port = htons((uint16_t)port);
}

/* inet_interfaces = all: one socket for each protocol. */
static void
use_wildcards(struct arena *arena, struct interfaces *found)
{
    found->addrs = arena_array(arena, 2, sizeof(*found->addrs));
    found->count = 0;
    if (found->ipv4)
        found->addrs[found->count++] = (struct net_addr){.len = sizeof(struct sockaddr_in), .in4.sin_family = AF_INET};
    if (found->ipv6)
        found->addrs[found->count++] =
            (struct net_addr){.len = sizeof(struct sockaddr_in6), .in6.sin6_family = AF_INET6};
}

int
master_service_addresses(const struct conf *conf, struct arena *arena, const struct master_service *service,
                         struct net_addr **addrs, size_t *count, struct err *err)
{
    struct interfaces found;
    unsigned port;
    check(service->type == SERVICE_INET);
    if (master_port(service->port, &port, err) < 0)
        return err_context(err, "service %s", service->name);
    int result = service->host ? interfaces_parse(conf, arena, service->host, &found, err)
                               : interfaces_load(conf, arena, &found, err);
    if (result < 0)
        return err_context(err, "service %s", service->name);
    if (found.all)
        use_wildcards(arena, &found);
    for (size_t i = 0; i < found.count; i++)
        set_port(&found.addrs[i], port);
    *addrs = found.addrs;
    *count = found.count;
    return 0;
}

bool
master_service_is_listed(const struct master_service *service, const char *list)
{
    struct slice rest = slice_from(list), word, name = slice_from(service->name);
    const char *type = master_type_name(service->type);
    while (slice_word(&rest, ", \t\r\n", &word)) {
        if (slice_equal_text(word, type))
            return true;
        if (word.len > name.len + 1 && memcmp(word.ptr, name.ptr, name.len) == 0 &&
            (word.ptr[name.len] == '.' || word.ptr[name.len] == '/') &&
            slice_equal_text(slice_make(word.ptr + name.len + 1, word.len - name.len - 1), type))
            return true;
    }
    return false;
}

/* --- printing --- */

enum { FOLD_COLUMN = 79 };

static void
pad_to(struct buf *out, size_t start, size_t column)
{
    do
        buf_append_byte(out, ' ');
    while (out->len - start < column);
}

static const char *
quoted(struct arena *arena, const char *argument)
{
    bool plain = *argument && !strpbrk(argument, blanks) && *argument != '{';
    return plain ? argument : arena_printf(arena, "{%s}", argument);
}

/* start: where the line begins in out. */
static void
print_arguments(const struct master_service *service, bool folded, size_t start, struct buf *out)
{
    struct arena *arena = arena_new();
    size_t options = option_words(service);
    bool after_option = false; /* an option has its line to itself */

    for (size_t i = 0; i < service->arg_count; i++) {
        const char *argument = service->args[i];
        bool option = i < options && strcmp(argument, "-o") == 0 && service->args[i + 1];
        const char *text =
            option ? arena_printf(arena, "-o %s", quoted(arena, service->args[++i])) : quoted(arena, argument);
        bool too_long = out->len - start + 1 + strlen(text) > FOLD_COLUMN;
        if (folded && (option || after_option || too_long) && *text != '#') { /* "#" would begin a comment */
            buf_append_byte(out, '\n');
            start = out->len;
            buf_append_text(out, "   ");
        }
        after_option = option;
        buf_append_byte(out, ' ');
        buf_append_text(out, text);
    }
    buf_append_byte(out, '\n');
    arena_free(&arena);
}

void
master_service_print(const struct master_service *service, bool folded, struct buf *out)
{
    static const size_t columns[MASTER_CF_FIELDS] = {0, 11, 17, 25, 33, 41, 49, 57};
    size_t start = out->len;

    for (unsigned i = 0; i < MASTER_CF_FIELDS; i++) {
        if (i > 0)
            pad_to(out, start, columns[i]);
        buf_append_text(out, service->fields[i]);
    }
    print_arguments(service, folded, start, out);
}

void
master_command_print(const struct master_service *service, bool folded, struct buf *out)
{
    size_t start = out->len;

    while (start > 0 && out->ptr[start - 1] != '\n')
        start--;
    buf_append_text(out, service->fields[MASTER_CF_FIELDS - 1]);
    print_arguments(service, folded, start, out);
}
