/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/siphash.h"
#include "lib/store/folder_mbox.h"

enum { SMALL = 8 << 10, LARGE = 256 << 10, FROM_LIMIT = 512 };

/* A piece of the file. It is read, not mapped: a program that cuts the file meanwhile would kill us. */
struct window {
    int fd;
    off_t size; /* of the file */
    char *bytes;
    size_t room, len;
    off_t at;
    struct err *err;
};

/* The file from there on: at least `want` bytes, or up to its end. An empty slice: nothing, or *failed. */
static struct slice
look(struct window *w, off_t at, size_t want, bool *failed)
{
    if (at + (off_t)want > w->size)
        want = at < w->size ? (size_t)(w->size - at) : 0;
    if (at < w->at || at + (off_t)want > w->at + (off_t)w->len) {
        off_t skipped = at - w->at - (off_t)w->len;
        if (skipped < LARGE && want < LARGE) /* small messages: more of them at once */
            want = w->size - at < LARGE ? (size_t)(w->size - at) : LARGE;
        w->at = at;
        w->len = 0;
        if (want > w->room) {
            free(w->bytes);
            w->room = want > LARGE ? want : LARGE;
            w->bytes = malloc(w->room);
            if (!w->bytes)
                fatal("out of memory");
        }
    }
    while (at + (off_t)want > w->at + (off_t)w->len) {
        size_t end = (size_t)(at - w->at) + want;
        ssize_t n = pread(w->fd, w->bytes + w->len, end - w->len, w->at + (off_t)w->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            *failed = true;
            n < 0 ? err_errno(w->err, "read") : err_set(w->err, ERR_TEMP, "the mailbox became shorter");
            return slice_make("", 0);
        }
        w->len += (size_t)n;
    }
    if (!w->bytes) /* nothing was wanted */
        return slice_make("", 0);
    return slice_make(w->bytes + (at - w->at), (size_t)(w->at + (off_t)w->len - at));
}

static struct slice
first_line(struct slice bytes)
{
    const char *lf = bytes.len ? memchr(bytes.ptr, '\n', bytes.len) : NULL;
    return lf ? slice_make(bytes.ptr, (size_t)(lf - bytes.ptr) + 1) : bytes;
}

/* A line without an end is no From_ line yet: somebody is writing it. */
static bool
is_from_line(struct slice line, time_t *when)
{
    return line.len > 0 && line.ptr[line.len - 1] == '\n' && mbox_is_from_line(line, when);
}

static bool
is_from_at(struct window *w, off_t at, bool *failed)
{
    return is_from_line(first_line(look(w, at, FROM_LIMIT, failed)), NULL);
}

/* Where the message ends whose header ends at `at`. */
static off_t
find_end(struct window *w, off_t at, bool *failed)
{
    static const char sign[] = "\nFrom ";
    if (at > 0)
        at--; /* the header's last line end may be the one before the From_ line */
    while (at < w->size && !*failed) {
        /* What the window still has: a body may be full of lines that begin so. */
        struct slice bytes = look(w, at, FROM_LIMIT, failed);
        const char *hit = bytes.len ? memmem(bytes.ptr, bytes.len, sign, sizeof(sign) - 1) : NULL;
        if (!hit) {
            if (at + (off_t)bytes.len >= w->size)
                break;
            at += (off_t)(bytes.len - sizeof(sign) + 2);
            continue;
        }
        at += hit - bytes.ptr + 1;
        if (is_from_at(w, at, failed))
            return at;
    }
    return w->size;
}

/* A known message that began here ended there: is that still so? */
static bool
is_end(struct window *w, off_t end, bool *failed)
{
    if (end > w->size)
        return false;
    struct slice before = look(w, end - 1, 1 + FROM_LIMIT, failed);
    return before.len > 0 && before.ptr[0] == '\n' && (end == w->size || is_from_at(w, end, failed));
}

static uint64_t
digest_of(struct slice header)
{
    static const struct siphash_key none = {0};
    struct siphash_state state;
    struct slice field;
    siphash_begin(&state, &none);
    while (mbox_cut_field(&header, &field))
        if (mbox_field_kind(field) == MBOX_OTHER && !slice_starts_with_fold(field, "Lines:"))
            siphash_add(&state, field.ptr, field.len);
    return siphash_end(&state);
}

