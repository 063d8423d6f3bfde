/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/mail/bounce_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/text.h"
#include "lib/mail/addr.h"

enum { LOG_LIMIT = 64 << 20 }; /* bytes of a log that are read */

/* ---- writing ---- */

static void
put_text(struct buf *out, const char *text)
{
    for (; *text; text++)
        buf_append_byte(out, (unsigned char)*text < ' ' || *text == 127 ? '?' : *text);
}

static void
put_field(struct buf *out, const char *name, const char *value)
{
    if (!*value)
        return;
    buf_append_text(out, name);
    buf_append_byte(out, '=');
    put_text(out, value);
    buf_append_byte(out, '\n');
}

static bool
differ_but_for_case(const char *a, const char *b)
{
    return !slice_equal_fold(slice_from(a), slice_from(b));
}

void
bounce_log_format(const struct bounce_log_entry *entry, bool with_old_form, struct buf *out)
{
    struct arena *arena = arena_new();
    const char *quoted = addr_quote(arena, entry->recipient);

    buf_append_byte(out, '\n');
    if (with_old_form) {
        buf_append_byte(out, '<');
        put_text(out, quoted);
        buf_append_text(out, ">: ");
        put_text(out, entry->reason);
        buf_append_byte(out, '\n');
    }
    put_field(out, "recipient", *quoted ? quoted : "<>");
    if (*entry->original && differ_but_for_case(entry->original, entry->recipient))
        put_field(out, "original_recipient", addr_quote(arena, entry->original));
    if (entry->offset > 0)
        buf_printf(out, "offset=%" PRId64 "\n", entry->offset);
    put_field(out, "dsn_orig_rcpt", entry->dsn_original);
    if (entry->notify)
        buf_printf(out, "notify_flags=%" PRId64 "\n", entry->notify);
    put_field(out, "status", entry->status);
    put_field(out, "action", entry->action);
    put_field(out, "diag_type", entry->diag_type);
    put_field(out, "diag_text", entry->diag_text);
    put_field(out, "mta_type", entry->mta_type);
    put_field(out, "mta_mname", entry->mta_name);
    put_field(out, "reason", entry->reason);
    buf_append_byte(out, '\n');
    arena_free(&arena);
}

static int
write_all(int fd, struct slice bytes, struct err *err)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "write");
        bytes = slice_make(bytes.ptr + n, bytes.len - (size_t)n);
    }
    return 0;
}

static int
put_entries(int dir_fd, const char *path, int how, const struct bounce_log_entry *entries, size_t count,
            bool with_old_form, struct err *err)
{
    struct buf text = {0};
    int fd = openat(dir_fd, path, O_WRONLY | O_CREAT | how | O_NOFOLLOW | O_CLOEXEC, 0600);
    int result;

    if (fd < 0)
        return err_errno(err, "open %s", path);
    for (size_t i = 0; i < count; i++)
        bounce_log_format(&entries[i], with_old_form, &text);
    result = write_all(fd, buf_slice(&text), err);
    if (result == 0 && fsync(fd) < 0)
        result = err_errno(err, "fsync");
    if (result < 0)
        err_context(err, "%s", path);
    close(fd);
    buf_release(&text);
    return result;
}

/* The old log goes first, so that a file that is there holds the last attempt, or its beginning. */
int
bounce_log_write(int dir_fd, const char *path, const struct bounce_log_entry *entries, size_t count, bool with_old_form,
                 struct err *err)
{
    return put_entries(dir_fd, path, O_TRUNC, entries, count, with_old_form, err);
}

int
bounce_log_append(int dir_fd, const char *path, const struct bounce_log_entry *entries, size_t count,
                  bool with_old_form, struct err *err)
{
    return put_entries(dir_fd, path, O_APPEND, entries, count, with_old_form, err);
}

/* ---- reading ---- */

/* A raw address from its quoted form. */
static const char *
unquoted(struct arena *arena, struct slice value)
{
    const char *raw;
    struct slice rest;
    char *bracketed;

    if (value.len == 0 || slice_equal_text(value, "<>"))
        return "";
    bracketed = arena_printf(arena, "<%.*s>", SLICE_ARG(value));
    if (addr_parse_path(arena, slice_from(bracketed), false, true, &raw, &rest, NULL) == 0)
        return raw;
    return arena_strndup(arena, value.ptr, value.len);
}

