/* SPDX-License-Identifier: Apache-2.0 */
/* imap-session: everything of IMAP after the login. See lib/service/user_process.h for its two sides. */
#include "imap/park.h"
#include "imap/session.h"
#include "imap/settings.h"
#include "lib/conf/settings_imap.h"
#include "lib/service/user_process.h"
#include "lib/store/mbox.h"

struct imap_session_settings settings;
static struct mailboxes *mailboxes;
static struct mbox_locking locking;
static const char *mbox_directory;

static int
prepare(const struct conf *conf, struct err *err)
{
    struct imap_settings set;
    if (imap_settings_load(&set, conf, service_arena(), err) < 0)
        return -1;
    if (mbox_lock_kinds(set.mailbox_delivery_lock, &locking.kinds, err) < 0)
        return err_context(err, "mailbox_delivery_lock");
    locking.attempts = (unsigned)set.deliver_lock_attempts;
    locking.delay = set.deliver_lock_delay;
    locking.stale = set.stale_lock_time;
    mbox_directory = set.imap_mbox_directory;
    settings = (struct imap_session_settings){.idle_timeout = set.imap_idle_timeout,
                                              .park_time = set.imap_park_time,
                                              .search_index = set.imap_search_index,
                                              .progress_time = set.imap_progress_time,
                                              .command_limit = set.imap_command_size_limit,
                                              .session_limit = (unsigned)set.mailbox_session_limit,
                                              .append_limit = (uint64_t)set.imap_append_size_limit};
    return 0;
}

/* Of mboxes beside INBOX: in the home directory, or (a virtual user has none) beside INBOX with ".d" behind its name. */
static const char *
mbox_place(void)
{
    const char *home = user_identity()->home, *mail = user_identity()->mail;
    if (strncmp(mail, "mbox:", 5) != 0)
        return NULL;
    folder_configure_mbox(&locking, *home ? home : NULL);
    return *home ? arena_printf(service_arena(), "%s/%s", home, mbox_directory)
                 : arena_printf(service_arena(), "%s.d", mail + 5);
}

static int
start(struct err *err)
{
    session_make_capabilities(service_arena());
    mailboxes = mailboxes_open(user_identity()->mail, mbox_place(), err);
    return mailboxes ? 0 : -1;
}

static void
end(void)
{
    mailboxes_close(&mailboxes);
}

static void
serve(int fd, const struct msg_session *from, struct slice input)
{
    session_serve(mailboxes, fd, from, input);
}

static void
resume(int fd, const struct msg_session *from, struct slice state, struct user_told told)
{
    session_resume(mailboxes, fd, from, state, told);
}

static const struct user_program imap_program = {.program = "imap-session",
                                                 .protocol = "imap",
                                                 .prepare = prepare,
                                                 .start = start,
                                                 .serve = serve,
                                                 .resume = resume,
                                                 .news = park_news,
                                                 .stop = session_stop_all,
                                                 .end = end,
                                                 .idle_text = session_idle_text,
                                                 .stop_text = session_stop_text};

int
main(int argc, char **argv)
{
    return user_process_main(argc, argv, &imap_program);
}
