/* SPDX-License-Identifier: Apache-2.0 */
#include "imap/search.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "imap/attributes.h"
#include "imap/cache.h"
#include "imap/condstore.h"
#include "imap/search_fill.h"
#include "imap/search_text.h"
#include "imap/settings.h"
#include "lib/base/check.h"
#include "lib/mail/mime.h"
#include "lib/run/loop.h"
#include "lib/store/fulltext.h"

enum kind {
    KEY_ALL,
    KEY_AND,
    KEY_OR,
    KEY_NOT,
    KEY_FLAGS, /* flags set, or with `off` not set */
    KEY_KEYWORD,
    KEY_RECENT,
    KEY_SET,
    KEY_UID,
    KEY_LARGER,
    KEY_SMALLER,
    KEY_ARRIVED, /* low <= internal date < high */
    KEY_SENT,    /* the same of the Date field */
    KEY_HEADER,  /* field contains text */
    KEY_BODY,
    KEY_TEXT,
    KEY_SAVED,   /* low <= save date < high */
    KEY_EMAILID, /* text */
    KEY_THREADID,
    KEY_MODSEQ,
};

struct search {
    enum kind kind;
    bool off;
    unsigned flags;
    struct slice keyword;
    struct imap_set set;
    uint64_t size;
    int64_t low, high;
    struct slice field, text; /* text: folded */
    bool has_candidates;      /* of the indexed messages no others can have the text */
    uint32_t *candidates;     /* UIDs, ascending */
    size_t candidate_count;
    struct search *first, *second; /* AND: first, then its siblings by next */
    struct search *next;
};

struct search_parse {
    struct session *s;
    struct slice charset;
    unsigned keys;
};

static bool
contains(struct slice text, struct slice folded)
{
    return folded.len == 0 || (text.len >= folded.len && memmem(text.ptr, text.len, folded.ptr, folded.len));
}

/* ---- parsing ---- */

static struct search *parse_key(struct search_parse *, unsigned depth);

static struct search *
key_new(struct search_parse *p, enum kind kind)
{
    struct search *key = ARENA_NEW(p->s->cmd, struct search);
    key->kind = kind;
    return key;
}

static struct search *
fail(struct search_parse *p, const char *why)
{
    if (why)
        (void)imap_fail(&p->s->in, "%s", why);
    return NULL;
}

static int
take_text(struct search_parse *p, struct slice *folded)
{
    struct slice text;
    struct buf utf8 = {0}, out = {0};
    if (imap_space(&p->s->in) < 0 || imap_astring(&p->s->in, &text) < 0)
        return -1;
    mime_to_utf8(text, p->charset, &utf8);
    search_fold(buf_slice(&utf8), &out);
    *folded = arena_slice(p->s->cmd, buf_slice(&out));
    buf_release(&utf8);
    buf_release(&out);
    return 0;
}

static struct search *
header_key(struct search_parse *p, const char *field)
{
    struct search *key = key_new(p, KEY_HEADER);
    if (field)
        key->field = slice_from(field);
    else if (imap_space(&p->s->in) < 0 || imap_astring(&p->s->in, &key->field) < 0)
        return NULL;
    return take_text(p, &key->text) < 0 ? NULL : key;
}

static struct search *
date_key(struct search_parse *p, enum kind kind, bool from, bool to)
{
    struct search *key = key_new(p, kind);
    int64_t day;
    if (imap_space(&p->s->in) < 0 || imap_date(&p->s->in, &day) < 0)
        return NULL;
    key->low = from ? day : INT64_MIN;
    key->high = to ? (from ? day + 86400 : day) : INT64_MAX;
    return key;
}

static struct search *
within_key(struct search_parse *p, bool older)
{
    struct search *key = key_new(p, KEY_ARRIVED);
    uint64_t seconds;
    if (imap_space(&p->s->in) < 0 || imap_nz_number(&p->s->in, INT32_MAX, &seconds) < 0)
        return NULL;
    int64_t then = (int64_t)time(NULL) - (int64_t)seconds;
    key->low = older ? INT64_MIN : then;
    key->high = older ? then + 1 : INT64_MAX;
    return key;
}