static int64_t
number(struct slice value)
{
    unsigned long long n;

    return slice_to_u64(value, INT64_MAX, &n) == 0 ? (int64_t)n : 0;
}

static void
take_field(struct arena *arena, struct bounce_log_entry *entry, struct slice name, struct slice value)
{
    const struct {
        const char *name;
        const char **text;
    } texts[] = {
        {"dsn_orig_rcpt", &entry->dsn_original}, {"status", &entry->status},       {"action", &entry->action},
        {"diag_type", &entry->diag_type},        {"diag_text", &entry->diag_text}, {"mta_type", &entry->mta_type},
        {"mta_mname", &entry->mta_name},         {"reason", &entry->reason},
    };

    if (slice_equal_text(name, "recipient"))
        entry->recipient = unquoted(arena, value);
    else if (slice_equal_text(name, "original_recipient"))
        entry->original = unquoted(arena, value);
    else if (slice_equal_text(name, "offset"))
        entry->offset = number(value);
    else if (slice_equal_text(name, "notify_flags"))
        entry->notify = number(value) & 15;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (slice_equal_text(name, texts[i].name))
            *texts[i].text = arena_strndup(arena, value.ptr, value.len);
}

/* "<user@example.com>: reason" */
static void
take_old_form(struct arena *arena, struct bounce_log_entry *entry, struct slice line)
{
    for (size_t i = 1; i + 2 < line.len; i++)
        if (line.ptr[i] == '>' && line.ptr[i + 1] == ':' && line.ptr[i + 2] == ' ') {
            entry->recipient = unquoted(arena, slice_make(line.ptr + 1, i - 1));
            entry->reason = arena_strndup(arena, line.ptr + i + 3, line.len - i - 3);
            return;
        }
}

static void
take_line(struct arena *arena, struct bounce_log_entry *entry, struct slice line)
{
    struct slice name;

    if (*line.ptr == '<') {
        take_old_form(arena, entry, line);
        return;
    }
    if (!slice_has_byte(line, '='))
        return;
    if (slice_cut(&line, '=', &name))
        take_field(arena, entry, slice_trim(name), slice_trim(line));
}

struct bounce_log_entry *
bounce_log_parse(struct arena *arena, struct slice text, const char *status, const char *action, size_t *count)
{
    const struct bounce_log_entry empty = {NULL, "", 0, "", 0, status, action, "", "", "", "", ""};
    struct bounce_log_entry entry = empty, *entries = NULL;
    size_t size = 0;
    struct slice line = {0};

    *count = 0;
    for (bool more = true; more;) {
        more = slice_cut(&text, '\n', &line);
        if (more && slice_trim(line).len > 0) {
            take_line(arena, &entry, line);
            continue;
        }
        if (entry.recipient) {
            if (*count == size) {
                struct bounce_log_entry *larger = arena_array(arena, size ? 2 * size : 4, sizeof(*entries));
                if (size > 0)
                    memcpy(larger, entries, size * sizeof(*entries));
                entries = larger;
                size = size ? 2 * size : 4;
            }
            entries[(*count)++] = entry;
        }
        entry = empty;
    }
    return entries;
}

int
bounce_log_read(int dir_fd, const char *path, struct arena *arena, const char *status, const char *action,
                struct bounce_log_entry **entries, size_t *count, struct err *err)
{
    struct buf text = {0};
    int fd = openat(dir_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n;

    *entries = NULL;
    *count = 0;
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, "open %s", path);
    while ((n = read(fd, buf_reserve(&text, 16384), 16384)) > 0 && text.len < LOG_LIMIT)
        buf_added(&text, (size_t)n);
    if (n < 0)
        err_errno(err, "read %s", path);
    else
        *entries = bounce_log_parse(arena, buf_slice(&text), status, action, count);
    close(fd);
    buf_release(&text);
    return n < 0 ? -1 : 0;
}
