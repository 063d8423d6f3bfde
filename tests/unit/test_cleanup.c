/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup as its neighbours see it: the real program, between a client and a queue manager that live in this test. (The
 * test calls itself qmgr on links: qmgr may both hand messages in and release them.) */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/mail/messages.h"
#include "lib/mail/queue_file.h"
#include "lib/mail/source.h"
#include "lib/mail/submit.h"
#include "lib/run/loop.h"
#include "lib/run/net.h"
#include "lib/run/task.h"
#include "lib/service/master_protocol.h"

extern char **environ;

static char dir[] = "/tmp/test_cleanup.XXXXXX";
static char program[1024];

struct announced {
    struct link_request *request;
    struct msg_announce place;
    struct buf envelope;
};

/* One cleanup process, and what the queue manager knows of it. */
static struct world {
    struct task_group tasks;
    int qmgr_fd;   /* listening */
    int master_fd; /* our end of the program's line to master */
    pid_t pid;
    struct submitter *submitter;
    struct link *qmgr_link;
    int segment_fd[8];
    struct msg_segment segment[8];
    unsigned segments, segments_gone;
    struct announced announced[64];
    unsigned count;
    struct arena *arena;
} w;

static const char *
path_of(const char *name)
{
    return arena_printf(w.arena, "%s/%s", dir, name);
}

static void
rest(unsigned milliseconds)
{
    struct err err;

    assert_int_equal(task_sleep((usec_t)milliseconds * 1000, &err), 0);
}

/* ---- the two ends ---- */

static int
listen_at(const char *name)
{
    struct net_addr addr;
    struct err err;
    int fd;

    assert_int_equal(net_addr_unix(path_of(name), &addr, &err), 0);
    fd = net_listen(&addr, 10, 0600, &err);
    assert_true(fd >= 0);
    return fd;
}