static struct search *
size_key(struct search_parse *p, enum kind kind)
{
    struct search *key = key_new(p, kind);
    if (imap_space(&p->s->in) < 0 || imap_number(&p->s->in, INT64_MAX, &key->size) < 0)
        return NULL;
    return key;
}

static struct search *
keyword_key(struct search_parse *p, bool off)
{
    struct search *key = key_new(p, KEY_KEYWORD);
    key->off = off;
    if (imap_space(&p->s->in) < 0 || imap_flag(&p->s->in, &key->keyword) < 0)
        return NULL;
    return key;
}

static struct search *
set_key(struct search_parse *p, bool by_uid)
{
    struct session *s = p->s;
    struct search *key = key_new(p, by_uid ? KEY_UID : KEY_SET);
    if (imap_set(&s->in, &key->set) < 0)
        return NULL;
    if (s->uid_only && !by_uid && !key->set.is_saved)
        return fail(p, "[UIDREQUIRED] messages have no numbers here");
    if (!key->set.is_saved)
        imap_set_resolve(&key->set,
                         by_uid ? (s->view.count ? s->view.uids[s->view.count - 1] : 0) : (uint32_t)s->view.count);
    return key;
}

static struct search *
list_key(struct search_parse *p, unsigned depth)
{
    struct search *key = key_new(p, KEY_AND), **end = &key->first;
    if (imap_take(&p->s->in, '(') < 0)
        return NULL;
    for (;;) {
        *end = parse_key(p, depth + 1);
        if (!*end)
            return NULL;
        end = &(*end)->next;
        if (imap_at(&p->s->in, ')'))
            break;
        if (imap_space(&p->s->in) < 0)
            return NULL;
    }
    return imap_take(&p->s->in, ')') < 0 ? NULL : key;
}

static struct search *
flag_key(struct search_parse *p, bool *known)
{
    static const struct {
        const char *word;
        unsigned flag;
        bool off;
    } words[] = {{"ANSWERED", FLAG_ANSWERED, false}, {"DELETED", FLAG_DELETED, false},
                 {"DRAFT", FLAG_DRAFT, false},       {"FLAGGED", FLAG_FLAGGED, false},
                 {"SEEN", FLAG_SEEN, false},         {"UNANSWERED", FLAG_ANSWERED, true},
                 {"UNDELETED", FLAG_DELETED, true},  {"UNDRAFT", FLAG_DRAFT, true},
                 {"UNFLAGGED", FLAG_FLAGGED, true},  {"UNSEEN", FLAG_SEEN, true}};
    *known = true;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (imap_keyword(&p->s->in, words[i].word)) {
            struct search *key = key_new(p, KEY_FLAGS);
            key->flags = words[i].flag;
            key->off = words[i].off;
            return key;
        }
    *known = false;
    return NULL;
}

static struct search *
text_key(struct search_parse *p, enum kind kind)
{
    struct search *key = key_new(p, kind);
    return take_text(p, &key->text) < 0 ? NULL : key;
}

static struct search *
id_key(struct search_parse *p, enum kind kind)
{
    struct search *key = key_new(p, kind);
    return imap_space(&p->s->in) < 0 || imap_astring(&p->s->in, &key->text) < 0 ? NULL : key;
}

/* MODSEQ ["/flags/\\Draft" all] 620162338: we keep one number for all flags of a message. */
static struct search *
modseq_key(struct search_parse *p)
{
    struct session *s = p->s;
    struct search *key = key_new(p, KEY_MODSEQ);
    struct slice entry;
    if (condstore_need(s) < 0 || imap_space(&s->in) < 0)
        return NULL;
    if (imap_at(&s->in, '"')) {
        if (imap_string(&s->in, &entry) < 0 || imap_space(&s->in) < 0)
            return NULL;
        if (!slice_starts_with_fold(entry, "/flags/") ||
            (!imap_keyword(&s->in, "all") && !imap_keyword(&s->in, "priv") && !imap_keyword(&s->in, "shared")))
            return fail(p, "bad MODSEQ entry");
        if (imap_space(&s->in) < 0)
            return NULL;
    }
    if (condstore_take_modseq(s, &key->size) < 0)
        return NULL;
    s->search_modseq = true;
    return key;
}

