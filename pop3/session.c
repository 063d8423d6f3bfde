/* SPDX-License-Identifier: Apache-2.0 */
#include "pop3/session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/log_events.h"
#include "lib/mail/mime.h"
#include "lib/run/loop.h"
#include "lib/run/stream.h"
#include "lib/service/user_process.h"
#include "lib/store/folder.h"

enum { LINE_LIMIT = 1024 };

struct entry {
    uint32_t uid;
    uint64_t size; /* on the wire; 0: not known yet */
    bool deleted;
};

struct session {
    struct session *next;
    struct stream *stream;
    struct folder *folder;
    struct entry *entries; /* message n is entries[n - 1] */
    size_t count;
    uint32_t uid_validity; /* of the UIDs in entries */
    bool done, update, stopping;
    unsigned retrieved, removed;
    uint64_t bytes_out;
    struct err err;
};

static struct session *sessions;

/* ---- answers ---- */

static void may_wait
say(struct session *s, const char *text)
{
    stream_printf(s->stream, "%s\r\n", text);
}

static void may_wait
say_err(struct session *s, const struct err *err)
{
    log_warning("%s", err->text);
    stream_printf(s->stream, "-ERR [%s] %s\r\n", err->kind == ERR_PERM ? "SYS/PERM" : "SYS/TEMP", err->text);
}

/* NULL: it is gone, or another program has numbered all anew, and its number is another's. */
static struct folder_message *
message_of(const struct session *s, const struct entry *entry)
{
    return folder_uid_validity(s->folder) == s->uid_validity ? folder_find(s->folder, entry->uid) : NULL;
}

static uint64_t
size_of(struct session *s, struct entry *entry)
{
    struct folder_message *message = message_of(s, entry);
    if (!entry->size && message)
        entry->size = folder_message_size(s->folder, message, &s->err);
    return entry->size;
}

/* The message that the argument names; NULL: the client was told. */
static struct entry *may_wait
find(struct session *s, struct slice *args)
{
    struct slice word;
    unsigned long long n;
    if (!slice_word(args, " ", &word) || slice_to_u64(word, UINT32_MAX, &n) < 0) {
        say(s, "-ERR A message number is expected.");
        return NULL;
    }
    if (n == 0 || n > s->count || s->entries[n - 1].deleted) {
        say(s, "-ERR No such message.");
        return NULL;
    }
    return &s->entries[n - 1];
}

static unsigned
number_of(const struct session *s, const struct entry *entry)
{
    return (unsigned)(entry - s->entries) + 1;
}

/* ---- sending a message ---- */

struct output {
    struct session *s;
    bool line_begins;
    char last[2];
};

/* Dot-stuffed; bytes are in wire form. */
static void may_wait
put(void *ctx, struct slice bytes)
{
    struct output *o = ctx;
    const char *at = bytes.ptr, *end = bytes.ptr + bytes.len;
    while (at < end) {
        if (o->line_begins && *at == '.')
            stream_write(o->s->stream, ".", 1);
        const char *lf = memchr(at, '\n', (size_t)(end - at)), *stop = lf ? lf + 1 : end;
        stream_write(o->s->stream, at, (size_t)(stop - at));
        o->line_begins = lf != NULL;
        at = stop;
    }
    o->s->bytes_out += bytes.len;
    if (bytes.len > 1)
        memcpy(o->last, end - 2, 2);
    else if (bytes.len == 1) {
        o->last[0] = o->last[1];
        o->last[1] = end[-1];
    }
}

static void may_wait
put_end(struct output *o)
{
    say(o->s, o->last[1] == '\n' ? "." : "\r\n.");
}

/* How long the header and so many lines of the body are. */
static size_t
top_length(struct slice bytes, uint64_t lines)
{
    struct arena *arena = arena_new();
    struct mime_part *part = mime_parse_top(arena, bytes);
    size_t len = part->header.len;
    arena_free(&arena);
    for (; lines > 0 && len < bytes.len; lines--) {
        const char *lf = memchr(bytes.ptr + len, '\n', bytes.len - len);
        len = lf ? (size_t)(lf - bytes.ptr) + 1 : bytes.len;
    }
    return len;
}

