/* SPDX-License-Identifier: Apache-2.0 */
/* FETCH and UID FETCH (RFC 3501 section 6.4.5, BINARY of RFC 3516). */
#include <string.h>

#include "imap/attributes.h"
#include "imap/cache.h"
#include "imap/condstore.h"
#include "imap/partial.h"
#include "imap/session.h"
#include "imap/structure.h"
#include "lib/imap/output.h"
#include "lib/mail/mime.h"

enum { FETCH_ITEMS = 100, SECTION_DEPTH = MIME_DEPTH + 1, FETCH_FIELDS = 1000 };

enum item_kind {
    ITEM_UID,
    ITEM_FLAGS,
    ITEM_INTERNALDATE,
    ITEM_SIZE,
    ITEM_MODSEQ,
    ITEM_SAVEDATE,
    ITEM_EMAILID,
    ITEM_THREADID,
    ITEM_ENVELOPE,
    ITEM_BODY,
    ITEM_BODYSTRUCTURE,
    ITEM_SECTION, /* BODY[...] */
    ITEM_BINARY,
    ITEM_BINARY_SIZE,
    ITEM_PREVIEW,
};

enum section_kind { SECTION_ALL, SECTION_HEADER, SECTION_FIELDS, SECTION_FIELDS_NOT, SECTION_TEXT, SECTION_MIME };

struct item {
    enum item_kind kind;
    enum section_kind section;
    bool peek, is_partial;
    const char *label; /* as it goes back: "BODY[1.2]<0>", "RFC822.HEADER" */
    uint32_t numbers[SECTION_DEPTH];
    unsigned number_count;
    struct slice *fields;
    size_t field_count;
    uint64_t offset, length;
};

struct fetch {
    struct partial partial;
    struct item *items;
    size_t count;
    bool needs_cache, needs_header; /* what the index remembers */
    bool needs_content, needs_parts, sets_seen;
    bool has_since, vanished; /* CHANGEDSINCE, VANISHED (RFC 7162) */
    uint64_t since;
};

/* ---- parsing ---- */

static struct item *
add_item(struct fetch *f, enum item_kind kind, const char *label)
{
    struct item *item = &f->items[f->count++];
    *item = (struct item){.kind = kind, .label = label, .peek = true, .length = UINT64_MAX};
    bool is_cached = kind == ITEM_ENVELOPE || kind == ITEM_BODYSTRUCTURE;
    f->needs_cache = f->needs_cache || is_cached;
    f->needs_content = f->needs_content || (kind >= ITEM_ENVELOPE && !is_cached && kind != ITEM_SECTION);
    f->needs_parts = f->needs_parts || kind == ITEM_BODY || kind == ITEM_BODYSTRUCTURE || kind >= ITEM_BINARY;
    return item;
}

static bool
has_item(const struct fetch *f, enum item_kind kind)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->items[i].kind == kind)
            return true;
    return false;
}

static int
take_fields(struct session *s, struct item *item, struct buf *label)
{
    if (imap_space(&s->in) < 0 || imap_take(&s->in, '(') < 0)
        return -1;
    buf_append_text(label, " (");
    item->fields = arena_array(s->cmd, FETCH_FIELDS, sizeof(*item->fields));
    for (;;) {
        if (item->field_count == FETCH_FIELDS)
            return imap_fail(&s->in, "too many header fields");
        if (imap_astring(&s->in, &item->fields[item->field_count]) < 0)
            return -1;
        imap_put_astring(label, item->fields[item->field_count++], s->utf8);
        if (imap_at(&s->in, ')'))
            break;
        if (imap_space(&s->in) < 0)
            return -1;
        buf_append_byte(label, ' ');
    }
    buf_append_byte(label, ')');
    return imap_take(&s->in, ')');
}