static struct search *
not_key(struct search_parse *p, unsigned depth)
{
    struct search *key = key_new(p, KEY_NOT);
    if (imap_space(&p->s->in) < 0 || !(key->first = parse_key(p, depth + 1)))
        return NULL;
    return key;
}

static struct search *
or_key(struct search_parse *p, unsigned depth)
{
    struct search *key = key_new(p, KEY_OR);
    if (imap_space(&p->s->in) < 0 || !(key->first = parse_key(p, depth + 1)) || imap_space(&p->s->in) < 0 ||
        !(key->second = parse_key(p, depth + 1)))
        return NULL;
    return key;
}

static struct search *
new_key(struct search_parse *p)
{
    struct search *key = key_new(p, KEY_AND);
    key->first = key_new(p, KEY_RECENT);
    key->first->next = key_new(p, KEY_FLAGS);
    key->first->next->flags = FLAG_SEEN;
    key->first->next->off = true;
    return key;
}

static struct search *
parse_key(struct search_parse *p, unsigned depth)
{
    struct imap_input *in = &p->s->in;
    bool known;
    if (depth > SEARCH_DEPTH || ++p->keys > SEARCH_KEYS)
        return fail(p, "the search is too complex");
    if (imap_at(in, '('))
        return list_key(p, depth);
    if (in->rest.len > 0 && (strchr("0123456789*$", in->rest.ptr[0])))
        return set_key(p, false);
    struct search *key = flag_key(p, &known);
    if (known)
        return key;
    if (imap_keyword(in, "ALL"))
        return key_new(p, KEY_ALL);
    if (imap_keyword(in, "NOT"))
        return not_key(p, depth);
    if (imap_keyword(in, "OR"))
        return or_key(p, depth);
    if (imap_keyword(in, "NEW"))
        return new_key(p);
    if (imap_keyword(in, "OLD") || imap_keyword(in, "RECENT")) {
        bool old = in->rest.ptr[-1] == 'D' || in->rest.ptr[-1] == 'd';
        key = key_new(p, KEY_RECENT);
        key->off = old;
        return key;
    }
    if (imap_keyword(in, "UID"))
        return imap_space(in) < 0 ? NULL : set_key(p, true);
    if (imap_keyword(in, "KEYWORD"))
        return keyword_key(p, false);
    if (imap_keyword(in, "UNKEYWORD"))
        return keyword_key(p, true);
    if (imap_keyword(in, "LARGER"))
        return size_key(p, KEY_LARGER);
    if (imap_keyword(in, "SMALLER"))
        return size_key(p, KEY_SMALLER);
    if (imap_keyword(in, "BODY"))
        return text_key(p, KEY_BODY);
    if (imap_keyword(in, "TEXT"))
        return text_key(p, KEY_TEXT);
    if (imap_keyword(in, "HEADER"))
        return header_key(p, NULL);
    static const char *const fields[] = {"BCC", "CC", "FROM", "SUBJECT", "TO"};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (imap_keyword(in, fields[i]))
            return header_key(p, fields[i]);
    static const struct {
        const char *word;
        enum kind kind;
        bool from, to;
    } dates[] = {{"BEFORE", KEY_ARRIVED, false, true},    {"ON", KEY_ARRIVED, true, true},
                 {"SINCE", KEY_ARRIVED, true, false},     {"SENTBEFORE", KEY_SENT, false, true},
                 {"SENTON", KEY_SENT, true, true},        {"SENTSINCE", KEY_SENT, true, false},
                 {"SAVEDBEFORE", KEY_SAVED, false, true}, {"SAVEDON", KEY_SAVED, true, true},
                 {"SAVEDSINCE", KEY_SAVED, true, false}};
    for (size_t i = 0; i < ARRAY_LEN(dates); i++)
        if (imap_keyword(in, dates[i].word))
            return date_key(p, dates[i].kind, dates[i].from, dates[i].to);
    if (imap_keyword(in, "SAVEDATESUPPORTED"))
        return key_new(p, KEY_ALL);
    if (imap_keyword(in, "MODSEQ"))
        return modseq_key(p);
    if (imap_keyword(in, "EMAILID"))
        return id_key(p, KEY_EMAILID);
    if (imap_keyword(in, "THREADID"))
        return id_key(p, KEY_THREADID);
    if (imap_keyword(in, "OLDER"))
        return within_key(p, true);
    if (imap_keyword(in, "YOUNGER"))
        return within_key(p, false);
    return fail(p, "unknown search key");
}

