/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/destinations.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/text.h"

/* What stands between two commas: words, of which each is a destination, unless an address in <> follows. */
struct gathering {
    struct buf text; /* the words, a NUL behind each that is complete */
    bool in_word;
    bool closed; /* what comes behind '>' does not count */
};

static void
add(struct gathering *g, char byte)
{
    if (g->closed || byte == '\0')
        return;
    g->in_word = true;
    buf_append_byte(&g->text, byte);
}

static void
end_word(struct gathering *g)
{
    if (g->in_word)
        buf_append_byte(&g->text, '\0');
    g->in_word = false;
}

/* From behind the opening quote to behind the closing one (or to the end). */
static const char *
take_quoted(struct gathering *g, const char *at, const char *end)
{
    while (at < end && *at != '"') {
        if (*at == '\\' && at + 1 < end)
            at++;
        add(g, *at++);
    }
    return at < end ? at + 1 : at;
}

static const char *
skip_comment(const char *at, const char *end)
{
    unsigned depth = 1;

    for (; at < end && depth > 0; at++) {
        if (*at == '\\' && at + 1 < end)
            at++;
        else if (*at == '(')
            depth++;
        else if (*at == ')')
            depth--;
    }
    return at;
}

static void
finish(struct gathering *g, void (*emit)(void *ctx, struct slice text), void *ctx)
{
    struct slice rest, word;

    end_word(g);
    rest = buf_slice(&g->text);
    while (slice_cut(&rest, '\0', &word))
        emit(ctx, word);
    buf_clear(&g->text);
    g->closed = false;
}

void
destinations_parse(struct slice line, void (*emit)(void *ctx, struct slice text), void *ctx)
{
    const char *at = line.ptr, *nul = line.len ? memchr(line.ptr, '\0', line.len) : NULL;
    const char *end = nul ? nul : line.ptr + line.len;
    struct gathering g = {0};

    if (at < end && *at == '#')
        return;
    while (at < end) {
        char byte = *at++;

        if (byte == '"') {
            at = take_quoted(&g, at, end);
        } else if (byte == '(') {
            at = skip_comment(at, end);
        } else if (byte == ',') {
            finish(&g, emit, ctx);
        } else if (byte == '<') {
            buf_clear(&g.text);
            g.in_word = false;
        } else if (byte == '>') {
            g.closed = true;
        } else if (text_is_space(byte)) {
            end_word(&g);
        } else {
            if (byte == '\\' && at < end)
                byte = *at++;
            add(&g, byte);
        }
    }
    finish(&g, emit, ctx);
    buf_release(&g.text);
}

/* ---- files ---- */

struct counting {
    void (*emit)(void *ctx, struct slice text);
    void *ctx;
    unsigned count;
};

static void
count_one(void *ctx, struct slice text)
{
    struct counting *c = ctx;

    if (c->count++ < DESTINATIONS_LIMIT)
        c->emit(c->ctx, text);
}

static int
read_whole(int fd, const char *path, struct buf *text, struct store_fault *fault)
{
    ssize_t n;

    while ((n = read(fd, buf_reserve(text, 16384), 16384)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fault_errno(fault, "4.2.0", "error reading file %s", path);
        buf_added(text, (size_t)n);
        if (text->len > DESTINATIONS_FILE_LIMIT)
            return fault_set(fault, "4.2.0", "file %s is too large for a list of destinations", path);
    }
    return 0;
}

int
destinations_read(int fd, const char *path, void (*emit)(void *ctx, struct slice text), void *ctx,
                  struct store_fault *fault)
{
    struct counting counting = {emit, ctx, 0};
    struct buf text = {0};
    struct slice rest, line;
    int result = read_whole(fd, path, &text, fault);

    rest = buf_slice(&text);
    while (result == 0 && slice_cut(&rest, '\n', &line))
        destinations_parse(line, count_one, &counting);
    if (result == 0 && counting.count > DESTINATIONS_LIMIT)
        result = fault_set(fault, "4.2.0", "file %s has too many destinations", path);
    buf_release(&text);
    return result;
}