/* "1.2", "1.HEADER", "TEXT"... up to the "]". */
static int
take_section(struct session *s, struct item *item, bool binary, struct buf *label)
{
    uint64_t number;
    while (s->in.rest.len > 0 && s->in.rest.ptr[0] >= '0' && s->in.rest.ptr[0] <= '9') {
        if (item->number_count == SECTION_DEPTH)
            return imap_fail(&s->in, "too many levels in a section");
        if (imap_nz_number(&s->in, 1000000, &number) < 0)
            return -1;
        item->numbers[item->number_count++] = (uint32_t)number;
        buf_printf(label, "%s%u", item->number_count > 1 ? "." : "", (unsigned)number);
        if (imap_at(&s->in, ']'))
            return 0;
        if (imap_take(&s->in, '.') < 0)
            return -1;
    }
    if (imap_at(&s->in, ']'))
        return item->number_count ? imap_fail(&s->in, "a section ends in a dot") : 0;
    if (binary)
        return imap_fail(&s->in, "bad section");
    static const struct {
        const char *word;
        enum section_kind kind;
    } words[] = {{"HEADER.FIELDS.NOT", SECTION_FIELDS_NOT},
                 {"HEADER.FIELDS", SECTION_FIELDS},
                 {"HEADER", SECTION_HEADER},
                 {"TEXT", SECTION_TEXT},
                 {"MIME", SECTION_MIME}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!imap_keyword(&s->in, words[i].word))
            continue;
        item->section = words[i].kind;
        if (item->section == SECTION_MIME && item->number_count == 0)
            return imap_fail(&s->in, "MIME without a part");
        buf_printf(label, "%s%s", item->number_count ? "." : "", words[i].word);
        return item->section == SECTION_FIELDS || item->section == SECTION_FIELDS_NOT ? take_fields(s, item, label) : 0;
    }
    return imap_fail(&s->in, "bad section");
}

/* Behind "BODY[": the section, "]", "<offset.length>". */
static int
take_section_item(struct session *s, struct fetch *f, enum item_kind kind, const char *name, bool peek)
{
    struct buf label = {0};
    struct item *item = add_item(f, kind, "");
    int result = imap_take(&s->in, '[');
    item->peek = peek;
    buf_printf(&label, "%s[", name);
    if (result == 0)
        result = take_section(s, item, kind != ITEM_SECTION, &label);
    if (result == 0)
        result = imap_take(&s->in, ']');
    buf_append_byte(&label, ']');
    if (result == 0 && imap_at(&s->in, '<') && kind != ITEM_BINARY_SIZE) {
        item->is_partial = true;
        if (imap_take(&s->in, '<') < 0 || imap_number(&s->in, INT64_MAX, &item->offset) < 0 ||
            imap_take(&s->in, '.') < 0 || imap_nz_number(&s->in, INT64_MAX, &item->length) < 0 ||
            imap_take(&s->in, '>') < 0)
            result = -1;
        buf_printf(&label, "<%llu>", (unsigned long long)item->offset);
    }
    item->label = arena_strdup(s->cmd, buf_text(&label));
    buf_release(&label);
    f->sets_seen = f->sets_seen || (!peek && kind != ITEM_BINARY_SIZE);
    f->needs_parts = f->needs_parts || item->number_count > 0;
    return result;
}

