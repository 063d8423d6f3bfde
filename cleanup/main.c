/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup: makes messages canonical and durable. ARCHITECTURE.md has the way of a message through it. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup/announce.h"
#include "cleanup/characters.h"
#include "cleanup/check.h"
#include "cleanup/server.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/mail/addr_form.h"
#include "lib/mail/log_events.h"
#include "lib/mail/messages.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"

#define LOOK_AGAIN_TIME SECONDS(1)

struct server server;

static usec_t drain_time;
static usec_t drain_deadline = NO_DEADLINE; /* until the system stops */

static const char *const write_paths[] = {"journal", "incoming", "hold", NULL};

/* Nobody needs its images any more: qmgr may close the segment. */
static void
segment_is_gone(void *ctx, uint32_t segment, uint32_t generation)
{
    (void)ctx;
    announce_segment_gone(segment, generation);
}

/* The sandbox wants the directory to be there. Whoever owns the queue owns it. */
static int
make_journal_directory(struct err *err)
{
    struct stat st;

    if (mkdir("journal", 0700) < 0)
        return errno == EEXIST ? 0 : err_errno(err, "mkdir journal");
    if (geteuid() == 0 && stat("incoming", &st) == 0 && chown("journal", st.st_uid, st.st_gid) < 0)
        return err_errno(err, "owner of journal");
    return 0;
}

/* remote_header_rewrite_domain stands for both $myorigin and $mydomain. */
static void
set_remote_form(void)
{
    const char *domain = server.settings.remote_header_rewrite_domain;
    struct rewrite_settings *form;

    if (!*domain)
        return;
    form = ARENA_NEW(service_arena(), struct rewrite_settings);
    *form = *addr_rewriter_rules(server.rewriter)->form;
    form->myorigin = form->mydomain = domain;
    server.remote_form = form;
}

static int
open_tables(const struct conf *conf, struct err *err)
{
    const struct cleanup_settings *s = &server.settings;

    server.rewriter = addr_rewriter_new(service_arena(), conf, s, err);
    if (!server.rewriter || address_tell_old_default(conf, err) < 0)
        return -1;
    server.has_copies = *s->always_bcc || *s->sender_bcc_maps || *s->recipient_bcc_maps;
    set_remote_form();
    return characters_init(err) < 0 ? -1 : checks_open(service_arena(), conf, err);
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    if (cleanup_settings_load(&server.settings, conf, service_arena(), err) < 0)
        return -1;
    if (conf_time(conf, "service_drain_time", &drain_time, err) < 0)
        return -1;
    if (queue_dir_open(&server.queue_dir, ".", conf, service_arena(), err) < 0)
        return -1;
    if (make_journal_directory(err) < 0 || open_tables(conf, err) < 0)
        return -1;
    sandbox->write_paths = write_paths;
    return 0;
}

static int
open_journal(struct err *err)
{
    struct journal_settings settings = {.directory = "journal",
                                        .segment_size = (uint64_t)server.settings.journal_segment_size,
                                        .segment_limit = (unsigned)server.settings.journal_segment_limit,
                                        .gone = segment_is_gone};

    server.journal = journal_new(&settings, err);
    return server.journal ? 0 : -1;
}

/* A segment is made ready now, so that the first message need not wait for it. That it can't be made now (a full disk) is
 * no reason not to start: messages are refused until it can. */
static int
start(struct err *err)
{
    struct err why;

    if (open_journal(err) < 0)
        return -1;
    announce_start(arena_printf(service_arena(), "public/%s", server.settings.queue_service_name));
    if (journal_prepare(server.journal, &why) < 0)
        log_warning("%s", why.text);
    return 0;
}

static const struct link_handler handlers[] = {
    {&type_envelope, true, message_take},
    {&type_want_ids, true, ids_give},
};

static void
serve(int fd, const struct net_addr *peer, unsigned socket)
{
    (void)peer;
    (void)socket;
    link_accept(fd, handlers, ARRAY_LEN(handlers), NULL, NULL);
}

static void
hurry(void)
{
    drain_deadline = loop_now() + drain_time;
}

/* The wait ends early, because the deadline may come meanwhile. */
static usec_t
look_again(void)
{
    usec_t again = loop_now() + LOOK_AGAIN_TIME;

    return again < drain_deadline ? again : drain_deadline;
}

static bool
has_time(const struct err *err)
{
    return err->kind == ERR_TIMEOUT && loop_now() < drain_deadline;
}

/* What is under way is answered; then qmgr gets time to deliver or file what it was told of: after a reload as long as that
 * takes, since a successor takes in mail meanwhile, else service_drain_time. What is left after that stays in segments without an owner, as
 * after a crash: qmgr takes them over. */
static void
drain(void)
{
    struct err err;

    while (link_drain_servers(look_again(), &err) < 0)
        if (!has_time(&err)) {
            log_debug("clients are left: %s", err.text);
            break;
        }
    while (server.messages > 0)
        if (task_wait(&server.taken_in, look_again(), &err) < 0 && !has_time(&err))
            break;
    announce_drain(&drain_deadline);
    if (journal_outstanding(server.journal) == 0) {
        if (journal_remove_all(server.journal, &err) < 0)
            log_warning("%s", err.text);
    } else {
        log_left_in_journal((unsigned)journal_outstanding(server.journal));
    }
    if (server.messages == 0) {
        announce_end();
        journal_free(&server.journal);
    }
}

static const struct service cleanup_service = {
    .program = "cleanup",
    .prepare = prepare,
    .start = start,
    .serve = serve,
    .drain = drain,
    .hurry = hurry,
    .overlaps = true,
    .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_UNIX | SANDBOX_READ | SANDBOX_MOVE |
                         SANDBOX_QUEUE | SANDBOX_JOURNAL | SANDBOX_THREADS,
                .may_write_files = true},
    .resident = true,
};

int
main(int argc, char **argv)
{
    return service_main(argc, argv, &cleanup_service);
}