struct search *
search_parse(struct session *s, struct slice charset)
{
    struct search_parse p = {.s = s, .charset = charset};
    struct search *all = key_new(&p, KEY_AND), **end = &all->first;
    s->search_modseq = false;
    for (;;) {
        *end = parse_key(&p, 0);
        if (!*end)
            return NULL;
        end = &(*end)->next;
        if (imap_at_end(&s->in))
            return all;
        if (imap_space(&s->in) < 0)
            return NULL;
        if (imap_at_end(&s->in))
            return all;
    }
}

/* ---- matching ---- */

struct match {
    struct session *s;
    struct arena *arena; /* of the message */
    uint32_t uid;
    size_t sequence;
    struct folder_content content;
    bool has_content, has_header, is_gone, failed;
    struct mime_part *parts;
    struct slice header;         /* the fields that the index keeps, if has_header */
    struct fulltext *fulltext;   /* NULL: all is scanned */
    struct fulltext_known known; /* messages that the candidates were taken from */
    bool fills;                  /* what is read, and is not known, is brought into the index */
    bool has_doc;                /* doc: all pieces of the message's text, each with a NUL behind it */
    bool is_doc_whole;
    struct buf doc;
    size_t doc_top; /* so much of it is the header's */
    struct err *err;
};

enum { DOC_LIMIT = 16 << 20 };
#define FILL_TIME SECONDS(1) /* a search that takes longer leaves the rest to search_fill.c */

static struct folder_message *
message_of(struct match *m)
{
    struct folder_message *message = folder_find(m->s->selected->folder, m->uid);
    m->is_gone = m->is_gone || !message;
    return message;
}

static bool
load(struct match *m)
{
    struct folder_message *message = message_of(m);
    if (m->has_content)
        return true;
    if (!message || m->failed)
        return false;
    if (folder_read(m->s->selected->folder, message, &m->content, m->err) < 0) {
        m->is_gone = m->err->kind == ERR_PERM;
        m->failed = !m->is_gone;
        return false;
    }
    m->has_content = true;
    m->parts = mime_parse_top(m->arena, m->content.bytes);
    return true;
}

/* The header, or what the index keeps of it, if this field is kept. */
static bool
find_header(struct match *m, struct slice field, struct slice *header)
{
    struct folder *folder = m->s->selected->folder;
    bool is_kept = cache_keeps_field(field);
    m->has_header = m->has_header || (is_kept && cache_get_header(folder, m->uid, m->arena, &m->header));
    if (m->has_header && is_kept) {
        *header = m->header;
        return true;
    }
    if (!load(m))
        return false;
    *header = m->parts->header;
    if (is_kept) {
        cache_fill_header(folder, m->uid, *header, m->arena);
        m->header = *header;
        m->has_header = true;
    }
    return true;
}