static int
take_item(struct session *s, struct fetch *f)
{
    static const struct {
        const char *word;
        enum item_kind kind;
        const char *label;
    } simple[] = {{"UID", ITEM_UID, "UID"},
                  {"FLAGS", ITEM_FLAGS, "FLAGS"},
                  {"INTERNALDATE", ITEM_INTERNALDATE, "INTERNALDATE"},
                  {"RFC822.SIZE", ITEM_SIZE, "RFC822.SIZE"},
                  {"MODSEQ", ITEM_MODSEQ, "MODSEQ"},
                  {"SAVEDATE", ITEM_SAVEDATE, "SAVEDATE"},
                  {"EMAILID", ITEM_EMAILID, "EMAILID"},
                  {"THREADID", ITEM_THREADID, "THREADID"},
                  {"ENVELOPE", ITEM_ENVELOPE, "ENVELOPE"},
                  {"BODYSTRUCTURE", ITEM_BODYSTRUCTURE, "BODYSTRUCTURE"}};
    static const struct {
        const char *word;
        enum item_kind kind;
        const char *name;
        bool peek;
    } sections[] = {{"BODY.PEEK", ITEM_SECTION, "BODY", true},
                    {"BODY", ITEM_SECTION, "BODY", false},
                    {"BINARY.PEEK", ITEM_BINARY, "BINARY", true},
                    {"BINARY.SIZE", ITEM_BINARY_SIZE, "BINARY.SIZE", true},
                    {"BINARY", ITEM_BINARY, "BINARY", false}};
    if (f->count + 6 >= FETCH_ITEMS)
        return imap_fail(&s->in, "too many items");
    for (size_t i = 0; i < ARRAY_LEN(simple); i++)
        if (imap_keyword(&s->in, simple[i].word)) {
            if (!has_item(f, simple[i].kind)) /* UID FETCH has one already */
                add_item(f, simple[i].kind, simple[i].label);
            return 0;
        }
    for (size_t i = 0; i < ARRAY_LEN(sections); i++)
        if (imap_keyword(&s->in, sections[i].word)) {
            if (imap_at(&s->in, '['))
                return take_section_item(s, f, sections[i].kind, sections[i].name, sections[i].peek);
            if (i != 1)
                return imap_fail(&s->in, "a section is expected");
            add_item(f, ITEM_BODY, "BODY");
            return 0;
        }
    if (imap_keyword(&s->in, "PREVIEW")) { /* "PREVIEW (LAZY)" has time for what we do at once */
        add_item(f, ITEM_PREVIEW, "PREVIEW");
        if (!slice_starts_with_fold(s->in.rest, " (LAZY)"))
            return 0;
        bool lazy = imap_space(&s->in) == 0 && imap_take(&s->in, '(') == 0 && imap_keyword(&s->in, "LAZY");
        return lazy ? imap_take(&s->in, ')') : -1;
    }
    if (imap_keyword(&s->in, "RFC822.HEADER")) {
        add_item(f, ITEM_SECTION, "RFC822.HEADER")->section = SECTION_HEADER;
    } else if (imap_keyword(&s->in, "RFC822.TEXT")) {
        struct item *item = add_item(f, ITEM_SECTION, "RFC822.TEXT");
        item->section = SECTION_TEXT;
        item->peek = false;
        f->sets_seen = true;
    } else if (imap_keyword(&s->in, "RFC822")) {
        add_item(f, ITEM_SECTION, "RFC822")->peek = false;
        f->sets_seen = true;
    } else {
        return imap_fail(&s->in, "unknown item");
    }
    return 0;
}

static bool
take_macro(struct session *s, struct fetch *f)
{
    bool all = imap_keyword(&s->in, "ALL"), full = !all && imap_keyword(&s->in, "FULL");
    if (!all && !full && !imap_keyword(&s->in, "FAST"))
        return false;
    add_item(f, ITEM_FLAGS, "FLAGS");
    add_item(f, ITEM_INTERNALDATE, "INTERNALDATE");
    add_item(f, ITEM_SIZE, "RFC822.SIZE");
    if (all || full)
        add_item(f, ITEM_ENVELOPE, "ENVELOPE");
    if (full)
        add_item(f, ITEM_BODY, "BODY");
    return true;
}

static int
take_modifier(struct session *s, struct fetch *f)
{
    if (imap_keyword(&s->in, "CHANGEDSINCE")) {
        f->has_since = true;
        return imap_space(&s->in) < 0 ? -1 : condstore_take_modseq(s, &f->since);
    }
    if (s->by_uid && s->qresync && imap_keyword(&s->in, "VANISHED")) {
        f->vanished = true;
        return 0;
    }
    if (!s->by_uid || !imap_keyword(&s->in, "PARTIAL"))
        return imap_fail(&s->in, "unknown modifier");
    return imap_space(&s->in) < 0 ? -1 : partial_take(&s->in, &f->partial);
}

/* " (PARTIAL 1:10)" (RFC 9394), " (CHANGEDSINCE 12345 VANISHED)" (RFC 7162) */
static int
take_modifiers(struct session *s, struct fetch *f)
{
    if (imap_space(&s->in) < 0 || imap_at_end(&s->in))
        return 0;
    if (imap_take(&s->in, '(') < 0)
        return -1;
    while (!imap_at(&s->in, ')')) {
        if (take_modifier(s, f) < 0)
            return -1;
        if (!imap_at(&s->in, ')') && imap_space(&s->in) < 0)
            return -1;
    }
    return imap_take(&s->in, ')');
}

