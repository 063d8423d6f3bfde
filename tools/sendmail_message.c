/* SPDX-License-Identifier: Apache-2.0 */
/* A message goes from standard input into memory, from there as records into a file without a name, and that is postdrop's
 * standard input; then this process becomes postdrop. So a script pays for no fork, and postdrop's exit status is its own. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/addr_list.h"
#include "lib/mail/messages.h"
#include "lib/mail/queue_record.h"
#include "tools/sendmail.h"

enum { BLOCK = 64 * 1024, LINE_LIMIT = 2048, ADDRESS_LIMIT = 2048 };

struct submission {
    const struct sendmail *s;
    struct buf records;
    struct buf to_extract; /* values of recipient headers, divided by commas */
    bool has_resent;
    size_t recipients;
};

/* ---- who sends ---- */

static const struct passwd *
user(const struct sendmail *s)
{
    const struct passwd *pw = getpwuid(getuid());

    if (!pw) {
        fatal_set_status(EX_OSERR);
        fatal("unable to find out your login name (uid %ld); %s -f says who sends", (long)getuid(), s->name);
    }
    return pw;
}

static const char *
only_address(const struct sendmail *s, const char *text)
{
    struct slice rest = slice_from(text);
    const char *address, *more;

    if (!addr_list_next(s->arena, &rest, &address))
        return "";
    if (addr_list_next(s->arena, &rest, &more))
        fatal("-f option specifies a malformed sender: %.100s", text);
    return address;
}

/* The text of passwd's field up to the first comma; '&' stands for the login name. */
static const char *
gecos_name(const struct sendmail *s, const struct passwd *pw)
{
    struct buf name = {0};
    const char *text;

    for (const char *at = pw->pw_gecos; at && *at && *at != ','; at++) {
        if (*at != '&') {
            buf_append_byte(&name, *at);
        } else {
            buf_append_text(&name, pw->pw_name);
            if (text_is_alpha(name.ptr[name.len - strlen(pw->pw_name)]))
                name.ptr[name.len - strlen(pw->pw_name)] &= '\xdf';
        }
    }
    text = arena_strndup(s->arena, name.ptr ? name.ptr : "", name.len);
    buf_release(&name);
    return text;
}

static const char *
full_name(const struct sendmail *s)
{
    const char *name = s->full_name ? s->full_name : getenv("NAME");
    const struct passwd *pw;
    char *text;

    if (!name) {
        pw = getpwuid(getuid());
        name = pw ? gecos_name(s, pw) : "";
    }
    text = arena_strdup(s->arena, name);
    text_printable(text, strlen(text), '?', true);
    return text;
}

/* ---- records ---- */

static void
put(struct submission *m, unsigned char type, const char *text)
{
    queue_record_put(&m->records, type, slice_from(text));
}

static void
put_attribute(struct submission *m, const char *name, const char *value)
{
    put(m, REC_ATTRIBUTE, arena_printf(m->s->arena, "%s=%s", name, value));
}

static void
put_number(struct submission *m, const char *name, int64_t value)
{
    if (value)
        put_attribute(m, name, arena_printf(m->s->arena, "%" PRId64, value));
}

static const char *
checked(struct submission *m, const char *address)
{
    if (strlen(address) > ADDRESS_LIMIT)
        fatal("address is too long: %.100s...", address);
    for (const char *at = address; *at; at++)
        if (*at == '\n' || *at == '\r')
            fatal("address with a line break: %.100s", address);
    (void)m;
    return address;
}

static void
put_recipient(struct submission *m, const char *address)
{
    put_number(m, "notify_flags", m->s->notify);
    put(m, REC_RECIPIENT, checked(m, address));
    m->recipients++;
}

static void
put_recipients(struct submission *m, struct slice list)
{
    const char *address;

    while (addr_list_next(m->s->arena, &list, &address))
        put_recipient(m, address);
}

