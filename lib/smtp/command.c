/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/smtp/command.h"

#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/text.h"
#include "lib/mail/addr.h"
#include "lib/mail/messages.h"

enum {
    ADDRESS_LIMIT = 2000, /* what messages between daemons carry */
    ENVID_LIMIT = 100,    /* RFC 3461 section 4.4 */
    ORCPT_LIMIT = 500,    /* section 4.2 */
};

struct smtp_command
smtp_command_split(struct slice line)
{
    struct slice rest = slice_trim(line);
    size_t len = 0;

    while (len < rest.len && !text_is_space(rest.ptr[len]))
        len++;
    return (struct smtp_command){.verb = slice_make(rest.ptr, len),
                                 .args = slice_trim(slice_make(rest.ptr + len, rest.len - len))};
}

/* ---- parameters: KEYWORD or KEYWORD=value ---- */

struct parameter {
    struct slice keyword, value;
    bool has_value;
};

static bool
next_parameter(struct slice *rest, struct parameter *parameter)
{
    struct slice word;

    if (!slice_word(rest, " \t", &word))
        return false;
    const char *equals = memchr(word.ptr, '=', word.len);
    parameter->has_value = equals != NULL;
    parameter->keyword = slice_make(word.ptr, equals ? (size_t)(equals - word.ptr) : word.len);
    parameter->value = equals ? slice_make(equals + 1, word.len - parameter->keyword.len - 1) : slice_make("", 0);
    return true;
}

static bool
is_keyword(const struct parameter *parameter, const char *keyword)
{
    return parameter->has_value && slice_equal_text_fold(parameter->keyword, keyword);
}

static int
refuse_option(struct arena *arena, const struct parameter *parameter, struct smtp_reply *refusal)
{
    *refusal = smtp_reply(arena, 555, "5.5.4", "Unsupported option: %.*s%s%.*s", SLICE_ARG(parameter->keyword),
                          parameter->has_value ? "=" : "", SLICE_ARG(parameter->value));
    return -1;
}

static int
refuse_value(struct arena *arena, const struct parameter *parameter, struct smtp_reply *refusal)
{
    *refusal = smtp_reply(arena, 501, "5.5.4", "Bad %.*s parameter syntax", SLICE_ARG(parameter->keyword));
    return -1;
}

/* xtext, decoded; nothing in it that could end a line or a record. */
static const char *
parse_xtext(struct arena *arena, struct slice value, size_t limit)
{
    struct buf out = {0};
    const char *result = NULL;

    if (value.len > 0 && value.len <= limit && text_xtext_decode(value, &out) == 0)
        result = arena_strndup(arena, out.len ? out.ptr : "", out.len);
    buf_release(&out);
    return result;
}

/* ---- the path ---- */

/* "FROM:" or "TO:", then a path. */
static int
parse_path(struct arena *arena, struct slice *args, const char *prefix, unsigned allow, const char **raw, bool *is_path)
{
    struct err err;

    *is_path = slice_starts_with_fold(*args, prefix);
    if (!*is_path)
        return -1;
    size_t len = strlen(prefix);
    struct slice rest = slice_make(args->ptr + len, args->len - len);
    if (!(allow & SMTP_STRICT))
        rest = slice_trim(rest);
    *is_path = rest.len > 0;
    if (!*is_path || addr_parse_path(arena, rest, allow & SMTP_STRICT, allow & SMTP_UTF8, raw, args, &err) < 0)
        return -1;
    bool fits = strlen(*raw) <= ADDRESS_LIMIT && ((allow & SMTP_UTF8) || !text_has_8bit(slice_from(*raw))) &&
                ((allow & SMTP_DASH) || **raw != '-');
    if (!fits)
        *raw = "";
    return fits ? 0 : -1;
}

/* ---- MAIL ---- */

static int
mail_parameter(struct arena *arena, unsigned allow, const struct parameter *p, struct smtp_mail *mail,
               struct smtp_reply *refusal)
{
    unsigned long long size;

    if (is_keyword(p, "SIZE")) {
        /* RFC 1870 section 5: up to 20 digits, which may be more than we can count. */
        if (p->value.len == 0 || p->value.len > 20 || slice_to_u64(p->value, UINT64_MAX, &size) < 0)
            return refuse_value(arena, p, refusal);
        mail->size = size > INT64_MAX ? INT64_MAX : (int64_t)size;
    } else if (is_keyword(p, "BODY")) {
        if (slice_equal_text_fold(p->value, "7BIT"))
            mail->body = "7bit";
        else if (slice_equal_text_fold(p->value, "8BITMIME"))
            mail->body = "8bit";
        else
            return refuse_value(arena, p, refusal);
    } else if ((allow & SMTP_AUTH) && is_keyword(p, "AUTH")) {
        mail->auth = parse_xtext(arena, p->value, ADDRESS_LIMIT);
        if (!mail->auth)
            return refuse_value(arena, p, refusal);
    } else if ((allow & SMTP_DSN) && is_keyword(p, "ENVID")) {
        mail->envid = parse_xtext(arena, p->value, ENVID_LIMIT);
        if (!mail->envid)
            return refuse_value(arena, p, refusal);
    } else if ((allow & SMTP_DSN) && is_keyword(p, "RET")) {
        mail->ret = slice_equal_text_fold(p->value, "FULL")   ? RET_FULL
                    : slice_equal_text_fold(p->value, "HDRS") ? RET_HEADERS
                                                              : 0;
        if (!mail->ret)
            return refuse_value(arena, p, refusal);
    } else if ((allow & SMTP_SMTPUTF8) && !p->has_value && slice_equal_text_fold(p->keyword, "SMTPUTF8")) {
        mail->smtputf8 = true;
    } else if ((allow & SMTP_XVERP) && slice_equal_text_fold(p->keyword, "XVERP")) {
        if (p->has_value && p->value.len == 0)
            return refuse_value(arena, p, refusal);
        mail->xverp = arena_strndup(arena, p->value.ptr, p->value.len);
    } else {
        return refuse_option(arena, p, refusal);
    }
    return 0;
}