/* Header fields that the index keeps, of the message itself. */
static bool
is_kept(const struct item *item)
{
    if (item->section != SECTION_FIELDS || item->number_count > 0)
        return false;
    for (size_t i = 0; i < item->field_count; i++)
        if (!cache_keeps_field(item->fields[i]))
            return false;
    return true;
}

static void
look_at_sections(struct fetch *f)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->items[i].kind == ITEM_SECTION && is_kept(&f->items[i]))
            f->needs_header = true;
        else if (f->items[i].kind == ITEM_SECTION)
            f->needs_content = true;
}

static int
parse_fetch(struct session *s, struct imap_set *set, struct fetch *f)
{
    f->items = arena_array(s->cmd, FETCH_ITEMS, sizeof(*f->items));
    if (imap_space(&s->in) < 0 || imap_set(&s->in, set) < 0 || imap_space(&s->in) < 0)
        return -1;
    if (s->by_uid)
        add_item(f, ITEM_UID, "UID");
    if (imap_at(&s->in, '(')) {
        if (imap_take(&s->in, '(') < 0)
            return -1;
        for (;;) {
            if (take_item(s, f) < 0)
                return -1;
            if (imap_at(&s->in, ')'))
                break;
            if (imap_space(&s->in) < 0)
                return -1;
        }
        if (imap_take(&s->in, ')') < 0)
            return -1;
    } else if (!take_macro(s, f) && take_item(s, f) < 0) {
        return -1;
    }
    if (imap_at(&s->in, ' ') && take_modifiers(s, f) < 0)
        return -1;
    look_at_sections(f);
    if (f->has_since && !has_item(f, ITEM_MODSEQ))
        add_item(f, ITEM_MODSEQ, "MODSEQ");
    if (f->vanished && !f->has_since)
        return imap_fail(&s->in, "VANISHED without CHANGEDSINCE");
    if (has_item(f, ITEM_MODSEQ) && condstore_need(s) < 0)
        return -1;
    return imap_end(&s->in);
}

/* ---- sections ---- */

static bool
is_named(const struct item *item, struct slice name)
{
    for (size_t i = 0; i < item->field_count; i++)
        if (slice_equal_fold(item->fields[i], name))
            return true;
    return false;
}

/* The fields that are asked for, and an empty line. */
static struct slice
filter_header(struct arena *arena, struct slice header, const struct item *item)
{
    struct slice rest = header, name, value;
    char *out = arena_alloc(arena, header.len + 3);
    size_t len = 0;
    const char *from = header.ptr;
    while (mime_field_next(&rest, &name, &value)) {
        const char *end = value.ptr + value.len;
        if (is_named(item, name) == (item->section == SECTION_FIELDS)) {
            from = name.ptr;
            memcpy(out + len, from, (size_t)(end - from));
            len += (size_t)(end - from);
            out[len++] = '\n';
        }
    }
    out[len++] = '\n';
    return slice_make(out, len);
}

/* What a section names, in one piece (a second for a whole message: header and body lie together anyway). */
static bool
find_section(struct arena *arena, const struct mime_part *message, const struct item *item, struct slice *bytes)
{
    const struct mime_part *part = structure_find(message, item->numbers, item->number_count);
    if (!part)
        return false;
    if (item->number_count > 0 && item->section == SECTION_ALL) {
        *bytes = part->body;
        return true;
    }
    if (item->section == SECTION_MIME) {
        *bytes = part->header;
        return true;
    }
    if (item->number_count > 0) { /* HEADER and TEXT are those of a message within */
        if (!part->message)
            return false;
        part = part->message;
    }
    switch (item->section) {
    case SECTION_ALL: *bytes = slice_make(part->header.ptr, part->header.len + part->body.len); break;
    case SECTION_HEADER: *bytes = part->header; break;
    case SECTION_TEXT: *bytes = part->body; break;
    default: *bytes = filter_header(arena, part->header, item); break;
    }
    return true;
}

