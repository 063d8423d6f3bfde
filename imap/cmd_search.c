/* SPDX-License-Identifier: Apache-2.0 */
/* SEARCH (ESEARCH of RFC 4731, SEARCHRES of RFC 5182), SORT (RFC 5256, ESORT of RFC 5267). */
#include <stdlib.h>
#include <string.h>

#include "imap/condstore.h"
#include "imap/partial.h"
#include "imap/search.h"
#include "imap/session.h"
#include "imap/sort.h"
#include "lib/base/check.h"
#include "lib/imap/output.h"

struct result_options {
    bool extended, min, max, all, count, save;
    struct partial partial;
};

/* " RETURN (MIN MAX ...)" */
static int
take_options(struct session *s, struct result_options *o)
{
    if (!imap_keyword(&s->in, "RETURN"))
        return 0;
    o->extended = true;
    if (imap_space(&s->in) < 0 || imap_take(&s->in, '(') < 0)
        return -1;
    while (!imap_at(&s->in, ')')) {
        if (imap_keyword(&s->in, "MIN"))
            o->min = true;
        else if (imap_keyword(&s->in, "MAX"))
            o->max = true;
        else if (imap_keyword(&s->in, "ALL"))
            o->all = true;
        else if (imap_keyword(&s->in, "COUNT"))
            o->count = true;
        else if (imap_keyword(&s->in, "SAVE"))
            o->save = true;
        else if (imap_keyword(&s->in, "PARTIAL")) {
            if (imap_space(&s->in) < 0 || partial_take(&s->in, &o->partial) < 0)
                return -1;
        } else
            return imap_fail(&s->in, "unknown result option");
        if (!imap_at(&s->in, ')') && imap_space(&s->in) < 0)
            return -1;
    }
    if (imap_take(&s->in, ')') < 0 || imap_space(&s->in) < 0)
        return -1;
    if (o->all && o->partial.on)
        return imap_fail(&s->in, "ALL and PARTIAL exclude each other");
    if (!o->min && !o->max && !o->all && !o->count && !o->save && !o->partial.on)
        o->all = true;
    return 0;
}

static uint32_t
number_of(const struct session *s, uint32_t uid)
{
    return s->by_uid ? uid : (uint32_t)view_sequence(&s->view, uid);
}

static void
put_all(struct session *s, const uint32_t *uids, size_t count, bool sorted, struct buf *out)
{
    struct imap_set_writer set = {.out = out};
    for (size_t i = 0; i < count; i++) {
        if (sorted) { /* the order counts: no ranges are made of what only happens to follow */
            buf_printf(out, "%s%u", i ? "," : "", number_of(s, uids[i]));
        } else {
            imap_set_add(&set, number_of(s, uids[i]));
        }
    }
    imap_set_close(&set);
}

/* The highest mod-sequence of what is told. */
static uint64_t
highest_modseq(struct session *s, const struct result_options *o, const uint32_t *uids, size_t count)
{
    bool few = (o->min || o->max) && !o->all && !o->count && !o->partial.on;
    uint64_t highest = 0;
    for (size_t i = 0; s->search_modseq && i < count; i++) {
        const struct folder_message *message = folder_find(s->selected->folder, uids[i]);
        if (few && !(o->min && i == 0) && !(o->max && i == count - 1))
            continue;
        if (message && message->modseq > highest)
            highest = message->modseq;
    }
    return highest;
}

static void
tell_extended(struct session *s, const char *tag, const struct result_options *o, const uint32_t *uids, size_t count,
              bool sorted)
{
    struct buf out = {0};
    buf_printf(&out, "* ESEARCH (TAG \"%s\")%s", tag, s->by_uid ? " UID" : "");
    if (o->min && count)
        buf_printf(&out, " MIN %u", number_of(s, uids[0]));
    if (o->max && count)
        buf_printf(&out, " MAX %u", number_of(s, uids[count - 1]));
    if (o->count)
        buf_printf(&out, " COUNT %zu", count);
    if (o->all && count) {
        buf_append_text(&out, " ALL ");
        put_all(s, uids, count, sorted, &out);
    }
    if (o->partial.on) {
        size_t some = count, skip = partial_cut(&o->partial, &some);
        buf_append_text(&out, " PARTIAL (");
        partial_put(&o->partial, &out);
        buf_append_byte(&out, ' ');
        if (some)
            put_all(s, uids + skip, some, sorted, &out);
        buf_append_text(&out, some ? ")" : "NIL)");
    }
    uint64_t modseq = highest_modseq(s, o, uids, count);
    if (modseq)
        buf_printf(&out, " MODSEQ %llu", (unsigned long long)modseq);
    buf_append_text(&out, "\r\n");
    session_write(s, buf_slice(&out));
    buf_release(&out);
}