int
smtp_parse_mail(struct arena *arena, struct slice args, unsigned allow, struct smtp_mail *mail,
                struct smtp_reply *refusal)
{
    struct parameter parameter;
    bool is_path;

    *mail = (struct smtp_mail){.sender = "", .body = "", .envid = ""};
    if (parse_path(arena, &args, "FROM:", allow, &mail->sender, &is_path) < 0) {
        *refusal = is_path ? smtp_reply(arena, 501, "5.1.7", "Bad sender address syntax")
                           : smtp_reply(arena, 501, "5.5.4", "Syntax: MAIL FROM:<address>");
        return -1;
    }
    while (next_parameter(&args, &parameter))
        if (mail_parameter(arena, allow, &parameter, mail, refusal) < 0)
            return -1;
    return 0;
}

/* ---- RCPT ---- */

static int
parse_notify(struct slice value)
{
    static const char *const words[] = {"NEVER", "SUCCESS", "FAILURE", "DELAY"};
    struct slice word;
    int notify = 0;

    while (slice_cut(&value, ',', &word)) {
        int bit = 0;
        for (unsigned i = 0; i < ARRAY_LEN(words); i++)
            if (slice_equal_text_fold(word, words[i]))
                bit = 1 << i;
        if (!bit)
            return 0;
        notify |= bit;
    }
    return (notify & NOTIFY_NEVER) && notify != NOTIFY_NEVER ? 0 : notify;
}

/* "type;xtext": RFC 3461 section 4.2. */
static const char *
parse_orcpt(struct arena *arena, struct slice value)
{
    const char *semicolon = value.len ? memchr(value.ptr, ';', value.len) : NULL;

    if (!semicolon || value.len > ORCPT_LIMIT)
        return NULL;
    struct slice type = slice_make(value.ptr, (size_t)(semicolon - value.ptr));
    for (size_t i = 0; i < type.len; i++)
        if (!text_is_alnum(type.ptr[i]) && type.ptr[i] != '-')
            return NULL;
    const char *address = parse_xtext(arena, slice_make(semicolon + 1, value.len - type.len - 1), ORCPT_LIMIT);
    return address && type.len ? arena_printf(arena, "%.*s;%s", SLICE_ARG(type), address) : NULL;
}

static int
rcpt_parameter(struct arena *arena, unsigned allow, const struct parameter *p, struct smtp_rcpt *rcpt,
               struct smtp_reply *refusal)
{
    if ((allow & SMTP_DSN) && is_keyword(p, "NOTIFY")) {
        rcpt->notify = parse_notify(p->value);
        if (!rcpt->notify)
            return refuse_value(arena, p, refusal);
    } else if ((allow & SMTP_DSN) && is_keyword(p, "ORCPT")) {
        rcpt->orcpt = parse_orcpt(arena, p->value);
        if (!rcpt->orcpt)
            return refuse_value(arena, p, refusal);
    } else {
        return refuse_option(arena, p, refusal);
    }
    return 0;
}

int
smtp_parse_rcpt(struct arena *arena, struct slice args, unsigned allow, struct smtp_rcpt *rcpt,
                struct smtp_reply *refusal)
{
    struct parameter parameter;
    bool is_path;

    *rcpt = (struct smtp_rcpt){.address = "", .orcpt = ""};
    if (parse_path(arena, &args, "TO:", allow, &rcpt->address, &is_path) < 0 && !is_path) {
        *refusal = smtp_reply(arena, 501, "5.5.4", "Syntax: RCPT TO:<address>");
        return -1;
    }
    if (!rcpt->address[0]) { /* malformed, or <> */
        *refusal = smtp_reply(arena, 501, "5.1.3", "Bad recipient address syntax");
        return -1;
    }
    while (next_parameter(&args, &parameter))
        if (rcpt_parameter(arena, allow, &parameter, rcpt, refusal) < 0)
            return -1;
    return 0;
}

/* ---- BDAT ---- */

int
smtp_parse_bdat(struct slice args, uint64_t *count, bool *last)
{
    struct slice word, more;
    unsigned long long n;

    if (!slice_word(&args, " \t", &word) || slice_to_u64(word, INT64_MAX, &n) < 0)
        return -1;
    *count = n;
    *last = slice_word(&args, " \t", &more);
    if (*last && !slice_equal_text_fold(more, "LAST"))
        return -1;
    return slice_trim(args).len == 0 ? 0 : -1;
}
