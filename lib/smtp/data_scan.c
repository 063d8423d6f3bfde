/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/smtp/data_scan.h"

#include <string.h>

#include "lib/base/octets.h"

/* ---- runs that are clean ---- */

enum {
    BLOCK = 4 * OCTETS,    /* what is looked at before one asks whether all was clean */
    LOOK_AGAIN = 4 * BLOCK /* how far behind the end of a clean run the next is looked for */
};

/* Bytes at which something is wrong: an LF without CR before it, another byte behind a CR, and what ends a dot that is alone on its
 * line. The two bytes before `at` can be read, and count. */
static inline octets_marks
faults(const char *at)
{
    octets now = octets_load(at), before = octets_load(at - 1), first = octets_load(at - 2);
    octets_marks lf = now == '\n', after_cr = before == '\r';

    return (lf ^ after_cr) | ((first == '\n') & (before == '.') & (lf | (now == '\r')));
}

static inline bool
is_block_clean(const char *at)
{
    return !octets_any(faults(at) | faults(at + OCTETS) | faults(at + 2 * OCTETS) | faults(at + 3 * OCTETS));
}

/* A run of blocks ends where what it ends with is decided: not behind a CR, nor a dot that begins a line. */
static size_t
decided(const char *bytes, size_t n)
{
    if (n > 0 && bytes[n - 1] == '\r')
        n--;
    if (n > 1 && bytes[n - 1] == '.' && bytes[n - 2] == '\n')
        n--;
    return n;
}

size_t
data_scan_clean(struct data_scan *scan, struct slice bytes)
{
    const char *at = bytes.ptr;
    size_t n = 2;

    if (bytes.len < n + BLOCK || scan->done || scan->place > DATA_IN_LINE)
        return 0;
    /* The first two bytes, before which others may stand. */
    if (at[0] == '\n' || at[1] == '\n' || at[0] == '\r' || (at[0] == '.' && scan->place == DATA_LINE_START))
        return 0;
    while (bytes.len - n >= BLOCK && is_block_clean(at + n))
        n += BLOCK;
    if (n == 2)
        return 0;
    n = decided(at, n);
    scan->place = at[n - 1] == '\n' ? DATA_LINE_START : DATA_IN_LINE;
    scan->line_after_lf = false; /* or no matter, if that line goes on */
    return n;
}

/* ---- the rest ---- */

/* The scanner works on lines. `from` is the first byte that was not copied yet; as long as the input is what the output
 * must be, only the reading position moves, and a whole run is copied at once. A byte that must not come out as it is
 * ends the run. What is undecided at the end of the input (a CR, a dot at the start of a line) is not copied, but kept
 * as the state; data_scan() begins by writing it out when the next byte has decided. */
struct run {
    const char *at, *end; /* what is left to read */
    const char *from;     /* what is left to copy, up to at */
    struct buf *out;
};

/* Copies what was read before `to`; goes on behind `next`. */
static void
flush_run(struct run *run, const char *to, const char *next)
{
    if (to > run->from)
        buf_append(run->out, run->from, (size_t)(to - run->from));
    run->from = run->at = next;
}

static void
end_line(struct data_scan *scan, bool bare_lf)
{
    scan->place = DATA_LINE_START;
    scan->line_after_lf = bare_lf;
    scan->saw_bare_lf |= bare_lf;
}

/* The bare CRs of a stretch of a line become blanks; `to` is the line's end. */
static void
blank_bare_cr(struct data_scan *scan, struct run *run, const char *to)
{
    const char *cr;

    while (run->at < to && (cr = memchr(run->at, '\r', (size_t)(to - run->at))) != NULL) {
        scan->saw_bare_cr = true;
        flush_run(run, cr, cr + 1);
        buf_append_byte(run->out, ' ');
    }
}

/* In a line: reads up to its end, or to the end of the input. */
static void
scan_line(struct data_scan *scan, struct run *run)
{
    const char *lf = memchr(run->at, '\n', (size_t)(run->end - run->at));

    if (!lf) {
        bool cr_last = run->end[-1] == '\r';
        blank_bare_cr(scan, run, run->end - cr_last);
        scan->place = cr_last ? DATA_AFTER_CR : DATA_IN_LINE;
        flush_run(run, run->end - cr_last, run->end);
        return;
    }
    bool bare = lf == run->at || lf[-1] != '\r';
    blank_bare_cr(scan, run, bare ? lf : lf - 1);
    if (bare) {
        flush_run(run, lf, lf + 1);
        buf_append(run->out, "\r\n", 2);
    }
    run->at = lf + 1;
    end_line(scan, bare);
}

/* The first byte of a line. */
static void
scan_line_start(struct data_scan *scan, struct run *run)
{
    if (*run->at == '.') {
        flush_run(run, run->at, run->at + 1);
        scan->place = DATA_AFTER_DOT;
    } else {
        scan->place = DATA_IN_LINE;
    }
}

/* The byte behind a CR that is in a line, not copied yet. */
static void
scan_after_cr(struct data_scan *scan, struct run *run)
{
    if (*run->at == '\n') {
        buf_append(run->out, "\r\n", 2);
        run->from = ++run->at;
        end_line(scan, false);
        return;
    }
    scan->saw_bare_cr = true;
    buf_append_byte(run->out, ' ');
    scan->place = DATA_IN_LINE;
}

/* The byte behind a dot that began a line, not copied yet. */
static void
scan_after_dot(struct data_scan *scan, struct run *run)
{
    switch (*run->at) {
    case '\r':
        run->from = ++run->at;
        scan->place = DATA_AFTER_DOT_CR;
        break;
    case '\n': /* a lone dot, but not the end: an empty line */
        buf_append(run->out, "\r\n", 2);
        run->from = ++run->at;
        end_line(scan, true);
        break;
    default: buf_append_byte(run->out, '.'); scan->place = DATA_IN_LINE;
    }
}

static void
scan_after_dot_cr(struct data_scan *scan, struct run *run)
{
    if (*run->at != '\n') {
        scan->saw_bare_cr = true;
        buf_append(run->out, ". ", 2);
        scan->place = DATA_IN_LINE;
        return;
    }
    run->from = ++run->at;
    if (!scan->line_after_lf) {
        scan->done = true;
        return;
    }
    buf_append(run->out, "\r\n", 2);
    end_line(scan, false);
}

size_t
data_scan(struct data_scan *scan, struct slice bytes, struct buf *out)
{
    struct run run = {.at = bytes.ptr, .end = bytes.ptr + bytes.len, .from = bytes.ptr, .out = out};
    const char *look = run.at; /* from here on a clean run may be looked for */

    while (run.at < run.end && !scan->done) {
        if (run.at >= look) {
            run.at += data_scan_clean(scan, slice_make(run.at, (size_t)(run.end - run.at)));
            if (run.at == run.end)
                break;
            look = (size_t)(run.end - run.at) > LOOK_AGAIN ? run.at + LOOK_AGAIN : run.end;
        }
        switch (scan->place) {
        case DATA_LINE_START: scan_line_start(scan, &run); break;
        case DATA_IN_LINE: scan_line(scan, &run); break;
        case DATA_AFTER_CR: scan_after_cr(scan, &run); break;
        case DATA_AFTER_DOT: scan_after_dot(scan, &run); break;
        case DATA_AFTER_DOT_CR: scan_after_dot_cr(scan, &run); break;
        }
    }
    flush_run(&run, run.at, run.at);
    return (size_t)(run.at - bytes.ptr);
}