/* A message without an empty line after its header: the next one's From_ line ends it. */
static size_t
cut_at_from(struct slice bytes)
{
    const char *at = bytes.ptr, *end = bytes.ptr + bytes.len;
    while (at < end) {
        struct slice line = first_line(slice_make(at, (size_t)(end - at)));
        if (at > bytes.ptr && is_from_line(line, NULL))
            return (size_t)(at - bytes.ptr);
        at += line.len;
    }
    return bytes.len;
}

/* The header: all of it, or as far as the limit goes in whole lines. */
static struct slice
look_at_header(struct window *w, off_t at, struct mbox_place *place, bool *failed)
{
    size_t lines = 0, length = 0;
    struct slice bytes;
    for (size_t want = SMALL;; want *= 4) {
        bytes = look(w, at, want, failed);
        length = mbox_header_length(bytes, &lines);
        if (length > 0 || *failed || want >= MBOX_HEADER_LIMIT || at + (off_t)bytes.len >= w->size)
            break;
    }
    if (length == 0) {
        const char *lf = bytes.len ? memrchr(bytes.ptr, '\n', bytes.len) : NULL;
        lines = length = lf ? (size_t)(lf - bytes.ptr) + 1 : 0;
    }
    size_t cut = cut_at_from(slice_make(bytes.ptr, lines));
    if (cut < lines)
        lines = length = cut;
    place->lines = (off_t)lines;
    place->header = (off_t)length;
    return slice_make(bytes.ptr, lines);
}

static struct slice
keep(struct arena *arena, struct slice text)
{
    return text.len ? slice_make(arena_strndup(arena, text.ptr, text.len), text.len) : slice_make("", 0);
}

static struct mbox_found *
add(struct mbox_scan *scan)
{
    if (scan->count == scan->size) {
        scan->size = scan->size ? 2 * scan->size : 64;
        scan->found = realloc(scan->found, scan->size * sizeof(*scan->found));
        if (!scan->found)
            fatal("out of memory");
    }
    scan->found[scan->count] = (struct mbox_found){0};
    return &scan->found[scan->count++];
}

/* The known message that began at this offset; the offsets come ascending. */
static off_t
hint_for(const struct folder *hints, size_t *next, off_t at)
{
    while (*next < folder_count(hints) && mbox_own_of(folder_at(hints, *next))->place.at < at)
        ++*next;
    if (*next >= folder_count(hints) || mbox_own_of(folder_at(hints, *next))->place.at != at)
        return 0;
    return mbox_own_of(folder_at(hints, *next))->place.end;
}

static off_t
scan_one(struct mbox_scan *scan, struct window *w, off_t at, off_t hint, bool *failed)
{
    struct mbox_found *found = add(scan);
    struct slice line = first_line(look(w, at, FROM_LIMIT, failed));
    if (*failed)
        return w->size;
    if (!is_from_line(line, &found->when)) {
        *failed = true;
        err_set(w->err, ERR_PERM, "this is not an mbox: no From_ line at offset %lld", (long long)at);
        return w->size;
    }
    found->place.at = at;
    found->place.from_len = (off_t)line.len;
    struct slice header = look_at_header(w, at + (off_t)line.len, &found->place, failed);
    mbox_parse_own(header, &found->own);
    found->own.keywords = keep(scan->arena, found->own.keywords);
    found->own.base_keywords = keep(scan->arena, found->own.base_keywords);
    found->place.digest = digest_of(header);
    off_t body = at + (off_t)line.len + found->place.header;
    found->place.end = hint > body && is_end(w, hint, failed) ? hint : find_end(w, body, failed);
    return found->place.end;
}

int
mbox_scan(struct mbox_scan *scan, int fd, off_t size, const struct folder *hints, struct err *err)
{
    struct window w = {.fd = fd, .size = size, .err = err};
    bool failed = false;
    size_t next = 0;
    off_t at = 0;
    *scan = (struct mbox_scan){.arena = arena_new()};
    for (struct slice start = look(&w, 0, SMALL, &failed); at < (off_t)start.len && start.ptr[at] == '\n';)
        at++;
    while (at < size && !failed)
        at = scan_one(scan, &w, at, hint_for(hints, &next, at), &failed);
    free(w.bytes);
    return failed ? -1 : 0;
}

void
mbox_scan_release(struct mbox_scan *scan)
{
    arena_free(&scan->arena);
    free(scan->found);
}
