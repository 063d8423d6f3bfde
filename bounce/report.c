/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/report.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "lib/base/check.h"
#include "lib/base/text.h"
#include "lib/mail/addr.h"

enum { LINE = 78, LONGEST_WORD = 900, LONGEST_LINE = 990 };

/* What differs from kind to kind. */
static const struct wording {
    const char *to_postmaster; /* in place of the template's text, after the host's name; lines ended by '\n' */
    const char *original;      /* Content-Description */
} wordings[] = {
    [REPORT_FAILED] = {NULL, "Undelivered Message"},
    [REPORT_DELAYED] = {NULL, "Delayed Message"},
    [REPORT_SUCCESS] = {NULL, "Message"},
    [REPORT_VERIFY] = {NULL, "Message"},
    [REPORT_POSTMASTER_COPY] = {"A copy for the postmaster: the sender of this message was told that it did not\n"
                                "reach the recipients below.\n",
                                "Undelivered Message"},
    [REPORT_POSTMASTER_DELAY] = {"A copy for the postmaster: the sender of this message was told that it is late for\n"
                                 "the recipients below. It is still being tried.\n",
                                 "Delayed Message"},
    [REPORT_DOUBLE] = {"A notice could not be delivered itself. It has no sender who could be told,\n"
                       "so it comes to you.\n",
                       "Undelivered Message"},
};

/* ---- pieces ---- */

static const char *
date(struct arena *arena, usec_t wall)
{
    char *text = arena_alloc(arena, 64);

    clock_format_rfc5322(wall, text, 64);
    return text;
}

/* Text from outside in one line: control characters become '?', and so does what is not ASCII unless utf8. */
static const char *
clean(struct arena *arena, const char *text, bool utf8)
{
    char *copy = arena_strdup(arena, text);

    for (char *at = copy; *at; at++)
        if (*at == '\t')
            *at = ' ';
        else if ((unsigned char)*at < ' ' || *at == 127 || (!utf8 && (unsigned char)*at >= 128))
            *at = '?';
    return copy;
}

void
report_fold(const char *text, const char *indentation, struct buf *out)
{
    size_t column = 0, word;

    for (const char *at = text; *at; at += word) {
        bool blank = *at == ' ';
        word = blank ? 1 + strcspn(at + 1, " ") : strcspn(at, " ");
        if (word > LONGEST_WORD)
            word = LONGEST_WORD;
        if (at > text && column + word > LINE) {
            buf_append_text(out, "\r\n");
            buf_append_text(out, indentation);
            column = strlen(indentation);
            if (blank) {
                at++;
                word--;
            }
        }
        buf_append(out, at, word);
        column += word;
    }
}

/* LF to CRLF, dots at the beginnings of lines doubled; of CRs nothing is left. A line that is too long for SMTP is cut. */
static void
put_text(struct buf *out, const char *text)
{
    for (size_t column = 0; *text; text++) {
        if (*text == '\r')
            continue;
        if (column == LONGEST_LINE && *text != '\n') {
            buf_append_text(out, "\r\n");
            column = 0;
        }
        if (*text == '.' && column == 0)
            buf_append_byte(out, '.');
        column = *text == '\n' ? 0 : column + 1;
        if (*text == '\n')
            buf_append_byte(out, '\r');
        buf_append_byte(out, *text);
    }
}

/* ---- which characters it has ---- */

static bool
for_postmaster(const struct report *report)
{
    return wordings[report->kind].to_postmaster != NULL;
}

static const char *
charset(const struct report *report)
{
    const char *own = for_postmaster(report) ? "us-ascii" : report->template->charset;

    return report->utf8 && strcasecmp(own, "us-ascii") == 0 ? "utf-8" : own;
}

/* May the part for people hold UTF-8 addresses and replies? */
static bool
people_read_utf8(const struct report *report)
{
    return report->utf8 && strcasecmp(charset(report), "utf-8") == 0;
}

static bool
people_get_8bit(const struct report *report)
{
    return report->utf8 || (!for_postmaster(report) && text_has_8bit(slice_from(report->text)));
}

