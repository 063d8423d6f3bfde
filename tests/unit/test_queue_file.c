/* SPDX-License-Identifier: Apache-2.0 */
/* The files of tests/fuzz/seeds/queue_file say in their names what a mail system does with them: those of sample-* were
 * written by Postfix; the others were given to Postfix, which delivered them, moved them to corrupt, or removed them
 * because no recipient was left. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/mail/queue_file.h"
#include "lib/mail/queue_record.h"
#include "lib/mail/source.h"

static char work_dir[] = "/tmp/test_queue_file.XXXXXX";
static int work_fd;

static char seed_path[512];

static const char *
seeds(void)
{
    const char *top = getenv("srcdir");

    snprintf(seed_path, sizeof(seed_path), "%s/tests/fuzz/seeds/queue_file", top ? top : ".");
    return seed_path;
}

static int
open_seed(const char *name)
{
    char path[1024];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", seeds(), name);
    fd = open(path, O_RDONLY);
    if (fd < 0)
        fail_msg("%s is not there", path);
    return fd;
}

/* All of the content as text. -1: damaged. */
static int
read_content(struct arena *arena, int fd, uint64_t offset, size_t step, struct buf *text)
{
    struct err err;
    struct queue_file_reader *reader = queue_file_reader_new(arena, fd, offset, &err);
    ssize_t n;

    assert_non_null(reader);
    while ((n = queue_file_reader_read(reader, buf_reserve(text, step), step, &err)) > 0)
        buf_added(text, (size_t)n);
    return n < 0 ? -1 : 0;
}

static const char *
verdict(struct arena *arena, int fd, struct envelope *e, struct buf *text)
{
    uint64_t offset;
    struct err err;

    if (queue_file_read(fd, arena, e, &offset, &err) < 0) {
        assert_int_equal(err.kind, ERR_SYNTAX);
        return "corrupt";
    }
    if (read_content(arena, fd, offset, 1000, text) < 0)
        return "corrupt";
    for (size_t i = 0; i < e->recipient_count; i++)
        if (e->recipients[i].status == RCPT_TODO)
            return "delivered";
    return "removed";
}

/* Calls fn for each seed. */
static unsigned
each_seed(void (*fn)(const char *name))
{
    DIR *dir = opendir(seeds());
    struct dirent *entry;
    unsigned n = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.') {
            fn(entry->d_name);
            n++;
        }
    closedir(dir);
    return n;
}

static const char *
wanted(const char *name)
{
    if (strcmp(name, "sample-maildrop") == 0)
        return "corrupt"; /* has no size record: not for a queue */
    return strncmp(name, "sample-", 7) == 0 ? "delivered" : name;
}

static void
check_verdict(const char *name)
{
    struct arena *arena = arena_new();
    struct envelope e;
    struct buf text = {0};
    int fd = open_seed(name);
    const char *got = verdict(arena, fd, &e, &text);

    if (strncmp(got, wanted(name), strlen(got)) != 0)
        fail_msg("%s: %s", name, got);
    buf_release(&text);
    arena_free(&arena);
    close(fd);
}

static void
test_verdicts_are_those_of_postfix(void **state)
{
    (void)state;
    assert_true(each_seed(check_verdict) >= 80);
}

/* ---- what is in the samples ---- */