/* ---- answering ---- */

/* One message's answer: gathers in out, and writes what is large straight to the stream. */
struct answer {
    struct session *s;
    struct arena *arena;
    struct buf out;
    const char *blank;
    const struct index_cached *cached; /* NULL: from the parts */
    char email_id[OBJECT_ID_SIZE], thread_id[OBJECT_ID_SIZE];
};

static void
write_piece(void *ctx, struct slice bytes)
{
    session_write(ctx, bytes);
}

static void
flush_answer(struct answer *a)
{
    session_write(a->s, buf_slice(&a->out));
    buf_clear(&a->out);
}

static void
put_literal(struct answer *a, const struct item *item, struct slice bytes, uint64_t total)
{
    uint64_t left = item->offset < total ? total - item->offset : 0;
    uint64_t size = item->length < left ? item->length : left;
    buf_printf(&a->out, "{%llu}\r\n", (unsigned long long)size);
    flush_answer(a);
    mime_wire(bytes, item->offset, size, write_piece, a->s);
}

static void
put_section(struct answer *a, const struct item *item, const struct mime_part *message)
{
    struct slice bytes;
    buf_printf(&a->out, "%s ", item->label);
    if (!find_section(a->arena, message, item, &bytes)) {
        buf_append_text(&a->out, item->number_count ? "NIL" : "\"\"");
        return;
    }
    put_literal(a, item, bytes, mime_wire_size(bytes, NULL));
}

static void
put_binary(struct answer *a, const struct item *item, const struct mime_part *message)
{
    struct buf decoded = {0};
    const struct mime_part *part = structure_find(message, item->numbers, item->number_count);
    buf_printf(&a->out, "%s ", item->label);
    if (!part) {
        buf_append_text(&a->out, item->kind == ITEM_BINARY_SIZE ? "0" : "NIL");
        return;
    }
    if (item->number_count == 0)
        buf_append(&decoded, part->header.ptr, part->header.len + part->body.len);
    else
        mime_decode(part->body, part->encoding, &decoded);
    if (item->kind == ITEM_BINARY_SIZE) {
        buf_printf(&a->out, "%zu", decoded.len);
    } else {
        uint64_t left = item->offset < decoded.len ? decoded.len - item->offset : 0;
        uint64_t size = item->length < left ? item->length : left;
        buf_printf(&a->out, "~{%llu}\r\n", (unsigned long long)size);
        flush_answer(a);
        session_write(a->s, slice_make(decoded.ptr + (left ? item->offset : 0), (size_t)size));
    }
    buf_release(&decoded);
}

static void
put_save_date(struct answer *a, struct folder_message *message)
{
    time_t when;
    buf_append_text(&a->out, "SAVEDATE ");
    if (message && attributes_save_date(a->s->selected->folder, message, &when))
        imap_put_date_time(&a->out, when);
    else
        buf_append_text(&a->out, "NIL");
}

static void
put_preview(struct answer *a, const struct mime_part *message)
{
    struct buf text = {0};
    attributes_preview(message, &text);
    buf_append_text(&a->out, "PREVIEW ");
    imap_put_string(&a->out, buf_slice(&text), a->s->utf8);
    buf_release(&text);
}