static void may_wait
send_message(struct session *s, struct entry *entry, bool whole, uint64_t lines)
{
    struct folder_message *message = message_of(s, entry);
    struct folder_content content;
    struct output o = {.s = s, .line_begins = true, .last = {0, '\n'}};
    bool gone;
    if (!message || folder_read(s->folder, message, &content, &s->err) < 0) {
        say(s, "-ERR [SYS/TEMP] The message can't be read.");
        return;
    }
    struct slice bytes = content.bytes;
    if (!whole)
        bytes.len = top_length(bytes, lines);
    say(s, "+OK");
    mime_wire(bytes, 0, UINT64_MAX, put, &o);
    put_end(&o);
    folder_content_release(&content);
    message = message_of(s, entry);
    if (!whole || !message)
        return;
    s->retrieved++;
    if (!(message->flags & FLAG_SEEN) &&
        folder_set_flags(s->folder, message, message->flags | FLAG_SEEN, message->keywords, &gone, &s->err) < 0)
        log_warning("%s", s->err.text);
}

/* ---- commands ---- */

static void may_wait
cmd_stat(struct session *s, struct slice args)
{
    uint64_t size = 0;
    size_t count = 0;
    (void)args;
    for (size_t i = 0; i < s->count; i++)
        if (!s->entries[i].deleted) {
            size += size_of(s, &s->entries[i]);
            count++;
        }
    stream_printf(s->stream, "+OK %zu %llu\r\n", count, (unsigned long long)size);
}

static void may_wait
cmd_list(struct session *s, struct slice args)
{
    if (slice_trim(args).len > 0) {
        struct entry *entry = find(s, &args);
        if (entry)
            stream_printf(s->stream, "+OK %u %llu\r\n", number_of(s, entry), (unsigned long long)size_of(s, entry));
        return;
    }
    say(s, "+OK");
    for (size_t i = 0; i < s->count; i++)
        if (!s->entries[i].deleted)
            stream_printf(s->stream, "%zu %llu\r\n", i + 1, (unsigned long long)size_of(s, &s->entries[i]));
    say(s, ".");
}

static void may_wait
put_uidl(struct session *s, const struct entry *entry)
{
    const struct folder_message *message = message_of(s, entry);
    struct buf out = {0};
    for (const char *at = settings.uidl_format; *at; at++) {
        bool hex = strncmp(at, "%08X", 4) == 0;
        char what = hex ? at[4] : *at == '%' ? at[1] : '\0';
        if (what == 'u')
            buf_printf(&out, hex ? "%08X" : "%u", entry->uid);
        else if (what == 'v')
            buf_printf(&out, hex ? "%08X" : "%u", s->uid_validity);
        else if (what == 'f' && message)
            buf_append_slice(&out, message->name);
        else {
            buf_append_byte(&out, *at);
            continue;
        }
        at += hex ? 4 : 1;
    }
    stream_printf(s->stream, "%u %.70s\r\n", number_of(s, entry), buf_text(&out));
    buf_release(&out);
}

static void may_wait
cmd_uidl(struct session *s, struct slice args)
{
    if (slice_trim(args).len > 0) {
        struct entry *entry = find(s, &args);
        if (!entry)
            return;
        stream_write_text(s->stream, "+OK ");
        put_uidl(s, entry);
        return;
    }
    say(s, "+OK");
    for (size_t i = 0; i < s->count; i++)
        if (!s->entries[i].deleted)
            put_uidl(s, &s->entries[i]);
    say(s, ".");
}

static void may_wait
cmd_retr(struct session *s, struct slice args)
{
    struct entry *entry = find(s, &args);
    if (entry)
        send_message(s, entry, true, 0);
}

static void may_wait
cmd_top(struct session *s, struct slice args)
{
    struct entry *entry = find(s, &args);
    struct slice word;
    unsigned long long lines;
    if (!entry)
        return;
    if (!slice_word(&args, " ", &word) || slice_to_u64(word, INT64_MAX, &lines) < 0)
        say(s, "-ERR A number of lines is expected.");
    else
        send_message(s, entry, false, lines);
}

static void may_wait
cmd_dele(struct session *s, struct slice args)
{
    struct entry *entry = find(s, &args);
    if (!entry)
        return;
    entry->deleted = true;
    say(s, "+OK Marked to be deleted.");
}

static void may_wait
cmd_rset(struct session *s, struct slice args)
{
    (void)args;
    for (size_t i = 0; i < s->count; i++)
        s->entries[i].deleted = false;
    say(s, "+OK");
}

static void may_wait
cmd_noop(struct session *s, struct slice args)
{
    (void)args;
    say(s, "+OK");
}

static void may_wait
cmd_capa(struct session *s, struct slice args)
{
    (void)args;
    say(s,
        "+OK Capability list follows\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\n"
        "IMPLEMENTATION Postern\r\n.");
}

static void may_wait
cmd_quit(struct session *s, struct slice args)
{
    (void)args;
    s->update = s->done = true;
}