/* As master starts it: its listening socket and a line to master are open. */
static void
spawn_cleanup(void)
{
    char *argv[] = {
        program,        (char[]){"-C"}, dir, (char[]){"-n"}, (char[]){"cleanup"}, (char[]){"-t"}, (char[]){"unix"},
        (char[]){"-s"}, (char[]){"1"},  NULL};
    posix_spawn_file_actions_t actions;
    int pair[2], fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    fds[0] = fcntl(pair[1], F_DUPFD_CLOEXEC, 20); /* out of the way of where they are to be */
    fds[1] = fcntl(listen_at("cleanup"), F_DUPFD_CLOEXEC, 20);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[0], MASTER_STATUS_FD);
    posix_spawn_file_actions_adddup2(&actions, fds[1], MASTER_LISTEN_FD);
    assert_int_equal(posix_spawn(&w.pid, program, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(pair[1]);
    close(fds[0]);
    close(fds[1]);
    w.master_fd = pair[0];
}

static void
on_segment(struct link_request *request, struct link_message *in, void *ctx)
{
    const struct msg_segment *message = in->message;

    (void)request;
    (void)ctx;
    if (message->gone) {
        w.segments_gone++;
        return;
    }
    assert_int_equal(in->fd_count, 1);
    w.segment[w.segments] = *message;
    w.segment_fd[w.segments++] = in->fds[0];
    in->fd_count = 0;
}

static void
on_announce(struct link_request *request, struct link_message *in, void *ctx)
{
    struct announced *a = &w.announced[w.count++];

    (void)ctx;
    assert_true(w.count < 64);
    *a = (struct announced){.request = request, .place = *(const struct msg_announce *)in->message};
    buf_append_slice(&a->envelope, in->payload);
}

static const struct link_handler handlers[] = {{&type_segment, false, on_segment},
                                               {&type_announce, false, on_announce}};

static void
accept_links(void *arg)
{
    struct err err;

    (void)arg;
    do {
        int fd = w.qmgr_fd < 0 ? -1 : accept4(w.qmgr_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0)
            w.qmgr_link = link_accept(fd, handlers, ARRAY_LEN(handlers), NULL, NULL);
    } while (task_sleep(2000, &err) == 0);
}

static void
begin(const char *settings, bool with_qmgr)
{
    FILE *f;

    w = (struct world){.arena = arena_new(), .qmgr_fd = -1};
    f = fopen(path_of("main.cf"), "w");
    fprintf(f,
            "queue_directory = %s\nmail_owner = root\nmyhostname = mx.test\nmyorigin = test\nheader_size_limit = 1000\n"
            "journal_segment_size = 1048576\nservice_drain_time = 20s\n%s\n",
            dir, settings);
    fclose(f);
    if (with_qmgr)
        w.qmgr_fd = listen_at("public/qmgr");
    else
        unlink(path_of("public/qmgr"));
    spawn_cleanup();
    w.submitter = submitter_new(path_of("cleanup"));
    task_group_init(&w.tasks);
    task_spawn(&w.tasks, "accept", accept_links, NULL);
}

static void
release(unsigned i)
{
    struct msg_released released;

    if (w.announced[i].request)
        link_reply(w.announced[i].request, &type_released, &released, slice_make(NULL, 0), NULL, 0);
    w.announced[i].request = NULL;
}

/* The system stops: the program drains and ends. */
static void
end_of_cleanup(void)
{
    int status = 0;

    submitter_free(&w.submitter);
    assert_int_equal(send(w.master_fd, &(char){MASTER_TERMINATE}, 1, 0), 1);
    for (unsigned i = 0; i < 1000 && waitpid(w.pid, &status, WNOHANG) == 0; i++)
        rest(10);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void
finish(void)
{
    task_group_cancel(&w.tasks);
    task_group_join(&w.tasks);
    close(w.master_fd);
    if (w.qmgr_fd >= 0)
        close(w.qmgr_fd);
    for (unsigned i = 0; i < w.segments; i++)
        close(w.segment_fd[i]);
    for (unsigned i = 0; i < w.count; i++)
        buf_release(&w.announced[i].envelope);
    arena_free(&w.arena);
}

static unsigned
count_in(const char *name)
{
    DIR *d = opendir(path_of(name));
    struct dirent *entry;
    unsigned n = 0;

    while (d && (entry = readdir(d)) != NULL)
        n += entry->d_name[0] != '.' && strcmp(entry->d_name, "ids") != 0;
    if (d)
        closedir(d);
    return n;
}

/* ---- messages ---- */

static struct envelope_recipient recipients[4] = {{"bob@far.test", "", "", 0, 0, 0},
                                                  {"joe@far.test", "", "", 0, 0, 0},
                                                  {"BOB@far.test", "", "", 0, 0, 0},
                                                  {"bob@far.test", "robert@far.test", "", 0, 0, 0}};

static struct envelope
an_envelope(const char *id, const char *context)
{
    struct envelope e = envelope_empty();

    e.queue_id = id;
    e.sender = "ann@src.test";
    e.arrival_sec = 1700000000;
    e.rewrite_context = context;
    e.recipients = recipients;
    e.recipient_count = 1;
    return e;
}

static struct msg_submitted
submit(const struct envelope *e, const char *content)
{
    struct msg_submitted answer;
    struct buf bytes = {0};
    struct err err;

    buf_append_text(&bytes, content);
    if (submitter_send(w.submitter, w.arena, e, &bytes, &answer, &err) < 0)
        fail_msg("%s", err.text);
    return answer;
}

static void
wait_announced(unsigned n)
{
    for (unsigned i = 0; i < 500 && w.count < n; i++)
        rest(5);
    assert_int_equal(w.count, n);
}

static int
fd_of(const struct msg_announce *place)
{
    for (unsigned i = 0; i < w.segments; i++)
        if (w.segment[i].segment == place->segment && w.segment[i].generation == place->generation)
            return w.segment_fd[i];
    fail_msg("an image in a segment that nobody told us of");
    return -1;
}

/* The text of what was announced. */
static const char *
content_of(unsigned i, const struct envelope **e)
{
    const struct msg_announce *place = &w.announced[i].place;
    struct journal_segment_info info;
    struct buf text = {0};
    struct source *source;
    struct slice unused;
    struct err err;
    ssize_t n;

    assert_int_equal(journal_segment_read(fd_of(place), &info, &err), 0);
    source = source_open_image(w.arena, fd_of(place), &info, (uint64_t)place->offset, (uint64_t)place->length, &err);
    if (!source)
        fail_msg("%s", err.text);
    while ((n = source_read_text(source, buf_reserve(&text, 4096), 4096, &err)) > 0)
        buf_added(&text, (size_t)n);
    *e = msg_decode(w.arena, &type_envelope, buf_slice(&w.announced[i].envelope), &unused, &err);
    assert_non_null(*e);
    const char *result = arena_strdup(w.arena, buf_text(&text));
    buf_release(&text);
    return result;
}

static const char full_header[] =
    "Received: by here\r\nMessage-ID: <1@src.test>\r\nDate: then\r\nFrom: ann@src.test\r\n"
    "To: bob@far.test\r\n";

static const char *
with_header(const char *text)
{
    return arena_printf(w.arena, "%s%s", full_header, text);
}

/* ---- the tests, each a task ---- */

static void
takes_and_announces(void *arg)
{
    struct envelope e;
    const struct envelope *stored;
    struct msg_submitted answer;
    const char *text;

    (void)arg;
    begin("", true);
    e = an_envelope("A1", "remote");
    e.recipient_count = 4;
    answer = submit(&e, with_header("\r\nHello\r\n..dot\r\n"));
    assert_int_equal(answer.code, 250);
    assert_string_equal(answer.text, "Ok: queued as A1");
    wait_announced(1);
    text = content_of(0, &stored);
    assert_string_equal(text, "Received: by here\nMessage-ID: <1@src.test>\nDate: then\nFrom: ann@src.test\n"
                              "To: bob@far.test\n\nHello\n.dot\n");
    assert_string_equal(stored->message_id, "<1@src.test>");
    assert_int_equal(stored->recipient_count, 3); /* one was named twice */
    assert_string_equal(stored->recipients[1].address, "joe@far.test");
    assert_string_equal(stored->recipients[2].original, "robert@far.test");
    assert_string_equal(stored->recipients[0].dsn_original, "rfc822;bob@far.test");
    assert_int_equal(stored->text_length, strlen(text) + 8); /* eight lines: head of two bytes, no newline */
    assert_int_equal(stored->content_length, strlen(with_header("\r\nHello\r\n..dot\r\n")));
    assert_int_equal(stored->longest_line, strlen("Message-ID: <1@src.test>"));
    assert_int_equal(answer.size, stored->text_length);
    assert_true(stored->create_time > 1700000000);
    release(0);
    end_of_cleanup();
    assert_int_equal(count_in("journal"), 0); /* a clean stop leaves only files */
    finish();
}

static void
completes_local_mail(void *arg)
{
    struct envelope e;
    const struct envelope *stored;
    const char *text;

    (void)arg;
    begin("undisclosed_recipients_header = To: undisclosed-recipients:;", true);
    e = an_envelope("A1", "local");
    e.full_name = "Ann (the first)";
    submit(&e, "Received: x\r\nSubject: x\r\n\r\nHello\r\n");
    e = an_envelope("A2", "remote");
    submit(&e, "Received: x\r\nSubject: x\r\nCc: x\r\n\r\nHello\r\n");
    e = an_envelope("A3", "local");
    e.sender = "";
    submit(&e, "Received: x\r\nResent-From: x\r\nFrom: me\r\n");
    submit(&e, "Received: x\r\nX-To: x\r\n not a header\r\nneither\r\nmore\r\n");
    wait_announced(4);
    text = content_of(0, &stored);
    assert_non_null(strstr(text, "\nSubject: x\nMessage-Id: <20"));
    assert_non_null(strstr(text, ".A1@mx.test>\nDate: "));
    assert_non_null(
        strstr(text, "\nFrom: \"Ann (the first)\" <ann@src.test>\nTo: undisclosed-recipients:;\n\nHello\n"));
    assert_non_null(strstr(stored->message_id, ".A1@mx.test>"));
    assert_string_equal(content_of(1, &stored), "Received: x\nSubject: x\nCc: x\n\nHello\n");
    text = content_of(2, &stored);
    assert_non_null(strstr(text, "\nFrom: me@test.test\nResent-Message-Id: <"));
    assert_non_null(strstr(text, "\nResent-Date: "));
    assert_null(strstr(text, "\n\n"));
    text = content_of(3, &stored);
    assert_memory_equal(text, "Received: x\nX-To: x\n not a header\nMessage-Id: ", 46);
    assert_non_null(strstr(text, "\nFrom: MAILER-DAEMON@test\nTo: undisclosed-recipients:;\n\nneither\nmore\n"));
    for (unsigned i = 0; i < 4; i++)
        release(i);
    end_of_cleanup();
    finish();
}

static void
refuses(void *arg)
{
    struct envelope e;
    struct msg_submitted answer;
    const struct envelope *stored;
    struct buf many = {0};

    (void)arg;
    begin("message_size_limit = 3000\nhopcount_limit = 10", true);
    e = an_envelope("A1", "remote");
    for (unsigned i = 0; i < 11; i++)
        buf_append_text(&many, "Received: by here\r\n\twith a second line\r\n");
    answer = submit(&e, buf_text(&many));
    assert_int_equal(answer.code, 554);
    assert_string_equal(answer.enhanced, "5.4.0");
    assert_string_equal(answer.text, "Error: too many hops");
    e.submit_flags = SUBMIT_INTERNAL;
    assert_int_equal(submit(&e, buf_text(&many)).code, 250);
    e.submit_flags = 0;
    buf_clear(&many);
    for (unsigned i = 0; i < 100; i++)
        buf_append_text(&many, "0123456789012345678901234567\r\n");
    assert_int_equal(submit(&e, with_header(buf_text(&many))).code, 552);
    for (unsigned i = 0; i < 20000; i++) /* more than fits into a frame */
        buf_append_text(&many, "0123456789012345678901234567\r\n");
    answer = submit(&e, with_header(buf_text(&many)));
    assert_int_equal(answer.code, 552);
    assert_string_equal(answer.text, "Error: message file too big");
    e.queue_id = "../../etc/passwd";
    assert_int_equal(submit(&e, with_header("\r\n")).code, 451);
    e.queue_id = "A2";
    buf_clear(&many);
    buf_printf(&many, "X-Long: %01500d\r\nBcc: secret@far.test\r\n secret\r\nX-After: y\r\n\r\nbody\r\n", 0);
    assert_int_equal(submit(&e, with_header(buf_text(&many))).code, 250);
    wait_announced(2);
    const char *text = content_of(1, &stored);
    assert_null(strstr(text, "secret"));
    assert_non_null(strstr(text, "0\nX-After: y\n\nbody\n"));
    assert_int_equal(stored->longest_line, 1000);
    buf_release(&many);
    release(0);
    release(1);
    end_of_cleanup();
    finish();
}

static void
streams_large_contents(void *arg)
{
    struct envelope e;
    struct msg_submitted answer;
    const struct envelope *stored;
    struct submission *submission;
    struct buf big = {0};
    struct err err;
    const char *text;

    (void)arg;
    begin("", true);
    buf_append_text(&big, with_header("\r\n"));
    while (big.len < 3 << 20)
        buf_printf(&big, "%zu is where this line begins\r\n", big.len);
    buf_append_text(&big, "last\r\n");
    e = an_envelope("BIG", "remote");
    answer = submit(&e, buf_text(&big));
    assert_int_equal(answer.code, 250);
    wait_announced(1);
    text = content_of(0, &stored);
    assert_string_equal(text + strlen(text) - 5, "last\n");
    assert_int_equal(stored->content_length, big.len);
    assert_int_equal(answer.size, stored->text_length);
    for (size_t i = 0, j = 0; i < big.len; i++)
        if (big.ptr[i] != '\r')
            assert_int_equal(big.ptr[i], text[j++]);

    submission = submission_begin(w.submitter, w.arena, &e, &err); /* medium: through a descriptor, into a segment */
    assert_non_null(submission);
    assert_int_equal(submission_write(submission, slice_make(big.ptr, 100000), &err), 0);
    assert_int_equal(submission_finish(submission, &answer, &err), 0);
    assert_int_equal(answer.code, 250);
    wait_announced(2);
    text = content_of(1, &stored);
    assert_int_equal(text[strlen(text) - 1], '\n'); /* its last line was not ended */

    submission = submission_begin(w.submitter, w.arena, &e, &err); /* given up in its midst */
    assert_non_null(submission);
    assert_int_equal(submission_write(submission, slice_make(big.ptr, 1000000), &err), 0);
    submission_abort(submission);
    rest(100);
    assert_int_equal(w.count, 2);
    buf_release(&big);
    release(0);
    release(1);
    end_of_cleanup();
    assert_int_equal(count_in("journal"), 0);
    assert_true(w.segments_gone >= 1);
    finish();
}

static void
announces_again(void *arg)
{
    struct envelope e;
    const struct envelope *stored;

    (void)arg;
    begin("", true);
    e = an_envelope("A1", "remote");
    submit(&e, with_header("\r\n1\r\n"));
    e = an_envelope("A2", "remote");
    submit(&e, with_header("\r\n2\r\n"));
    wait_announced(2);
    release(0);
    rest(50);
    link_free(&w.qmgr_link); /* the queue manager dies and comes back */
    release(1);
    wait_announced(3);
    assert_int_equal(w.announced[2].place.offset, w.announced[1].place.offset);
    assert_int_equal(w.segments, 2); /* the segment is passed again */
    assert_non_null(strstr(content_of(2, &stored), "\n\n2\n"));
    assert_string_equal(stored->queue_id, "A2");
    release(2);
    end_of_cleanup();
    assert_int_equal(count_in("journal"), 0);
    finish();
}

static void
check_file(const char *name, const char *sender)
{
    struct envelope e;
    uint64_t offset;
    struct err err;
    int fd = open(path_of(name), O_RDONLY);

    assert_true(fd >= 0);
    if (queue_file_read(fd, w.arena, &e, &offset, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(e.sender, sender);
    close(fd);
    unlink(path_of(name));
}

static void
holds(void *arg)
{
    struct envelope e;

    (void)arg;
    begin("", true);
    e = an_envelope("HELD1", "remote");
    e.submit_flags = SUBMIT_HOLD;
    assert_int_equal(submit(&e, with_header("\r\n1\r\n")).code, 250);
    check_file("hold/HELD1", "ann@src.test");
    e.submit_flags = SUBMIT_DISCARD;
    assert_int_equal(submit(&e, with_header("\r\n1\r\n")).code, 250);
    rest(50);
    assert_int_equal(w.count, 0);
    end_of_cleanup();
    assert_int_equal(count_in("journal"), 0);
    finish();
}

static void
files_without_qmgr(void *arg)
{
    struct envelope e;

    (void)arg;
    begin("", false);
    e = an_envelope("FILED1", "remote");
    assert_int_equal(submit(&e, with_header("\r\n1\r\n")).code, 250);
    e = an_envelope("FILED2", "remote");
    assert_int_equal(submit(&e, with_header("\r\n2\r\n")).code, 250);
    end_of_cleanup();
    assert_int_equal(count_in("journal"), 0);
    check_file("incoming/FILED1", "ann@src.test");
    check_file("incoming/FILED2", "ann@src.test");
    finish();
}

#define TEST(name)                         \
    static void test_##name(void **unused) \
    {                                      \
        (void)unused;                      \
        task_run_main(name, NULL);         \
    }

TEST(takes_and_announces)
TEST(completes_local_mail)
TEST(refuses)
TEST(streams_large_contents)
TEST(announces_again)
TEST(holds)
TEST(files_without_qmgr)

static int
remove_tree(const char *path)
{
    char *argv[] = {(char[]){"rm"}, (char[]){"-rf"}, (char *)(uintptr_t)path, NULL};
    pid_t pid;

    return posix_spawnp(&pid, "rm", NULL, NULL, argv, environ) == 0 ? waitpid(pid, NULL, 0) < 0 : -1;
}

/* The program lies in the build tree: this one is tests/unit/test_cleanup there. */
static bool
find_program(void)
{
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 64);

    if (n <= 0)
        return false;
    program[n] = '\0';
    for (unsigned up = 0; up < 3; up++) {
        char *slash = strrchr(program, '/');

        if (!slash)
            return false;
        *slash = '\0';
    }
    strncat(program, "/cleanup/cleanup", 32);
    return access(program, X_OK) == 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_and_announces),
        cmocka_unit_test(test_completes_local_mail),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_streams_large_contents),
        cmocka_unit_test(test_announces_again),
        cmocka_unit_test(test_holds),
        cmocka_unit_test(test_files_without_qmgr),
    };
    static const char *const dirs[] = {"public", "incoming", "hold"};
    int result;

    if (!find_program() || !mkdtemp(dir))
        return 1;
    for (unsigned i = 0; i < ARRAY_LEN(dirs); i++) {
        char path[256];

        snprintf(path, sizeof(path), "%s/%s", dir, dirs[i]);
        mkdir(path, 0700);
    }
    loop_init();
    link_init(&mail_protocol, "qmgr", geteuid());
    result = cmocka_run_group_tests(tests, NULL, NULL);
    loop_release();
    return remove_tree(dir) < 0 ? 1 : result;
}