static void
put_item(struct answer *a, const struct item *item, uint32_t uid, const struct mime_part *parts)
{
    struct session *s = a->s;
    struct folder *folder = s->selected->folder;
    struct folder_message *message = folder_find(folder, uid);
    struct err err;
    if (item->kind == ITEM_UID && s->uid_only)
        return;
    buf_append_text(&a->out, a->blank);
    a->blank = " ";
    switch (item->kind) {
    case ITEM_UID: buf_printf(&a->out, "UID %u", uid); break;
    case ITEM_FLAGS:
        buf_append_text(&a->out, "FLAGS ");
        if (message)
            session_put_flags(&a->out, folder, message, view_is_recent(&s->view, uid));
        else
            buf_append_text(&a->out, "()");
        break;
    case ITEM_INTERNALDATE:
        buf_append_text(&a->out, "INTERNALDATE ");
        imap_put_date_time(&a->out, message ? folder_message_time(folder, message) : 0);
        break;
    case ITEM_SIZE:
        buf_printf(&a->out, "RFC822.SIZE %llu",
                   (unsigned long long)(message ? folder_message_size(folder, message, &err) : 0));
        break;
    case ITEM_ENVELOPE:
        buf_append_text(&a->out, "ENVELOPE ");
        if (a->cached)
            buf_append_slice(&a->out, a->cached->texts[INDEX_ENVELOPE]);
        else
            structure_put_envelope(a->arena, parts->header, s->utf8, &a->out);
        break;
    case ITEM_BODY:
    case ITEM_BODYSTRUCTURE:
        buf_printf(&a->out, "%s ", item->label);
        if (a->cached && item->kind == ITEM_BODYSTRUCTURE)
            buf_append_slice(&a->out, a->cached->texts[INDEX_STRUCTURE]);
        else
            structure_put_body(a->arena, parts, item->kind == ITEM_BODYSTRUCTURE, s->utf8, &a->out);
        break;
    case ITEM_MODSEQ:
        if (message && !message->modseq) /* \Seen was set just now */
            folder_commit_flags(folder);
        buf_printf(&a->out, "MODSEQ (%llu)", (unsigned long long)(message ? message->modseq : 0));
        break;
    case ITEM_SAVEDATE: put_save_date(a, message); break;
    case ITEM_EMAILID: buf_printf(&a->out, "EMAILID (%s)", a->email_id); break;
    case ITEM_THREADID: buf_printf(&a->out, "THREADID (%s)", a->thread_id); break;
    case ITEM_PREVIEW: put_preview(a, parts); break;
    case ITEM_SECTION: put_section(a, item, parts); break;
    case ITEM_BINARY:
    case ITEM_BINARY_SIZE: put_binary(a, item, parts); break;
    }
}

/* Sets \Seen where that was not yet; true: the flags are to be told. */
static int
mark_seen(struct session *s, struct folder_message *message, bool *told, struct err *err)
{
    bool gone;
    *told = false;
    if (s->read_only || (message->flags & FLAG_SEEN))
        return 0;
    uint64_t change = folder_change(s->selected->folder);
    if (folder_set_flags(s->selected->folder, message, message->flags | FLAG_SEEN, message->keywords, &gone, err) < 0)
        return -1;
    bool is_alone = folder_change(s->selected->folder) == change + 1; /* else a look took in what others did, too */
    if (s->view.change == change && is_alone && !s->condstore) {      /* we tell it here; it need not be told again */
        s->view.change = folder_change(s->selected->folder);
        *told = true;
    }
    mailbox_changed(s->selected);
    return 0;
}

/* What fetch_one() works with: the message's content, or what is remembered of it. */
struct source {
    struct folder_content content;
    struct mime_part *parts;
    struct index_cached cached;
    bool is_remembered;
};

static bool
take_remembered(struct session *s, const struct fetch *f, struct arena *arena, uint32_t uid, struct source *source)
{
    struct folder *folder = s->selected->folder;
    struct slice header = {0};
    if (f->needs_header && !cache_get_header(folder, uid, arena, &header))
        return false;
    if (f->needs_cache && (!folder_cached(folder, uid, arena, &source->cached) || (source->cached.is_wide && s->utf8)))
        return false;
    source->is_remembered = f->needs_cache;
    source->parts = ARENA_NEW(arena, struct mime_part); /* for its header alone */
    source->parts->header = header;
    return true;
}

static int
open_source(struct session *s, const struct fetch *f, struct arena *arena, struct folder_message *message,
            struct source *source, struct err *err)
{
    struct folder *folder = s->selected->folder;
    uint32_t uid = message->uid;
    bool by_cache = f->needs_cache && !f->needs_content;
    if (!f->needs_cache && !f->needs_content && !f->needs_header)
        return 0;
    if (!f->needs_content && take_remembered(s, f, arena, uid, source))
        return 0;
    if (folder_read(folder, message, &source->content, err) < 0)
        return -1;
    source->parts = f->needs_parts || by_cache ? mime_parse(arena, source->content.bytes)
                                               : mime_parse_top(arena, source->content.bytes);
    message = folder_find(folder, uid);
    if (f->needs_header && !f->needs_content)
        cache_fill_header(folder, uid, source->parts->header, arena);
    if (by_cache) {
        cache_fill(folder, uid, source->parts, arena, &source->cached);
        source->is_remembered = !(source->cached.is_wide && s->utf8);
    } else if (message) {
        folder_learn_size(folder, message, source->parts->header_wire + source->parts->body_wire);
    }
    return 0;
}