static void
test_fields_of_samples(void **state)
{
    struct arena *arena = arena_new();
    struct envelope e;
    uint64_t offset;
    struct err err;
    int fd = open_seed("sample-dsn");

    (void)state;
    assert_int_equal(queue_file_read(fd, arena, &e, &offset, &err), 0);
    assert_string_equal(e.sender, "ann@src.test");
    assert_string_equal(e.envelope_id, "QQ+314");
    assert_int_equal(e.ret_flags, RET_HEADERS);
    assert_string_equal(e.log_ident, "E73CCACE271");
    assert_string_equal(e.helo_name, "client.example");
    assert_int_equal(e.client_address_type, 2);
    assert_int_equal(e.recipient_count, 3);
    assert_int_equal(e.recipients[0].notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
    assert_string_equal(e.recipients[0].dsn_original, "rfc822;b+ob@first.test");
    assert_int_equal(e.recipients[0].offset, 691);
    assert_int_equal(e.recipients[1].notify, NOTIFY_NEVER);
    assert_string_equal(e.recipients[2].original, "joe@far.test");
    assert_int_equal(e.text_length, 282);
    assert_int_equal(e.arrival_sec, 1795480045);
    close(fd);

    fd = open_seed("sample-smtputf8");
    assert_int_equal(queue_file_read(fd, arena, &e, &offset, &err), 0);
    assert_int_equal(e.sendopts, SENDOPT_SMTPUTF8 | SENDOPT_UTF8_HEADER | SENDOPT_UTF8_SENDER);
    assert_string_equal(e.encoding, "8bit");
    close(fd);
    fd = open_seed("sample-checks");
    assert_int_equal(queue_file_read(fd, arena, &e, &offset, &err), 0);
    assert_string_equal(e.redirect, "other@far.test");
    assert_string_equal(e.content_filter, "smtp:[127.0.0.1]:2526");
    assert_int_equal(e.recipient_count, 2);
    close(fd);
    fd = open_seed("sample-milter-headers");
    struct buf text = {0};
    assert_int_equal(queue_file_read(fd, arena, &e, &offset, &err), 0);
    assert_string_equal(e.sender, "changed@src.test");
    assert_int_equal(e.recipient_count, 3);
    assert_int_equal(e.recipients[1].status, RCPT_CANCELLED);
    assert_string_equal(e.recipients[2].address, "new@far.test");
    assert_int_equal(read_content(arena, fd, offset, 1, &text), 0);
    assert_memory_equal(text.ptr, "X-First: top\nReceived:", 22);
    buf_release(&text);
    close(fd);
    arena_free(&arena);
}

/* ---- writing ---- */

static int
write_again(const char *name, const char *path, struct envelope *before, struct buf *content_before,
            struct arena *arena)
{
    struct err err;
    int fd = open_seed(name);
    struct source *source = source_open_file(arena, fd, &err);
    struct queue_file_target target = {.queue_dir_fd = work_fd, .path = path, .mtime = 1700000000, .mode = 0700};
    struct queue_file_content content = {.read = source_read_content, .ctx = source};

    if (!source) {
        close(fd);
        return -1;
    }
    *before = *source_envelope(source);
    if (queue_file_write(&target, before, &content, &err) < 0)
        fail_msg("%s: %s", name, err.text);
    source_rewind(source);
    for (;;) {
        ssize_t n = source_read_text(source, buf_reserve(content_before, 777), 777, &err);
        assert_true(n >= 0);
        if (n == 0)
            break;
        buf_added(content_before, (size_t)n);
    }
    close(fd);
    return 0;
}

static void
same_envelope(const char *name, struct envelope *a, struct envelope *b)
{
    struct buf x = {0}, y = {0};

    for (size_t i = 0; i < a->recipient_count; i++)
        a->recipients[i].offset = 0;
    for (size_t i = 0; i < b->recipient_count; i++)
        b->recipients[i].offset = 0;
    a->text_length = b->text_length = 0; /* pointers and padding counted before */
    msg_dump(&type_envelope, a, &x);
    msg_dump(&type_envelope, b, &y);
    if (strcmp(buf_text(&x), buf_text(&y)) != 0)
        fail_msg("%s:\n%s\n%s", name, buf_text(&x), buf_text(&y));
    buf_release(&x);
    buf_release(&y);
}

static unsigned same_bytes;

static void
check_round_trip(const char *name)
{
    struct arena *arena = arena_new();
    struct envelope before, after;
    struct buf content_before = {0}, content_after = {0};
    struct stat st;
    char path[1024];
    int fd;

    snprintf(path, sizeof(path), "deferred/4/%.200s", name);
    if (strcmp(wanted(name), "delivered") == 0 && write_again(name, path, &before, &content_before, arena) == 0) {
        fd = openat(work_fd, path, O_RDONLY);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        assert_int_equal(st.st_mtime, 1700000000);
        assert_string_equal(verdict(arena, fd, &after, &content_after), "delivered");
        same_envelope(name, &before, &after);
        assert_true(slice_equal(buf_slice(&content_before), buf_slice(&content_after)));

        int seed = open_seed(name);
        char *was = calloc(1, 100000), *is = calloc(1, 100000);
        ssize_t n = read(seed, was, 100000);
        assert_true(pread(fd, is, 100000, 0) > 0);
        bool same = memcmp(was, is, (size_t)n) == 0;
        same_bytes += same;
        if (strcmp(name, "sample-plain") == 0 || strcmp(name, "sample-dsn") == 0 ||
            strcmp(name, "sample-long-lines") == 0 || strcmp(name, "sample-warned") == 0 ||
            strcmp(name, "sample-one-done") == 0)
            assert_true(same);
        free(was);
        free(is);
        close(seed);
        close(fd);
        assert_int_equal(unlinkat(work_fd, path, 0), 0);
    }
    buf_release(&content_before);
    buf_release(&content_after);
    arena_free(&arena);
}

static void
test_written_again_it_is_the_same_message(void **state)
{
    (void)state;
    assert_true(each_seed(check_round_trip) >= 80);
    assert_true(same_bytes >=
                9); /* all but those with pointers, padding, killed records, or an attribute at two places */
}

/* Gives `size` bytes of a pattern of lines. */
struct pattern {
    size_t size, given, line;
    bool newline_at_end;
};

static ssize_t
read_pattern(void *ctx, void *bytes, size_t size, struct err *err)
{
    struct pattern *p = ctx;
    size_t n = p->size - p->given < size ? p->size - p->given : size;

    (void)err;
    if (n > 1500)
        n = 1500; /* so that lines are cut anywhere */
    for (size_t i = 0; i < n; i++) {
        size_t at = p->given + i;
        bool end = at == p->size - 1 ? p->newline_at_end : at % p->line == p->line - 1;

        ((char *)bytes)[i] = end ? '\n' : "abcdefg"[at % 7];
    }
    p->given += n;
    return (ssize_t)n;
}

static void
test_lines_of_every_length(void **state)
{
    static const size_t lines[] = {1, 2, 127, 128, 129, 130, 998, 2047, 2048, 2049, 2050, 4096, 4097, 4098, 20000};
    struct envelope_recipient recipient = {"bob@far.test", "bob@far.test", "rfc822;bob@far.test", 0, 0, 0};
    struct envelope e = envelope_empty();
    struct err err;

    (void)state;
    e.arrival_sec = 1700000000;
    e.recipients = &recipient;
    e.recipient_count = 1;
    for (unsigned i = 0; i < ARRAY_LEN(lines) * 2; i++) {
        struct pattern p = {.size = 50001, .line = lines[i / 2], .newline_at_end = i % 2};
        struct queue_file_target target = {.queue_dir_fd = work_fd, .path = "hold/ABC", .mode = 0700};
        struct queue_file_content content = {.read = read_pattern, .ctx = &p};
        struct arena *arena = arena_new();
        struct buf text = {0}, want = {0};
        struct envelope after;

        assert_int_equal(queue_file_write(&target, &e, &content, &err), 0);
        int fd = openat(work_fd, "hold/ABC", O_RDONLY);
        assert_string_equal(verdict(arena, fd, &after, &text), "delivered");
        p.given = 0;
        read_pattern(&p, buf_reserve(&want, 1500), 1500, &err);
        assert_memory_equal(text.ptr, want.ptr, 1500);
        assert_int_equal(text.len, 50001 + !(i % 2)); /* a missing last newline is supplied */
        buf_release(&text);
        buf_release(&want);
        arena_free(&arena);
        close(fd);
    }
    struct queue_file_target target = {.queue_dir_fd = work_fd, .path = "hold/DEF", .mode = 0700};
    struct pattern none = {.line = 1};
    struct queue_file_content nothing = {.read = read_pattern, .ctx = &none};
    assert_int_equal(queue_file_write(&target, &e, &nothing, &err), -1);
    assert_int_equal(err.kind, ERR_PERM);
    e.recipient_count = 0;
    assert_int_equal(queue_file_write(&target, &e, &nothing, &err), -1);
    assert_int_equal(faccessat(work_fd, "hold/DEF", F_OK, 0), -1);
    assert_int_equal(faccessat(work_fd, "hold/DEF.new", F_OK, 0), -1);
    assert_int_equal(unlinkat(work_fd, "hold/ABC", 0), 0);
}

/* ---- in place ---- */

static int
copy_seed(const char *name)
{
    char *bytes = calloc(1, 100000);
    int seed = open_seed(name), fd = openat(work_fd, "copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
    ssize_t n = read(seed, bytes, 100000);

    assert_int_equal(write(fd, bytes, (size_t)n), n);
    free(bytes);
    close(seed);
    return fd;
}

/* Recipients of a file in passes of every size: those to do, each once, as reading all of them at once has them. */
static void
test_recipients_in_passes(void **state)
{
    enum { COUNT = 23 };
    struct envelope_recipient recipients[COUNT];
    struct envelope e = envelope_empty();
    struct queue_file_target target = {.queue_dir_fd = work_fd, .path = "hold/ABE", .mode = 0700};
    struct pattern p = {.size = 500, .line = 50, .newline_at_end = true};
    struct queue_file_content content = {.read = read_pattern, .ctx = &p};
    struct arena *arena = arena_new();
    struct err err;
    int fd;

    (void)state;
    for (unsigned i = 0; i < COUNT; i++)
        recipients[i] = (struct envelope_recipient){.address = arena_printf(arena, "user%u@far.test", i),
                                                    .original = arena_printf(arena, "alias%u@far.test", i),
                                                    .dsn_original = i % 3 ? "rfc822;x@far.test" : "",
                                                    .notify = i % 5 == 0 ? NOTIFY_NEVER : 0,
                                                    .status = i % 4 == 3 ? RCPT_DONE : RCPT_TODO};
    e.arrival_sec = 1700000000;
    e.recipients = recipients;
    e.recipient_count = COUNT;
    assert_int_equal(queue_file_write(&target, &e, &content, &err), 0);
    fd = openat(work_fd, "hold/ABE", O_RDWR);
    for (size_t most = 1; most < COUNT + 2; most++) {
        struct queue_file_rest rest = {.most = most};
        struct envelope found;
        struct envelope_recipient *more;
        uint64_t offset;
        size_t count, i = 0;

        assert_int_equal(queue_file_read_some(fd, arena, arena, &found, &offset, &rest, &err), 0);
        assert_int_equal(rest.total, COUNT);
        more = found.recipients;
        count = found.recipient_count;
        for (;;) {
            assert_true(count <= most);
            for (size_t n = 0; n < count; n++, i++) {
                while (recipients[i].status == RCPT_DONE)
                    i++;
                assert_string_equal(more[n].address, recipients[i].address);
                assert_string_equal(more[n].original, recipients[i].original);
                assert_string_equal(more[n].dsn_original, recipients[i].dsn_original);
                assert_int_equal(more[n].notify, recipients[i].notify);
            }
            if (!rest.more)
                break;
            assert_int_equal(queue_file_read_more(fd, arena, &rest, &more, &count, &err), 0);
        }
        assert_true(i >= COUNT - 1);
    }
    close(fd);
    arena_free(&arena);
}

static void
test_marks_in_place(void **state)
{
    struct arena *arena = arena_new();
    struct envelope e;
    uint64_t offset;
    struct err err;
    int fd = copy_seed("sample-dsn");

    (void)state;
    assert_int_equal(queue_file_read(fd, arena, &e, &offset, &err), 0);
    assert_int_equal(queue_file_mark_done(fd, e.recipients[1].offset, &err), 0);
    assert_int_equal(queue_file_mark_done(fd, e.recipients[1].offset, &err), 0);
    assert_int_equal(queue_file_mark_done(fd, e.recipients[1].offset + 1, &err), -1);
    assert_int_equal(queue_file_mark_done(fd, 1 << 20, &err), -1);
    assert_int_equal(queue_file_mark_warned(fd, &err), 0); /* has no W */
    assert_int_equal(queue_file_read(fd, arena, &e, &offset, &err), 0);
    assert_int_equal(e.recipients[0].status, RCPT_TODO);
    assert_int_equal(e.recipients[1].status, RCPT_DONE);
    assert_int_equal(e.warn_time, 0);
    close(fd);

    fd = copy_seed("sample-always-bcc");
    assert_int_equal(queue_file_read(fd, arena, &e, &offset, &err), 0);
    assert_true(e.warn_time > 0);
    assert_int_equal(queue_file_mark_warned(fd, &err), 0);
    assert_int_equal(queue_file_read(fd, arena, &e, &offset, &err), 0);
    assert_int_equal(e.warn_time, -1);
    close(fd);
    arena_free(&arena);
    unlinkat(work_fd, "copy", 0);
}

static void
check_beginnings(const char *name)
{
    struct stat st;
    int fd;

    if (strncmp(name, "sample-", 7) != 0 || strcmp(name, "sample-maildrop") == 0)
        return;
    fd = copy_seed(name);
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t size = st.st_size - 1; size >= 0; size -= size > 3000 ? 97 : 3) {
        struct arena *arena = arena_new();
        struct envelope e;
        struct err err;
        uint64_t offset;

        if (strncmp(name, "sample-milter", 13) != 0) { /* there, pointers lead behind the end record and back */
            assert_int_equal(ftruncate(fd, size), 0);
            assert_int_equal(queue_file_read(fd, arena, &e, &offset, &err), -1);
            assert_int_equal(err.kind, ERR_SYNTAX);
        }
        arena_free(&arena);
    }
    close(fd);
}

static void
test_every_beginning_of_a_file_is_refused(void **state)
{
    (void)state;
    each_seed(check_beginnings);
    unlinkat(work_fd, "copy", 0);
}

static void
test_records_of_every_length(void **state)
{
    (void)state;
    for (size_t n = 0; n < 20000; n += n < 300 ? 1 : 61) {
        struct buf out = {0};

        queue_record_put_head(&out, 'N', n);
        assert_int_equal(out.len + n, queue_record_size(n));
        assert_int_equal(out.len, 2 + (n > 127) + (n > 16383));
        buf_release(&out);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts_are_those_of_postfix),
        cmocka_unit_test(test_fields_of_samples),
        cmocka_unit_test(test_written_again_it_is_the_same_message),
        cmocka_unit_test(test_lines_of_every_length),
        cmocka_unit_test(test_marks_in_place),
        cmocka_unit_test(test_recipients_in_passes),
        cmocka_unit_test(test_every_beginning_of_a_file_is_refused),
        cmocka_unit_test(test_records_of_every_length),
    };
    int result;

    if (!mkdtemp(work_dir) || (work_fd = open(work_dir, O_RDONLY | O_DIRECTORY)) < 0)
        return 1;
    result = cmocka_run_group_tests(tests, NULL, NULL);
    unlinkat(work_fd, "deferred/4", AT_REMOVEDIR);
    unlinkat(work_fd, "deferred", AT_REMOVEDIR);
    unlinkat(work_fd, "hold", AT_REMOVEDIR);
    close(work_fd);
    rmdir(work_dir);
    return result;
}
