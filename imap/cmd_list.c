/* SPDX-License-Identifier: Apache-2.0 */
/* LIST with its extensions (RFC 5258, 5819, 6154), LSUB. */
#include <string.h>

#include "imap/session.h"
#include "imap/status.h"
#include "lib/imap/output.h"

struct list_request {
    bool subscribed, remote, recursive, special; /* selection options */
    bool return_subscribed, return_children, return_special, return_rights;
    unsigned status; /* items */
    const char **patterns;
    size_t pattern_count;
    bool extended;
};

/* Matches with "*" for anything and "%" for anything but the separator. Not recursive: remembers the last star. */
static bool
matches(const char *pattern, const char *name)
{
    const char *star = NULL, *star_name = NULL, *percent = NULL, *percent_name = NULL;
    for (;;) {
        if (*pattern == '*') {
            star = ++pattern;
            star_name = name;
            percent = NULL;
        } else if (*pattern == '%') {
            percent = ++pattern;
            percent_name = name;
        } else if (*name && *pattern == *name) {
            pattern++;
            name++;
        } else if (!*name && !*pattern) {
            return true;
        } else if (percent && *percent_name && *percent_name != MAILBOX_SEPARATOR) {
            pattern = percent;
            name = ++percent_name;
        } else if (star && *star_name) {
            pattern = star;
            name = ++star_name;
            percent = NULL;
        } else {
            return false;
        }
    }
}

static bool
matches_any(const struct list_request *r, const char *name)
{
    for (size_t i = 0; i < r->pattern_count; i++)
        if (matches(r->patterns[i], name))
            return true;
    return false;
}

