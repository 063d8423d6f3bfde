/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a queue file: read, its content read, written again: what was readable must be the same message. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/mail/queue_file.h"
#include "lib/mail/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Where files are written; one for all runs, in the directory in which the fuzzer runs. */
static char dir[] = "fuzz_queue_file.XXXXXX";
static int dir_fd = -1;

static int
read_all(struct source *source, struct buf *text)
{
    struct err err;
    ssize_t n;

    while ((n = source_read_text(source, buf_reserve(text, 4096), 4096, &err)) > 0) {
        buf_added(text, (size_t)n);
        if (text->len > 1 << 20) /* pointers can make much of little */
            return -1;
    }
    return n < 0 ? -1 : 0;
}

static void
compare(const struct envelope *before, struct slice text)
{
    struct arena *arena = arena_new();
    struct buf again = {0}, x = {0}, y = {0};
    struct envelope a = *before, b;
    struct source *source;
    struct err err;
    int fd = open(arena_printf(arena, "%s/a", dir), O_RDONLY);

    check(fd >= 0);
    source = source_open_file(arena, fd, &err);
    check(source);
    b = *source_envelope(source);
    check(read_all(source, &again) == 0 && slice_equal(text, buf_slice(&again)));
    a.text_length = b.text_length = 0;
    for (size_t i = 0; i < a.recipient_count; i++)
        a.recipients[i].offset = 0;
    for (size_t i = 0; i < b.recipient_count; i++)
        b.recipients[i].offset = 0;
    msg_encode(&type_envelope, &a, &x);
    msg_encode(&type_envelope, &b, &y);
    check(slice_equal(buf_slice(&x), buf_slice(&y)));
    close(fd);
    buf_release(&again);
    buf_release(&x);
    buf_release(&y);
    arena_free(&arena);
}

static void
write_again(struct source *source, struct slice text)
{
    struct envelope e = *source_envelope(source);
    struct queue_file_target target = {.path = "a", .mode = 0700};
    struct queue_file_content content = {source_read_content, source};
    struct err err;

    if (dir_fd < 0) {
        check(mkdtemp(dir));
        dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
    }
    target.queue_dir_fd = dir_fd;
    source_rewind(source);
    if (queue_file_write(&target, &e, &content, &err) == 0) {
        compare(&e, text);
        unlinkat(dir_fd, "a", 0);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct buf text = {0};
    struct err err;
    int fd = memfd_create("queue_file", MFD_CLOEXEC);
    struct source *source;

    check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    source = source_open_file(arena, fd, &err);
    if (source && read_all(source, &text) == 0 && text.len > 0)
        write_again(source, buf_slice(&text));
    else
        check(source || err.kind == ERR_SYNTAX);
    (void)!queue_file_mark_warned(fd, &err);
    (void)!queue_file_mark_done(fd, (int64_t)(size / 2), &err);
    buf_release(&text);
    arena_free(&arena);
    close(fd);
    return 0;
}