static void
put_envelope(struct submission *m)
{
    const struct sendmail *s = m->s;

    if (*s->envelope_id)
        put_attribute(m, "envelope_id", s->envelope_id);
    put_number(m, "ret_flags", s->ret);
    put_attribute(m, "rewrite_context", s->is_gateway ? "remote" : "local");
    put(m, REC_FULL_NAME, full_name(s));
    put(m, REC_SENDER, s->sender ? checked(m, only_address(s, s->sender)) : user(s)->pw_name);
    if (*s->encoding)
        put_attribute(m, "encoding", s->encoding);
    put_number(m, "trace_flags", s->trace);
    if (s->verp)
        put(m, REC_VERP, s->verp);
    for (char **at = s->recipients; *at; at++)
        put_recipients(m, slice_from(*at));
}

/* ---- content ---- */

static void
put_line(struct submission *m, struct slice line, bool ended)
{
    while (line.len > LINE_LIMIT) {
        queue_record_put(&m->records, REC_TEXT_PART, slice_make(line.ptr, LINE_LIMIT));
        line = slice_make(line.ptr + LINE_LIMIT, line.len - LINE_LIMIT);
    }
    queue_record_put(&m->records, ended ? REC_TEXT : REC_TEXT_PART, line);
}

static bool
is_field(struct slice line)
{
    size_t n = 0;

    while (n < line.len && line.ptr[n] > ' ' && line.ptr[n] < 127 && line.ptr[n] != ':')
        n++;
    while (n > 0 && n < line.len && text_is_space(line.ptr[n]))
        n++;
    return n > 0 && n < line.len && line.ptr[n] == ':';
}

static bool
is_named(struct slice line, const char *name)
{
    size_t len = strlen(name);

    if (!slice_starts_with_fold(line, name))
        return false;
    while (len < line.len && text_is_space(line.ptr[len]))
        len++;
    return len < line.len && line.ptr[len] == ':';
}

/* Recipients of a message that is sent again are those of the Resent- fields alone. */
static void
note_field(struct submission *m, struct slice field)
{
    static const char *const names[] = {"to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc"};
    const char *colon = memchr(field.ptr, ':', field.len);

    for (unsigned i = 0; colon && i < ARRAY_LEN(names); i++) {
        bool is_resent = i >= 3;

        if (!is_named(field, names[i]))
            continue;
        if (is_resent && !m->has_resent)
            buf_clear(&m->to_extract);
        m->has_resent = m->has_resent || is_resent;
        if (is_resent == m->has_resent) {
            buf_append(&m->to_extract, colon + 1, (size_t)(field.ptr + field.len - colon - 1));
            buf_append_byte(&m->to_extract, ',');
        }
    }
}

/* The header section up to where it ends: recipient fields are noted whole, with the lines that go on with them. */
static void
scan_header(struct submission *m, struct slice text)
{
    struct slice field = {text.ptr, 0};

    while (text.len > 0) {
        const char *lf = memchr(text.ptr, '\n', text.len);
        size_t len = lf ? (size_t)(lf - text.ptr) : text.len;
        struct slice line = slice_make(text.ptr, len);
        bool goes_on = len > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t');

        if (!goes_on) {
            if (field.len > 0)
                note_field(m, field);
            if (!is_field(line))
                return;
            field = line;
        } else {
            field.len = (size_t)(line.ptr + len - field.ptr);
        }
        text = slice_make(text.ptr + len + (lf != NULL), text.len - len - (lf != NULL));
    }
    if (field.len > 0)
        note_field(m, field);
}

/* Lines that a mailbox put in front are not part of the message. */
static void
skip_from_lines(struct slice *text)
{
    while (text->len > 5 && (memcmp(text->ptr, "From ", 5) == 0 || memcmp(text->ptr, ">From", 5) == 0)) {
        const char *lf = memchr(text->ptr, '\n', text->len);
        size_t len = lf ? (size_t)(lf - text->ptr) + 1 : text->len;

        *text = slice_make(text->ptr + len, text->len - len);
    }
}

static void
put_content(struct submission *m, struct slice text)
{
    while (text.len > 0) {
        const char *lf = memchr(text.ptr, '\n', text.len);
        size_t len = lf ? (size_t)(lf - text.ptr) : text.len;

        put_line(m, slice_make(text.ptr, len), lf != NULL);
        text = slice_make(text.ptr + len + (lf != NULL), text.len - len - (lf != NULL));
    }
}