static void
tell_plain(struct session *s, const char *name, const uint32_t *uids, size_t count)
{
    struct result_options all = {.all = true};
    uint64_t modseq = highest_modseq(s, &all, uids, count);
    struct buf out = {0};
    buf_printf(&out, "* %s", name);
    for (size_t i = 0; i < count; i++)
        buf_printf(&out, " %u", number_of(s, uids[i]));
    if (modseq)
        buf_printf(&out, " (MODSEQ %llu)", (unsigned long long)modseq);
    buf_append_text(&out, "\r\n");
    session_write(s, buf_slice(&out));
    buf_release(&out);
}

static int
compare_uids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void
save(struct session *s, const struct result_options *o, const uint32_t *uids, size_t count)
{
    free(s->saved);
    s->saved = calloc(count + 1, sizeof(*s->saved));
    if (!s->saved)
        fatal("out of memory");
    s->saved_count = 0;
    bool few = (o->min || o->max) && !o->all && !o->count && !o->partial.on;
    size_t skip = partial_cut(&o->partial, &count);
    uids += skip;
    for (size_t i = 0; i < count; i++)
        if (!few || (o->min && i == 0) || (o->max && i == count - 1))
            s->saved[s->saved_count++] = uids[i];
    qsort(s->saved, s->saved_count, sizeof(*s->saved), compare_uids);
}

static bool
charset_is_known(struct slice charset)
{
    struct buf out = {0};
    bool known = mime_to_utf8(slice_from("a"), charset, &out);
    buf_release(&out);
    return known;
}

static struct imap_reply
bad_charset(struct session *s)
{
    imap_skip_rest(&s->in);
    return imap_no(s, "BADCHARSET (UTF-8 US-ASCII ISO-8859-1)", "Unknown charset.");
}

struct imap_reply
cmd_search(struct session *s)
{
    struct result_options o = {0};
    struct slice charset = {"", 0};
    struct err err;
    uint32_t *uids;
    size_t count;

    if (imap_space(&s->in) < 0 || take_options(s, &o) < 0)
        return imap_bad(s);
    if (imap_keyword(&s->in, "CHARSET") &&
        (imap_space(&s->in) < 0 || imap_astring(&s->in, &charset) < 0 || imap_space(&s->in) < 0))
        return imap_bad(s);
    if (!charset_is_known(charset))
        return bad_charset(s);
    struct search *search = search_parse(s, charset);
    if (!search)
        return imap_bad(s);
    if (s->search_modseq)
        condstore_enable(s);
    if (search_run(s, search, &uids, &count, &err) < 0)
        return imap_error(s, &err);
    if (o.save)
        save(s, &o, uids, count);
    if (o.extended || s->rev2) {
        if (!o.extended)
            o.all = true;
        if (o.min || o.max || o.all || o.count || o.partial.on)
            tell_extended(s, s->tag, &o, uids, count, false);
    } else {
        tell_plain(s, "SEARCH", uids, count);
    }
    return imap_ok("Search completed.");
}

struct imap_reply
cmd_sort(struct session *s)
{
    struct result_options o = {0};
    struct sort_key *keys;
    size_t key_count, count;
    struct slice charset;
    struct err err;
    uint32_t *uids;

    if (imap_space(&s->in) < 0 || take_options(s, &o) < 0 || sort_take_keys(s, &keys, &key_count) < 0 ||
        imap_space(&s->in) < 0 || imap_astring(&s->in, &charset) < 0 || imap_space(&s->in) < 0)
        return imap_bad(s);
    if (!charset_is_known(charset))
        return bad_charset(s);
    struct search *search = search_parse(s, charset);
    if (!search)
        return imap_bad(s);
    if (search_run(s, search, &uids, &count, &err) < 0 || sort_run(s, keys, key_count, uids, count, &err) < 0)
        return imap_error(s, &err);
    if (o.save)
        save(s, &o, uids, count);
    if (o.extended)
        tell_extended(s, s->tag, &o, uids, count, true);
    else
        tell_plain(s, "SORT", uids, count);
    return imap_ok("Sort completed.");
}
