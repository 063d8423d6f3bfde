/* SPDX-License-Identifier: Apache-2.0 */
/* postdrop: puts a message into maildrop/. It is installed with the set-group-id bit, the only program that is trusted with
 * more than its caller has, so it does little: it checks records that it reads from standard input, and writes them to a new
 * file. See postdrop(1). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/conf/environment.h"
#include "lib/conf/settings_tools.h"
#include "lib/mail/queue_id.h"
#include "lib/mail/queue_record.h"
#include "tools/login_sender.h"
#include "tools/privileged.h"

enum {
    BLOCK = 64 * 1024,
    RECORD_LIMIT = 64 * 1024,
    XFS_MAGIC = 0x58465342,   /* older headers have none */
    ENVELOPE_SPARE = 4 << 20, /* so much more than message_size_limit may come: many recipients */
};

/* Of the file that is not finished: for handlers of signals and of the exit. Written before they are armed. */
static char unfinished[512];
static volatile sig_atomic_t is_unfinished;

static struct {
    char buffer[BLOCK], record[RECORD_LIMIT];
    size_t at, end;
    uint64_t total, limit;
} in;

static void
remove_unfinished(void)
{
    if (is_unfinished) {
        is_unfinished = 0;
        unlink(unfinished);
    }
}

static void
on_signal(int number)
{
    (void)number;
    remove_unfinished();
    _exit(EX_UNAVAILABLE);
}

static void
catch_signals(void)
{
    static const int deadly[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU};
    struct sigaction action = {.sa_handler = on_signal};

    sigfillset(&action.sa_mask);
    for (unsigned i = 0; i < ARRAY_LEN(deadly); i++) {
        struct sigaction old;

        if (sigaction(deadly[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            (void)sigaction(deadly[i], &action, NULL);
    }
    (void)atexit(remove_unfinished);
}

/* ---- input ---- */

static NORETURN void
malformed(const char *what)
{
    fatal_set_status(EX_DATAERR);
    fatal("uid=%ld: malformed input: %s", (long)getuid(), what);
}

/* The next byte; -1 at the end. */
static int
next_byte(void)
{
    if (in.at == in.end) {
        ssize_t n;

        while ((n = read(STDIN_FILENO, in.buffer, sizeof in.buffer)) < 0 && errno == EINTR)
            ;
        if (n < 0) {
            fatal_set_status(EX_IOERR);
            fatal("uid=%ld: error reading input: %m", (long)getuid());
        }
        in.at = 0;
        in.end = (size_t)n;
        in.total += (uint64_t)n;
        if (in.limit && in.total > in.limit) {
            fatal_set_status(EX_UNAVAILABLE);
            fatal("uid=%ld: message file too big", (long)getuid());
        }
        if (n == 0)
            return -1;
    }
    return (unsigned char)in.buffer[in.at++];
}

/* Type and data of the next record: data holds RECORD_LIMIT bytes. */
static int
next_record(char *data, size_t *len)
{
    int type = next_byte(), byte = 0;
    unsigned shift = 0;

    *len = 0;
    do {
        byte = type < 0 ? -1 : next_byte();
        if (byte < 0)
            malformed("it ends too early");
        if (shift > 21)
            malformed("a record's length");
        *len |= (size_t)(byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80);
    if (*len > RECORD_LIMIT)
        malformed("a record is too long");
    for (size_t i = 0; i < *len; i++) {
        byte = next_byte();
        if (byte < 0)
            malformed("it ends within a record");
        data[i] = (char)byte;
    }
    return type;
}

/* ---- what is let through ---- */

/* Other attributes are the mail system's own business. */
static bool
is_known_attribute(struct slice text)
{
    static const char *const names[] = {"encoding",      "envelope_id", "ret_flags",       "notify_flags",
                                        "dsn_orig_rcpt", "create_time", "rewrite_context", "trace_flags"};
    struct slice name;

    if (!slice_has_byte(text, '=') || !slice_cut(&text, '=', &name))
        malformed("an attribute without a value");
    name = slice_trim(name);
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (slice_equal_text(name, names[i]))
            return true;
    log_warning("uid=%ld: ignoring attribute record: %.*s", (long)getuid(), SLICE_ARG(name));
    return false;
}

/* A size record may hold send options alone; all else in it is ours to say. */
static bool
is_size_of_nothing(struct slice text)
{
    struct slice word;
    unsigned n = 0;

    for (; slice_word(&text, " ", &word); n++)
        if (n < 5 && !slice_equal_text(word, "-1"))
            return false;
    return n == 6;
}

static void
check_text(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] == '\0' || text.ptr[i] == '\n' || text.ptr[i] == '\r')
            malformed("a control character in the envelope");
}

/* False: not for the file. */
static bool
check_envelope_record(const struct login_sender *who, int type, struct slice text, bool *has_sender)
{
    check_text(text);
    if (type == REC_SENDER && !login_sender_may(who, text)) {
        fatal_set_status(EX_NOPERM);
        fatal("User %s(%ld) is not allowed to send mail as <%.*s>", login_sender_name(who), (long)getuid(),
              SLICE_ARG(text));
    }
    if (type == REC_SIZE && !is_size_of_nothing(text))
        malformed("a size record");
    if (type == REC_SENDER)
        *has_sender = true;
    return type != REC_SIZE && (type != REC_ATTRIBUTE || is_known_attribute(text));
}

/* ---- the file ---- */

static void
write_out(int fd, struct buf *out)
{
    while (out->len > 0) {
        ssize_t n = write(fd, out->ptr, out->len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            fatal_set_status(errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? EX_UNAVAILABLE : EX_OSERR);
            fatal("error writing queue file: %m");
        }
        buf_consume(out, (size_t)n);
    }
}

static void
copy(int fd, const struct login_sender *who)
{
    static const char *const allowed[] = {"MFSRVAinC", "XLN", "EAR"}; /* in each part; its first ends it */
    char *data = in.record;
    struct buf out = {0};
    bool has_sender = false;
    usec_t now = clock_wall();
    char text[64];
    size_t len;

    snprintf(text, sizeof text, "%" PRId64 " %" PRId64, now / 1000000, now % 1000000);
    queue_record_put(&out, REC_TIME, slice_from(text));
    for (unsigned part = 0; part < ARRAY_LEN(allowed);) {
        int type = next_record(data, &len);

        if (!strchr(allowed[part], type) || type == 0)
            malformed("a record that does not belong there");
        if (part != 1 && !check_envelope_record(who, type, slice_make(data, len), &has_sender))
            continue;
        if (type == allowed[part][0])
            part++;
        if (part == 1 && !has_sender)
            malformed("no sender");
        queue_record_put(&out, (unsigned char)type, slice_make(data, len));
        if (out.len >= BLOCK)
            write_out(fd, &out);
    }
    write_out(fd, &out);
    buf_release(&out);
}

/* Creates the file under the name that its inode gives. A name that is there already belongs to another. */
static int
create(bool long_ids)
{
    char temporary[64], id[QUEUE_ID_SIZE], path[QUEUE_ID_SIZE + 16];
    struct stat st;
    sigset_t all;
    int fd;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL); /* no signal finds a file that `unfinished` does not name yet */
    for (unsigned attempt = 0;; attempt++) {
        snprintf(temporary, sizeof temporary, "maildrop/%" PRId64 ".%d", clock_wall() % 1000000, (int)getpid());
        memcpy(unfinished, temporary, sizeof temporary);
        fd = open(temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd >= 0)
            break;
        if (errno != EEXIST || attempt == 100) {
            fatal_set_status(errno == EACCES || errno == EPERM ? EX_NOPERM : EX_UNAVAILABLE);
            fatal("unable to create a file in maildrop: %m");
        }
        usleep(1000);
    }
    is_unfinished = 1;
    if (fstat(fd, &st) < 0)
        fatal("fstat: %m");
    queue_id_format(clock_wall(), (uint64_t)st.st_ino, long_ids, id);
    snprintf(path, sizeof path, "maildrop/%s", id);
    if (rename(temporary, path) < 0)
        fatal("rename %s: %m", temporary);
    memcpy(unfinished, path, sizeof path);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    return fd;
}

/* What is written, before the mode says "ready": a system that stops between the two must not leave the mode without the
 * content. A sync of its own would do that everywhere, at the price of a second one. Where a file system has a journal it is
 * enough that the blocks have been handed to the disk and what says where they are to the journal: the mode comes later in
 * the same journal, which empties the disk's cache before it takes either for true. */
static int
settle(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) == 0 && (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_MAGIC) &&
        sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) ==
            0)
        return 0;
    return fdatasync(fd);
}