/* What mime_unfold() and mime_decode_words() would leave as it is. */
static bool
is_plain(struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if (c < 32 || c >= 127 || (c == '=' && i + 1 < value.len && value.ptr[i + 1] == '?'))
            return false;
    }
    return true;
}

static bool
plain_contains(struct slice value, struct slice folded)
{
    for (size_t i = 0; i + folded.len <= value.len; i++) {
        size_t n = 0;
        while (n < folded.len &&
               (value.ptr[i + n] >= 'A' && value.ptr[i + n] <= 'Z' ? value.ptr[i + n] + 32 : value.ptr[i + n]) ==
                   folded.ptr[n])
            n++;
        if (n == folded.len)
            return true;
    }
    return false;
}

static int
compare_uids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The index says that the message can't have the text. */
static bool
is_ruled_out(const struct match *m, const struct search *key)
{
    return key->has_candidates && fulltext_is_known(&m->known, m->uid) &&
           !bsearch(&m->uid, key->candidates, key->candidate_count, sizeof(m->uid), compare_uids);
}

static bool
match_header(struct match *m, const struct search *key)
{
    struct slice name, value, rest;
    if (is_ruled_out(m, key))
        return false;
    if (!find_header(m, key->field, &rest))
        return false;
    while (mime_field_next(&rest, &name, &value)) {
        if (!slice_equal_fold(name, key->field))
            continue;
        value = slice_trim(value);
        if (is_plain(value) ? plain_contains(value, key->text)
                            : contains(search_text_value(m->arena, value), key->text))
            return true;
    }
    return false;
}

/* ---- text ---- */

struct look {
    struct slice text;
    bool found;
};

static bool
look_at_piece(void *ctx, bool is_top, struct slice piece)
{
    struct look *look = ctx;
    (void)is_top;
    look->found = contains(piece, look->text);
    return look->found;
}

static bool
add_to_doc(void *ctx, bool is_top, struct slice piece)
{
    struct match *m = ctx;
    m->is_doc_whole = m->is_doc_whole && m->doc.len + piece.len < DOC_LIMIT;
    if (!m->is_doc_whole)
        return true;
    buf_append_slice(&m->doc, piece);
    buf_append_byte(&m->doc, '\0');
    if (is_top)
        m->doc_top = m->doc.len;
    return false;
}

/* A message that is going to be indexed is taken apart once for that and for all keys. */
static bool
take_doc(struct match *m)
{
    if (!m->fills || fulltext_is_known(&m->known, m->uid) || !load(m))
        return false;
    if (!m->has_doc) {
        buf_clear(&m->doc);
        m->doc_top = 0;
        m->has_doc = m->is_doc_whole = true;
        search_text_walk(m->arena, m->content.bytes, true, add_to_doc, m);
    }
    return m->is_doc_whole;
}

static bool
match_text(struct match *m, const struct search *key)
{
    struct look look = {.text = key->text};
    bool with_top = key->kind == KEY_TEXT;
    if (is_ruled_out(m, key) || !load(m))
        return false;
    if (key->text.len > 0 && !memchr(key->text.ptr, '\0', key->text.len) && take_doc(m)) {
        size_t from = with_top ? 0 : m->doc_top;
        return contains(slice_make(m->doc.ptr + from, m->doc.len - from), key->text);
    }
    search_text_walk(m->arena, m->content.bytes, with_top, look_at_piece, &look);
    return look.found;
}

/* What the index can answer: header fields that index.h keeps are found faster there. */
static bool
is_for_fulltext(const struct search *key)
{
    return key->kind == KEY_BODY || key->kind == KEY_TEXT ||
           (key->kind == KEY_HEADER && key->text.len > 0 && !cache_keeps_field(key->field));
}

static bool
has_fulltext_key(const struct search *key)
{
    for (; key; key = key->next)
        if (is_for_fulltext(key) || has_fulltext_key(key->first) || has_fulltext_key(key->second))
            return true;
    return false;
}