static void
put_boundary(const struct report *report, struct buf *out)
{
    buf_printf(out, "%s.%" PRId64 "/%s", report->original_id, report->now / SECONDS(1), report->myhostname);
}

static void
put_delimiter(const struct report *report, const char *end, struct buf *out)
{
    buf_append_text(out, "\r\n--");
    put_boundary(report, out);
    buf_printf(out, "%s\r\n", end);
}

/* ---- the notice's own header ---- */

/* A header of the template, folded where it is long. */
static void
put_from_outside(struct buf *out, const char *name, const char *value)
{
    struct arena *arena = arena_new();

    report_fold(arena_printf(arena, "%s: %s", name, clean(arena, value, false)), "    ", out);
    buf_append_text(out, "\r\n");
    arena_free(&arena);
}

static void
put_header(const struct report *report, struct arena *arena, struct buf *out)
{
    buf_printf(out, "Received: by %s (%s)\r\n\tid %s; %s\r\n", report->myhostname, report->mail_name, report->id,
               date(arena, report->now));
    buf_printf(out, "Date: %s\r\n", date(arena, report->now));
    put_from_outside(out, "From", report->template->from);
    put_from_outside(out, "Subject",
                     for_postmaster(report) ? report->template->postmaster_subject : report->template->subject);
    buf_printf(out, "To: %s\r\n", clean(arena, addr_quote(arena, report->to), report->utf8));
    if (*report->message_id) {
        const char *id = clean(arena, report->message_id, report->utf8);
        buf_printf(out, "References: %s\r\nIn-Reply-To: %s\r\n", id, id);
    }
    buf_append_text(out, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
    buf_printf(out, "Content-Type: multipart/report; report-type=%sdelivery-status;\r\n\tboundary=\"",
               report->utf8 ? "global-" : "");
    put_boundary(report, out);
    buf_printf(out, "\"\r\nContent-Transfer-Encoding: %s\r\n", report_is_8bit(report) ? "8bit" : "7bit");
    buf_printf(out, "Message-Id: <%" PRId64 ".%s@%s>\r\n", report->now / SECONDS(1), report->id, report->myhostname);
    buf_append_text(out, "\r\nThis is a MIME-encapsulated message.\r\n");
}

/* ---- the part for people ---- */

static void
put_reason(const struct report *report, const struct bounce_recipient *recipient, struct arena *arena, struct buf *out)
{
    const char *address = addr_quote(arena, recipient->address), *original = addr_quote(arena, recipient->original);
    const char *expanded = "";

    if (*original && strcasecmp(original, address) != 0)
        expanded = arena_printf(arena, " (expanded from <%s>)", original);
    report_fold(
        clean(arena, arena_printf(arena, "<%s>%s: %s", address, expanded, recipient->reason), people_read_utf8(report)),
        "    ", out);
    buf_append_text(out, "\r\n\r\n");
}

static void
put_for_people(const struct report *report, struct arena *arena, struct buf *out)
{
    const char *encoding = people_get_8bit(report) ? "Content-Transfer-Encoding: 8bit\r\n" : "";

    put_delimiter(report, "", out);
    buf_printf(out, "Content-Description: Notification\r\nContent-Type: text/plain; charset=%s\r\n%s\r\n",
               clean(arena, charset(report), false), encoding);
    if (for_postmaster(report))
        buf_printf(out, "This is the mail system at host %s.\r\n\r\n", report->myhostname);
    put_text(out, for_postmaster(report) ? wordings[report->kind].to_postmaster : report->text);
    buf_append_text(out, "\r\n");
    for (size_t i = 0; i < report->recipient_count; i++)
        put_reason(report, &report->recipients[i], arena, out);
}

/* ---- the part for programs ---- */

static void
put_field(struct buf *out, const char *name, const char *type, const char *value)
{
    struct buf text = {0};

    if (*type)
        buf_printf(&text, "%s: %s; %s", name, type, value);
    else
        buf_printf(&text, "%s: %s", name, value);
    report_fold(buf_text(&text), "    ", out);
    buf_append_text(out, "\r\n");
    buf_release(&text);
}

static void
put_address(const struct report *report, struct arena *arena, const char *name, const char *raw, struct buf *out)
{
    put_field(out, name, report->utf8 ? "utf-8" : "rfc822", clean(arena, addr_quote(arena, raw), report->utf8));
}

/* ORCPT "rfc822;user@example.com" is written as it was given. */
static void
put_original(const struct report *report, const struct bounce_recipient *recipient, struct arena *arena,
             struct buf *out)
{
    if (*recipient->dsn_original)
        put_field(out, "Original-Recipient", "", clean(arena, recipient->dsn_original, report->utf8));
    else if (*recipient->original)
        put_field(out, "Original-Recipient", "",
                  arena_printf(arena, "rfc822;%s", clean(arena, addr_quote(arena, recipient->original), report->utf8)));
}

static void
put_recipient(const struct report *report, const struct bounce_recipient *recipient, struct arena *arena,
              struct buf *out)
{
    buf_append_text(out, "\r\n");
    put_address(report, arena, "Final-Recipient", recipient->address, out);
    put_original(report, recipient, arena, out);
    put_field(out, "Action", "", clean(arena, recipient->action, false));
    put_field(out, "Status", "", clean(arena, *recipient->status ? recipient->status : "5.0.0", false));
    if (*recipient->mta_type && *recipient->mta_name)
        put_field(out, "Remote-MTA", recipient->mta_type, clean(arena, recipient->mta_name, report->utf8));
    if (*recipient->diag_type && *recipient->diag_text)
        put_field(out, "Diagnostic-Code", recipient->diag_type, clean(arena, recipient->diag_text, report->utf8));
    else
        put_field(out, "Diagnostic-Code", "X-Postfix", clean(arena, recipient->reason, report->utf8));
    if (report->kind == REPORT_DELAYED)
        put_field(out, "Will-Retry-Until", "", date(arena, SECONDS(report->expires)));
}

static void
put_for_programs(const struct report *report, struct arena *arena, struct buf *out)
{
    put_delimiter(report, "", out);
    buf_printf(out, "Content-Description: Delivery report\r\nContent-Type: message/%sdelivery-status\r\n%s\r\n",
               report->utf8 ? "global-" : "", report->utf8 ? "Content-Transfer-Encoding: 8bit\r\n" : "");
    put_field(out, "Reporting-MTA", "dns", report->myhostname);
    if (*report->envelope_id)
        put_field(out, "Original-Envelope-Id", "", clean(arena, report->envelope_id, false));
    put_field(out, "X-Postfix-Queue-ID", "", report->original_id);
    if (*report->sender)
        put_address(report, arena, "X-Postfix-Sender", report->sender, out);
    put_field(out, "Arrival-Date", "", date(arena, report->arrival));
    for (size_t i = 0; i < report->recipient_count; i++)
        put_recipient(report, &report->recipients[i], arena, out);
}

/* ---- the original ---- */

static const char *
original_type(const struct report *report)
{
    if (report->headers_only)
        return report->utf8 ? "message/global-headers" : "text/rfc822-headers";
    return report->utf8 ? "message/global" : "message/rfc822";
}

bool
report_is_8bit(const struct report *report)
{
    return report->is_8bit || people_get_8bit(report);
}

void
report_begin(const struct report *report, struct buf *out)
{
    struct arena *arena = arena_new();

    check((size_t)report->kind < ARRAY_LEN(wordings));
    put_header(report, arena, out);
    put_for_people(report, arena, out);
    put_for_programs(report, arena, out);
    put_delimiter(report, "", out);
    buf_printf(out, "Content-Description: %s%s\r\nContent-Type: %s\r\n", wordings[report->kind].original,
               report->headers_only ? " Headers" : "", original_type(report));
    if (report->is_8bit || report->utf8)
        buf_append_text(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_printf(out, "\r\nReturn-Path: <%s>\r\n",
               *report->sender ? clean(arena, addr_quote(arena, report->sender), report->utf8) : "");
    arena_free(&arena);
}

void
report_end(const struct report *report, struct buf *out)
{
    put_delimiter(report, "--", out);
}