/* ---- standard input ---- */

static void
read_input(const struct sendmail *s, struct buf *text)
{
    int64_t limit = s->settings.message_size_limit;
    ssize_t n;

    while ((n = read(STDIN_FILENO, buf_reserve(text, BLOCK), BLOCK)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            fatal_set_status(EX_DATAERR);
            fatal("error reading input: %m");
        }
        buf_added(text, (size_t)n);
        if (limit && text->len > 2 * (size_t)limit)
            break; /* CR LF and the like cannot make up for that */
    }
}

/* In place: CR LF becomes LF where settings say so, and a line with only a dot ends the message. */
static void
edit_input(const struct sendmail *s, struct buf *text)
{
    const char *fix = s->settings.sendmail_fix_line_endings;
    bool fixes = strcasecmp(fix, "always") == 0;
    char *to = text->ptr, *from = text->ptr, *end = text->ptr + text->len;
    const char *first = text->len ? memchr(from, '\n', text->len) : NULL;

    if (strcasecmp(fix, "strict") == 0)
        fixes = first && first > from && first[-1] == '\r';
    while (from < end) {
        char *lf = memchr(from, '\n', (size_t)(end - from));
        size_t len = (size_t)((lf ? lf : end) - from), next = len + (lf != NULL);

        if (lf && fixes && len > 0 && from[len - 1] == '\r')
            len--;
        if (!s->ignore_dots && lf && len == 1 && *from == '.')
            break;
        memmove(to, from, len);
        to += len;
        if (lf)
            *to++ = '\n';
        from += next;
    }
    text->len = (size_t)(to - text->ptr);
}

static void
check_size(const struct sendmail *s, size_t size)
{
    if (s->settings.message_size_limit && size > (size_t)s->settings.message_size_limit) {
        fatal_set_status(EX_UNAVAILABLE);
        fatal("%s(%ld): message file too big", s->sender ? s->sender : "", (long)getuid());
    }
}

/* ---- on to postdrop ---- */

static NORETURN void
become_postdrop(struct submission *m)
{
    int fd = memfd_create("message", MFD_CLOEXEC), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct buf *out = &m->records;

    fatal_set_status(EX_TEMPFAIL);
    if (fd < 0 || null < 0)
        fatal("no place for the message: %m");
    while (out->len > 0) {
        ssize_t n = write(fd, out->ptr, out->len);

        if (n < 0 && errno != EINTR)
            fatal("no place for the message: %m");
        if (n > 0)
            buf_consume(out, (size_t)n);
    }
    if (lseek(fd, 0, SEEK_SET) < 0 || dup2(fd, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        fatal("standard input: %m");
    sendmail_execute(m->s, (const char *const[]){"postdrop", "-r", NULL});
}

static void
put_probe(struct submission *m)
{
    put(m, REC_TEXT, "Subject: probe");
    put(m, REC_TEXT, "");
}

void
sendmail_submit(const struct sendmail *s)
{
    struct submission m = {.s = s};
    struct buf input = {0};
    struct slice text = {"", 0};

    if (!s->extract_recipients && !*s->recipients)
        fatal("Recipient addresses must be specified on the command line or via the -t option");
    put_envelope(&m);
    put(&m, REC_CONTENT, "");
    if (s->is_verification) {
        put_probe(&m);
    } else {
        read_input(s, &input);
        edit_input(s, &input);
        check_size(s, input.len);
        text = slice_make(input.ptr ? input.ptr : "", input.len);
        skip_from_lines(&text);
        put_content(&m, text);
    }
    put(&m, REC_EXTRACTED, "");
    if (s->extract_recipients) {
        scan_header(&m, text);
        put_recipients(&m, buf_slice(&m.to_extract));
    }
    if (m.recipients == 0)
        fatal(s->extract_recipients ? "No recipient addresses found in message header" : "Recipient addresses are empty");
    put(&m, REC_END, "");
    become_postdrop(&m);
}