static const struct {
    const char *verb;
    void (*run)(struct session *, struct slice args);
} commands[] = {
    {"STAT", cmd_stat}, {"LIST", cmd_list}, {"RETR", cmd_retr}, {"DELE", cmd_dele}, {"NOOP", cmd_noop},
    {"RSET", cmd_rset}, {"TOP", cmd_top},   {"UIDL", cmd_uidl}, {"CAPA", cmd_capa}, {"QUIT", cmd_quit},
};

static void may_wait
serve_command(struct session *s)
{
    enum stream_line_end ending;
    struct slice line, verb = {"", 0};
    stream_set_deadline(s->stream, loop_now() + settings.idle_timeout);
    if (stream_read_line(s->stream, LINE_LIMIT, &line, &ending, &s->err) < 0) {
        s->done = true;
        return;
    }
    if (ending == STREAM_LINE_CUT) {
        say(s, "-ERR The line is too long.");
        s->done = true;
        return;
    }
    char text[LINE_LIMIT + 1]; /* the line's memory goes with the next wait */
    memcpy(text, line.ptr, line.len);
    struct slice args = slice_make(text, line.len);
    slice_word(&args, " ", &verb);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (slice_equal_text_fold(verb, commands[i].verb)) {
            commands[i].run(s, args);
            return;
        }
    say(s, "-ERR Unknown command.");
}

/* ---- beginning and end ---- */

static void
list_messages(struct session *s)
{
    s->count = folder_count(s->folder);
    s->uid_validity = folder_uid_validity(s->folder);
    s->entries = calloc(s->count + 1, sizeof(*s->entries));
    if (!s->entries)
        fatal("out of memory");
    for (size_t i = 0; i < s->count; i++)
        s->entries[i] = (struct entry){.uid = folder_at(s->folder, i)->uid, .size = folder_at(s->folder, i)->wire_size};
}

static void may_wait
update(struct session *s)
{
    int result = 0;
    bool removes = false;
    for (size_t i = 0; i < s->count; i++)
        removes = removes || s->entries[i].deleted;
    if (removes && folder_sync(s->folder, &s->err) == 0 && folder_uid_validity(s->folder) != s->uid_validity)
        result = err_set(&s->err, ERR_TEMP, "another program has numbered the messages anew; none was removed");
    for (size_t i = 0; i < s->count; i++) {
        struct folder_message *message = s->entries[i].deleted ? message_of(s, &s->entries[i]) : NULL;
        if (!message)
            continue;
        if (folder_expunge(s->folder, message, &s->err) < 0)
            result = -1;
        else
            s->removed++;
    }
    if (s->removed > 0 && folder_settle(s->folder, &s->err) < 0)
        result = -1;
    if (result < 0)
        say_err(s, &s->err);
    else
        say(s, "+OK Logging out.");
}

void
session_stop_all(void)
{
    for (struct session *s = sessions; s; s = s->next) {
        s->stopping = true;
        stream_cancel(s->stream);
    }
}

static int may_wait
open_mailbox(struct session *s, const char *place, enum folder_make kind)
{
    unsigned count = 0;
    uint32_t moved;
    for (const struct session *each = sessions; each; each = each->next)
        count++;
    if (count > settings.session_limit) {
        say(s, "-ERR [IN-USE] Too many sessions of this user.");
        return -1;
    }
    s->folder = folder_open(place, kind, &s->err);
    if (!s->folder || folder_sync(s->folder, &s->err) < 0 || folder_take_new(s->folder, &moved, &s->err) < 0) {
        say_err(s, &s->err);
        return -1;
    }
    list_messages(s);
    say(s, "+OK Logged in.");
    return 0;
}

void
session_serve(const char *place, enum folder_make kind, int fd, const struct msg_session *from, struct slice input)
{
    struct session *s = calloc(1, sizeof(*s));
    struct err err;
    if (!s)
        fatal("out of memory");
    s->stream = stream_new(fd);
    stream_unread(s->stream, input);
    stream_set_deadline(s->stream, loop_now() + settings.idle_timeout);
    s->next = sessions;
    sessions = s;
    if (open_mailbox(s, place, kind) == 0) {
        while (!s->done)
            serve_command(s);
        if (s->update)
            update(s);
    }
    stream_set_deadline(s->stream, loop_now() + SECONDS(10));
    (void)!stream_flush(s->stream, &err);
    log_pop3_logout(from->client_name, from->client_address, user_identity()->user, s->retrieved, s->removed,
                    (unsigned long long)s->bytes_out,
                    s->update     ? "quit"
                    : s->stopping ? "server stopping"
                                  : "connection closed");
    for (struct session **at = &sessions; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    folder_close(&s->folder);
    free(s->entries);
    stream_free(&s->stream);
    free(s);
}
