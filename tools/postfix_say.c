/* SPDX-License-Identifier: Apache-2.0 */
/* What the postfix command tells: to the log and to standard error, or as JSON. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "tools/json.h"
#include "tools/postfix_command.h"

/* To standard error as "postfix/postfix-script: text", too, unless that is where the log goes. */
static bool log_is_output;

/* -j: findings are JSON on standard output instead, and don't go to the log. */
static bool is_json;

void
say_json(void)
{
    is_json = true;
}

void
say_by_log_alone(void)
{
    log_is_output = true;
}

static void
tell_json(const char *level, const char *text)
{
    struct buf out = {0};
    json_begin(&out);
    json_member(&out, "level", level);
    json_member(&out, "text", text);
    json_end(&out);
    fputs(buf_text(&out), stdout);
    buf_release(&out);
}

static void tell(enum log_level level, const char *prefix, const char *fmt, va_list args) PRINTF_LIKE(3, 0);

static void
tell(enum log_level level, const char *prefix, const char *fmt, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof(text), fmt, args);
    if (is_json) {
        tell_json(level == LOG_LEVEL_INFO ? "info" : level == LOG_LEVEL_WARNING ? "warning" : "fatal", text);
        return;
    }
    log_line(level, text);
    log_flush();
    if (!log_is_output)
        fprintf(stderr, "postfix/postfix-script: %s%s\n", prefix, text);
}

void
say(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    tell(LOG_LEVEL_INFO, "", fmt, args);
    va_end(args);
}

void
say_warning(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    tell(LOG_LEVEL_WARNING, "warning: ", fmt, args);
    va_end(args);
}

void
say_fatal(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    tell(LOG_LEVEL_FATAL, "fatal: ", fmt, args);
    va_end(args);
}

static bool
is_allowed_log(const struct control *c, const char *file)
{
    struct slice rest = slice_from(c->settings.maillog_file_prefixes), prefix;
    while (slice_word(&rest, ", \t", &prefix))
        if (strlen(file) >= prefix.len && memcmp(file, prefix.ptr, prefix.len) == 0)
            return true;
    return false;
}

void
open_log(struct control *c)
{
    const char *file = c->settings.maillog_file;
    log_init(arena_printf(c->arena, "%s/postfix-script", c->settings.syslog_name));
    if (!*file) {
        log_to_syslog(c->settings.syslog_facility);
        return;
    }
    if (log_to_postlog(
            arena_printf(c->arena, "%s/public/%s", c->settings.queue_directory, c->settings.postlog_service_name)) == 0)
        return;
    /* postlogd does not run: only before a start and after a stop. */
    int fd = is_allowed_log(c, file) ? open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600) : -1;
    if (fd < 0) {
        log_to_syslog(c->settings.syslog_facility);
        return;
    }
    log_to_fd(fd, true);
    struct stat log_file, error_output;
    log_is_output = fstat(fd, &log_file) == 0 && fstat(STDERR_FILENO, &error_output) == 0 &&
                    log_file.st_dev == error_output.st_dev && log_file.st_ino == error_output.st_ino;
}