static void
find_candidates(struct match *m, struct search *key)
{
    for (; key; key = key->next) {
        if (is_for_fulltext(key))
            key->has_candidates = fulltext_find(m->fulltext, m->s->selected->folder, key->text, m->s->cmd,
                                                &key->candidates, &key->candidate_count);
        find_candidates(m, key->first);
        find_candidates(m, key->second);
    }
}

/* All answers of the index are of one moment: what another session adds later is not known to this search. */
static void
ask_fulltext(struct match *m, struct search *search)
{
    if (!settings.search_index || !has_fulltext_key(search))
        return;
    m->fulltext = mailboxes_fulltext(m->s->mailboxes);
    if (!m->fulltext)
        return;
    m->fills = !search_fill_is_running();
    fulltext_known(m->fulltext, m->s->selected->folder, m->s->cmd, &m->known);
    find_candidates(m, search);
}

static void
fill_fulltext(struct match *m)
{
    if (!m->has_content || m->is_gone || m->failed || !take_doc(m))
        return;
    fulltext_add_begin(m->fulltext);
    fulltext_add_piece(m->fulltext, buf_slice(&m->doc));
    fulltext_add_end(m->fulltext, m->s->selected->folder, m->uid);
}

/* ---- other keys ---- */

/* Days are those of the date as written, whatever the zone (RFC 3501). */
static bool
match_sent(struct match *m, const struct search *key)
{
    struct slice value, header;
    int64_t seconds;
    int zone;
    if (!find_header(m, slice_from("date"), &header) || !mime_field_find(header, "date", &value) ||
        !mime_date(value, &seconds, &zone))
        return false;
    seconds += zone * 60;
    return seconds >= key->low && seconds < key->high;
}

static bool
match_arrived(struct match *m, const struct search *key)
{
    struct folder_message *message = message_of(m);
    if (!message)
        return false;
    time_t when = folder_message_time(m->s->selected->folder, message);
    struct tm tm = clock_local(when);
    int64_t local = key->low % 86400 == 0 || key->high % 86400 == 0 ? (int64_t)when + tm.tm_gmtoff : (int64_t)when;
    return local >= key->low && local < key->high;
}

static bool
match_saved(struct match *m, const struct search *key)
{
    struct folder_message *message = message_of(m);
    time_t when;
    if (!message || !attributes_save_date(m->s->selected->folder, message, &when))
        return false;
    struct tm tm = clock_local(when);
    int64_t local = (int64_t)when + tm.tm_gmtoff;
    return local >= key->low && local < key->high;
}

static bool
match_object_id(struct match *m, const struct search *key)
{
    struct folder *folder = m->s->selected->folder;
    char id[OBJECT_ID_SIZE];
    struct arena *arena = arena_new();
    int result = key->kind == KEY_EMAILID ? cache_get_email_id(folder, m->uid, arena, id, m->err)
                                          : cache_get_thread_id(folder, m->uid, arena, id, m->err);
    arena_free(&arena);
    m->failed = m->failed || result < 0;
    return result > 0 && slice_equal_text(key->text, id);
}

static bool
match_keyword(struct match *m, const struct search *key)
{
    struct folder *folder = m->s->selected->folder;
    struct folder_message *message = message_of(m);
    struct err err;
    if (!message)
        return false;
    int number = folder_keyword_number(folder, key->keyword, false, &err);
    return (number >= 0 && (message->keywords & (1U << number))) != key->off;
}

static bool
match_set(struct match *m, const struct search *key)
{
    if (!key->set.is_saved)
        return imap_set_has(&key->set, key->kind == KEY_UID ? m->uid : (uint32_t)m->sequence);
    for (size_t i = 0; i < m->s->saved_count; i++)
        if (m->s->saved[i] == m->uid)
            return true;
    return false;
}