/* 0: the message is gone. */
static int
take_ids(const struct fetch *f, uint32_t uid, struct answer *a, struct err *err)
{
    struct folder *folder = a->s->selected->folder;
    int result = 1;
    if (has_item(f, ITEM_EMAILID))
        result = cache_get_email_id(folder, uid, a->arena, a->email_id, err);
    if (result > 0 && has_item(f, ITEM_THREADID))
        result = cache_get_thread_id(folder, uid, a->arena, a->thread_id, err);
    return result;
}

/* -1: the message can't be read; the others still are. */
static int may_wait
fetch_one(struct session *s, const struct fetch *f, struct arena *arena, uint32_t uid, struct err *err)
{
    struct folder *folder = s->selected->folder;
    struct folder_message *message = folder_find(folder, uid);
    struct source source = {0};
    struct answer a = {.s = s, .arena = arena, .blank = ""};
    bool tell_flags = false;

    if (!message)
        return 0; /* gone; to be told with the next EXPUNGE */
    if (f->has_since && message->modseq <= f->since)
        return 0;
    int known = take_ids(f, uid, &a, err);
    message = folder_find(folder, uid);
    if (known <= 0 || !message)
        return known < 0 ? -1 : 0;
    if (open_source(s, f, arena, message, &source, err) < 0)
        return err->kind == ERR_PERM ? 0 : -1;
    message = folder_find(folder, uid);
    if (f->sets_seen && message && mark_seen(s, message, &tell_flags, err) < 0) {
        folder_content_release(&source.content);
        return -1;
    }
    a.cached = source.is_remembered ? &source.cached : NULL;
    if (s->uid_only)
        buf_printf(&a.out, "* %u UIDFETCH (", uid);
    else
        buf_printf(&a.out, "* %zu FETCH (", view_sequence(&s->view, uid));
    for (size_t i = 0; i < f->count; i++)
        put_item(&a, &f->items[i], uid, source.parts);
    message = folder_find(folder, uid);
    if (tell_flags && !has_item(f, ITEM_FLAGS) && message) {
        buf_printf(&a.out, "%sFLAGS ", a.blank);
        session_put_flags(&a.out, folder, message, view_is_recent(&s->view, uid));
    }
    buf_append_text(&a.out, ")\r\n");
    flush_answer(&a);
    buf_release(&a.out);
    if (source.content.bytes.ptr)
        folder_content_release(&source.content);
    return 0;
}

struct imap_reply
cmd_fetch(struct session *s)
{
    struct imap_set set;
    struct fetch f = {0};
    struct err err;
    uint32_t *uids;
    size_t count;
    bool failed = false;

    if (parse_fetch(s, &set, &f) < 0 || session_set_uids(s, &set, &uids, &count) < 0)
        return imap_bad(s);
    size_t skip = partial_cut(&f.partial, &count);
    uids += skip;
    if (has_item(&f, ITEM_MODSEQ))
        condstore_enable(s);
    if (f.vanished && condstore_tell_vanished(s, f.since, set.is_saved ? NULL : &set, &err) < 0)
        return imap_error(s, &err);
    struct arena *arena = arena_new();
    for (size_t i = 0; i < count && !s->stopping; i++) {
        if (fetch_one(s, &f, arena, uids[i], &err) < 0)
            failed = true;
        arena_reset(arena);
    }
    arena_free(&arena);
    if (f.needs_cache || f.needs_header || has_item(&f, ITEM_EMAILID) || has_item(&f, ITEM_THREADID))
        folder_cache_flush(s->selected->folder);
    if (failed)
        return imap_error(s, &err);
    return imap_ok("Fetch completed.");
}