static void
wake_pickup(const char *service)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "public/%s", service);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        (void)!send(fd, "W", 1, MSG_NOSIGNAL); /* if not: it looks every minute, and when it starts */
    if (fd >= 0)
        close(fd);
}

static void
drop(const struct tools_settings *settings, const struct login_sender *who)
{
    int fd;

    in.limit = settings->message_size_limit ? (uint64_t)settings->message_size_limit + ENVELOPE_SPARE : 0;
    fatal_set_status(EX_OSERR);
    (void)umask(0);
    catch_signals();
    fd = create(settings->enable_long_queue_ids);
    copy(fd, who);
    if (settle(fd) < 0 || fchmod(fd, 0744) < 0 || fsync(fd) < 0 || close(fd) < 0) {
        fatal_set_status(EX_UNAVAILABLE);
        fatal("error writing queue file: %m");
    }
    is_unfinished = 0;
    wake_pickup(settings->pickup_service_name);
}

/* For Postfix's sendmail, which asks with -r. */
static void
report(void)
{
    static const char done[] = "status\0000\0reason\0\0";

    (void)!write(STDOUT_FILENO, done, sizeof done);
}

int
main(int argc, char **argv)
{
    struct arena *arena = arena_new();
    struct tools_settings settings;
    struct login_sender *who;
    const char *directory = NULL, *user;
    struct conf *conf;
    struct err err;
    int option;

    privileged_begin();
    log_init("postdrop");
    fatal_set_status(EX_USAGE);
    while ((option = getopt(argc, argv, "c:rv")) != -1) {
        if (option == '?')
            fatal("usage: %s [-c config_dir] [-v]", "postdrop");
        if (option == 'c')
            directory = optarg;
    }
    fatal_set_status(EX_CONFIG);
    conf = conf_load(privileged_directory(arena, directory), &err);
    if (!conf || environment_import(conf, &err) < 0 || tools_settings_load(&settings, conf, arena, &err) < 0)
        fatal("%s", err.text);
    if (chdir(settings.queue_directory) < 0)
        fatal("chdir %s: %m", settings.queue_directory);
    if (!privileged_user_may(arena, conf, "authorized_submit_users", settings.authorized_submit_users, &user)) {
        fatal_set_status(EX_NOPERM);
        fatal("User %s(%ld) is not allowed to submit mail", user, (long)getuid());
    }
    who = login_sender_new(arena, conf, &settings);
    drop(&settings, who);
    report();
    conf_free(&conf);
    arena_free(&arena);
    return 0;
}