/* Depth is bounded by SEARCH_DEPTH. */
static bool
matches(struct match *m, const struct search *key)
{
    struct folder_message *message = message_of(m);
    struct err err;
    if (!message)
        return false;
    switch (key->kind) {
    case KEY_ALL: return true;
    case KEY_AND:
        for (const struct search *each = key->first; each; each = each->next)
            if (!matches(m, each))
                return false;
        return true;
    case KEY_OR: return matches(m, key->first) || matches(m, key->second);
    case KEY_NOT: return !matches(m, key->first);
    case KEY_FLAGS: return ((message->flags & key->flags) != 0) != key->off;
    case KEY_KEYWORD: return match_keyword(m, key);
    case KEY_RECENT: return view_is_recent(&m->s->view, m->uid) != key->off;
    case KEY_SET:
    case KEY_UID: return match_set(m, key);
    case KEY_LARGER: return folder_message_size(m->s->selected->folder, message, &err) > key->size;
    case KEY_SMALLER: return folder_message_size(m->s->selected->folder, message, &err) < key->size;
    case KEY_ARRIVED: return match_arrived(m, key);
    case KEY_SENT: return match_sent(m, key);
    case KEY_HEADER: return match_header(m, key);
    case KEY_BODY:
    case KEY_TEXT: return match_text(m, key);
    case KEY_SAVED: return match_saved(m, key);
    case KEY_EMAILID:
    case KEY_THREADID: return match_object_id(m, key);
    case KEY_MODSEQ: return message->modseq >= key->size;
    }
    return false;
}

/* RFC 9585 */
static void may_wait
tell_progress(struct session *s, size_t done, usec_t *told)
{
    if (settings.progress_time == 0 || loop_now() - *told < settings.progress_time)
        return;
    *told = loop_now();
    stream_set_deadline(s->stream, loop_now() + settings.idle_timeout);
    session_printf(s, "* OK [INPROGRESS (\"%s\" %zu %zu)] Searching.\r\n", s->tag, done, s->view.count);
    (void)!stream_flush(s->stream, NULL); /* a failure shows at the next read */
}

static void
next_message(struct match *m)
{
    if (m->has_content)
        folder_content_release(&m->content);
    if (m->has_content || m->has_header)
        arena_reset(m->arena);
    m->has_content = m->has_header = m->has_doc = m->is_gone = false;
}

int
search_run(struct session *s, struct search *search, uint32_t **uids, size_t *count, struct err *err)
{
    enum { TURN = 64, FILL_TURN = 16 }; /* messages that were read before others get a turn */
    struct match m = {.s = s, .arena = arena_new(), .err = err};
    unsigned read = 0;
    usec_t told = loop_now(), began = told;
    *uids = arena_array(s->cmd, s->view.count + 1, sizeof(**uids));
    *count = 0;
    search_fill_hold(true);
    ask_fulltext(&m, search);
    bool fills = m.fills;
    for (size_t i = 0; i < s->view.count && !m.failed && !s->stopping; i++) {
        m.uid = s->view.uids[i];
        m.sequence = i + 1;
        if (matches(&m, search) && !m.is_gone)
            (*uids)[(*count)++] = m.uid;
        fill_fulltext(&m);
        bool has_read = m.has_content;
        next_message(&m);
        read += has_read;
        if ((has_read && read % (m.fills ? FILL_TURN : TURN) == 0) || (i + 1) % ((size_t)TURN * TURN) == 0) {
            if (task_yield(err) < 0)
                m.failed = true;
            tell_progress(s, i + 1, &told);
            m.fulltext = m.fulltext ? mailboxes_fulltext(s->mailboxes) : NULL; /* it may have failed, and gone */
            m.fills = m.fills && m.fulltext && loop_now() - began < FILL_TIME;
        }
    }
    arena_free(&m.arena);
    buf_release(&m.doc);
    folder_cache_flush(s->selected->folder);
    if (m.fulltext)
        fulltext_flush(m.fulltext);
    search_fill_hold(false);
    if (fills && !m.fills && m.fulltext && fulltext_is_usable(m.fulltext))
        search_fill_later(s->mailboxes, s->selected->name);
    return m.failed ? -1 : 0;
}