static bool
is_in(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* ---- parsing ---- */

static int
selection_options(struct session *s, struct list_request *r)
{
    if (imap_take(&s->in, '(') < 0)
        return -1;
    r->extended = true;
    while (!imap_at(&s->in, ')')) {
        if (imap_keyword(&s->in, "SUBSCRIBED"))
            r->subscribed = r->return_subscribed = true;
        else if (imap_keyword(&s->in, "REMOTE"))
            r->remote = true;
        else if (imap_keyword(&s->in, "RECURSIVEMATCH"))
            r->recursive = true;
        else if (imap_keyword(&s->in, "SPECIAL-USE"))
            r->special = true;
        else
            return imap_fail(&s->in, "unknown selection option");
        if (!imap_at(&s->in, ')') && imap_space(&s->in) < 0)
            return -1;
    }
    if (r->recursive && !r->subscribed)
        return imap_fail(&s->in, "RECURSIVEMATCH alone");
    return imap_take(&s->in, ')');
}

static int
return_options(struct session *s, struct list_request *r)
{
    if (imap_take(&s->in, '(') < 0)
        return -1;
    while (!imap_at(&s->in, ')')) {
        if (imap_keyword(&s->in, "SUBSCRIBED"))
            r->return_subscribed = true;
        else if (imap_keyword(&s->in, "CHILDREN"))
            r->return_children = true;
        else if (imap_keyword(&s->in, "SPECIAL-USE"))
            r->return_special = true;
        else if (imap_keyword(&s->in, "MYRIGHTS"))
            r->return_rights = true;
        else if (imap_keyword(&s->in, "STATUS")) {
            if (imap_space(&s->in) < 0 || status_items(s, &r->status) < 0)
                return -1;
        } else
            return imap_fail(&s->in, "unknown return option");
        if (!imap_at(&s->in, ')') && imap_space(&s->in) < 0)
            return -1;
    }
    return imap_take(&s->in, ')');
}

/* Reference and pattern joined; in UTF-8. */
static int
take_pattern(struct session *s, struct slice reference, struct list_request *r)
{
    struct slice wire;
    struct buf joined = {0}, name = {0};
    if (imap_list_mailbox(&s->in, &wire) < 0)
        return -1;
    buf_append_slice(&joined, reference);
    buf_append_slice(&joined, wire);
    bool good = true;
    if (s->utf8)
        buf_append_slice(&name, buf_slice(&joined));
    else
        good = imap_utf7_to_utf8(buf_slice(&joined), &name);
    if (good) {
        char *pattern = arena_strdup(s->cmd, buf_text(&name));
        if (strncasecmp(pattern, "INBOX", 5) == 0)
            memcpy(pattern, "INBOX", 5);
        r->patterns[r->pattern_count++] = pattern;
    }
    buf_release(&joined);
    buf_release(&name);
    return good ? 0 : imap_fail(&s->in, "malformed modified UTF-7");
}

enum { PATTERNS = 100 };

static int
parse_list(struct session *s, struct list_request *r)
{
    struct slice reference;
    r->patterns = arena_array(s->cmd, PATTERNS, sizeof(*r->patterns));
    if (imap_space(&s->in) < 0 || (imap_at(&s->in, '(') && (selection_options(s, r) < 0 || imap_space(&s->in) < 0)) ||
        imap_astring(&s->in, &reference) < 0 || imap_space(&s->in) < 0)
        return -1;
    if (imap_at(&s->in, '(')) {
        r->extended = true;
        (void)!imap_take(&s->in, '(');
        while (!imap_at(&s->in, ')')) {
            if (r->pattern_count == PATTERNS)
                return imap_fail(&s->in, "too many patterns");
            if (take_pattern(s, reference, r) < 0 || (!imap_at(&s->in, ')') && imap_space(&s->in) < 0))
                return -1;
        }
        if (imap_take(&s->in, ')') < 0)
            return -1;
    } else if (take_pattern(s, reference, r) < 0) {
        return -1;
    }
    if (imap_at(&s->in, ' ')) {
        (void)!imap_space(&s->in);
        if (!imap_at_end(&s->in) &&
            (!imap_keyword(&s->in, "RETURN") || imap_space(&s->in) < 0 || return_options(s, r) < 0))
            return imap_fail(&s->in, "bad LIST options");
    }
    return imap_end(&s->in);
}

/* ---- answering ---- */

struct list_names {
    const char **all, **subscribed;
    size_t all_count, subscribed_count;
};

static void
add_attribute(struct buf *out, const char *name)
{
    if (out->len > 0)
        buf_append_byte(out, ' ');
    buf_append_text(out, name);
}

static void
tell_one(struct session *s, const struct list_request *r, const struct list_names *n, const char *name,
         const char *verb)
{
    struct buf attributes = {0}, wire = {0};
    bool exists = is_in(n->all, n->all_count, name);
    const char *use = exists ? mailbox_special_use(name) : NULL;
    if (!exists)
        add_attribute(&attributes, r->extended ? "\\NonExistent" : "\\Noselect");
    add_attribute(&attributes, mailbox_has_children(n->all, n->all_count, name) ? "\\HasChildren" : "\\HasNoChildren");
    if (r->return_subscribed && is_in(n->subscribed, n->subscribed_count, name))
        add_attribute(&attributes, "\\Subscribed");
    if (use)
        add_attribute(&attributes, use);
    mailbox_put_name(&wire, name, s->utf8);
    session_printf(s, "* %s (%s) \".\" %s\r\n", verb, buf_text(&attributes), buf_text(&wire));
    if (exists && r->return_rights)
        session_printf(s, "* MYRIGHTS %s %s\r\n", buf_text(&wire), session_own_rights);
    buf_release(&attributes);
    buf_release(&wire);
}

/* Parents of what exists or is subscribed show with "%" too, though they are no mailboxes themselves. */
static void
tell_parents(struct session *s, const struct list_request *r, const struct list_names *n, const char *name,
             struct buf *told, const char *verb)
{
    for (const char *at = strchr(name, MAILBOX_SEPARATOR); at; at = strchr(at + 1, MAILBOX_SEPARATOR)) {
        char *parent = arena_strndup(s->cmd, name, (size_t)(at - name));
        char *mark = arena_printf(s->cmd, "\n%s\n", parent);
        if (!matches_any(r, parent) || is_in(n->all, n->all_count, parent) || strstr(buf_text(told), mark))
            continue;
        buf_append_text(told, mark);
        tell_one(s, r, n, parent, verb);
    }
}

static int
load_names(struct session *s, struct list_names *n, struct err *err)
{
    if (mailbox_list(s->mailboxes, s->cmd, &n->all, &n->all_count, err) < 0)
        return -1;
    return mailbox_subscriptions(s->mailboxes, s->cmd, &n->subscribed, &n->subscribed_count, err);
}

static struct imap_reply
list(struct session *s, struct list_request *r, const char *verb)
{
    struct list_names n;
    struct buf told = {0};
    struct err err;
    if (load_names(s, &n, &err) < 0)
        return imap_error(s, &err);
    const char **names = r->subscribed ? n.subscribed : n.all;
    size_t count = r->subscribed ? n.subscribed_count : n.all_count;
    buf_append_byte(&told, '\n');
    for (size_t i = 0; i < count; i++) {
        if (r->special && !mailbox_special_use(names[i]))
            continue;
        if (matches_any(r, names[i])) {
            tell_one(s, r, &n, names[i], verb);
            if (r->status && is_in(n.all, n.all_count, names[i]) && status_tell(s, names[i], r->status, &err) < 0)
                session_printf(s, "* NO %s\r\n", err.text);
        } else {
            tell_parents(s, r, &n, names[i], &told, verb);
        }
    }
    buf_release(&told);
    return imap_ok("List completed.");
}

struct imap_reply
cmd_list(struct session *s)
{
    struct list_request r = {0};
    if (parse_list(s, &r) < 0)
        return imap_bad(s);
    if (!r.extended && r.pattern_count == 1 && r.patterns[0][0] == '\0') { /* only the separator is asked for */
        session_printf(s, "* LIST (\\Noselect) \".\" \"\"\r\n");
        return imap_ok("List completed.");
    }
    return list(s, &r, "LIST");
}

struct imap_reply
cmd_lsub(struct session *s)
{
    struct list_request r = {0};
    if (parse_list(s, &r) < 0)
        return imap_bad(s);
    r.subscribed = true;
    return list(s, &r, "LSUB");
}
