/* SPDX-License-Identifier: Apache-2.0 */
/* pop3-session: everything of POP3 after the login. See lib/service/user_process.h for its two sides. */
#include <string.h>

#include "lib/conf/settings_pop3.h"
#include "lib/service/user_process.h"
#include "lib/store/mbox.h"
#include "pop3/session.h"

struct pop3_session_settings settings;
static struct mbox_locking locking;
static const char *place; /* of INBOX */
static enum folder_make kind;

static int
prepare(const struct conf *conf, struct err *err)
{
    struct pop3_settings set;
    if (pop3_settings_load(&set, conf, service_arena(), err) < 0)
        return -1;
    if (mbox_lock_kinds(set.mailbox_delivery_lock, &locking.kinds, err) < 0)
        return err_context(err, "mailbox_delivery_lock");
    locking.attempts = (unsigned)set.deliver_lock_attempts;
    locking.delay = set.deliver_lock_delay;
    locking.stale = set.stale_lock_time;
    settings = (struct pop3_session_settings){.idle_timeout = set.pop3_idle_timeout,
                                              .uidl_format = set.pop3_uidl_format,
                                              .session_limit = (unsigned)set.mailbox_session_limit};
    return 0;
}

static int
start(struct err *err)
{
    const char *mail = user_identity()->mail;
    kind = strncmp(mail, "mbox:/", 6) == 0 ? FOLDER_MBOX : FOLDER_MAILDIR;
    place = strchr(mail, ':') ? strchr(mail, ':') + 1 : "";
    if (kind == FOLDER_MBOX)
        folder_configure_mbox(&locking, *user_identity()->home ? user_identity()->home : NULL);
    else if (strncmp(mail, "maildir:/", 9) != 0)
        return err_set(err, ERR_PERM, "mail of this kind can't be read by POP3: %s", mail);
    return 0;
}

static void
serve(int fd, const struct msg_session *from, struct slice input)
{
    session_serve(place, kind, fd, from, input);
}

static const struct user_program pop3_program = {.program = "pop3-session",
                                                 .protocol = "pop3",
                                                 .prepare = prepare,
                                                 .start = start,
                                                 .serve = serve,
                                                 .stop = session_stop_all};

int
main(int argc, char **argv)
{
    return user_process_main(argc, argv, &pop3_program);
}
