/* SPDX-License-Identifier: Apache-2.0 */
/* A local user: .forward file, then what mailbox_... and its kin say, then the mailbox. */
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/service/service.h"
#include "local/local.h"

enum { FORWARD_FILES = 50 };

/* ---- where ---- */

struct mailbox {
    const char *path;
    struct rights rights; /* as whom */
    unsigned flags;       /* USER_JOB_... */
};

static bool
ends_in_slash(const char *path)
{
    size_t len = strlen(path);

    return len > 0 && path[len - 1] == '/';
}

/* A spool that everybody may write to is used as the user; one for a group, with that group too. In a spool of root's alone
 * the mailbox must be there, and gets no lock file. */
static void
spool_rights(struct mailbox *mailbox, const char *spool)
{
    struct stat st;

    if (stat(spool, &st) < 0 || (st.st_mode & S_IWOTH))
        return;
    if (st.st_mode & S_IWGRP)
        mailbox->rights.gid = st.st_gid;
    else
        mailbox->flags |= USER_JOB_DOTLOCK_TRY;
}

static struct mailbox
find_mailbox(struct job *job, const struct step *step, const struct rights *rights)
{
    const struct local_settings *s = &local.s;
    struct mailbox mailbox = {.rights = *rights};

    if (*s->home_mailbox) {
        mailbox.path = arena_printf(job->arena, "%s/%s", rights->home, s->home_mailbox);
    } else {
        mailbox.path = arena_printf(job->arena, ends_in_slash(s->mail_spool_directory) ? "%s%s/" : "%s/%s",
                                    s->mail_spool_directory, step->user);
        spool_rights(&mailbox, s->mail_spool_directory);
    }
    if (s->strict_mailbox_ownership)
        mailbox.flags |= USER_JOB_STRICT_OWNER;
    return mailbox;
}

/* ---- .forward ---- */

struct forwards {
    struct user_text files[FORWARD_FILES];
    bool extended[FORWARD_FILES]; /* its name has the extension in it */
    unsigned count;
};

static int
find_forwards(struct job *job, const struct step *step, const struct rights *rights, struct forwards *out,
              struct err *err)
{
    struct slice rest = slice_from(local.s.forward_path), item;

    out->count = 0;
    while (out->count < FORWARD_FILES && slice_word(&rest, ", \t\r\n", &item)) {
        const char *text = arena_strndup(job->arena, item.ptr, item.len), *path;
        bool extended;

        if (names_expand(job->arena, step, rights, text, local.s.forward_expansion_filter, &path, &extended, err) < 0)
            return err_context(err, "forward_path");
        if (*path != '/' || (out->count && strcmp(out->files[out->count - 1].text, path) == 0))
            continue;
        out->files[out->count].text = path;
        out->extended[out->count++] = extended;
    }
    return 0;
}

/* Is it this file that made us come here? Then the user means the mailbox. */
static bool
is_own_forward(const struct step *step, const struct forwards *forwards)
{
    for (; step; step = step->parent)
        for (unsigned i = 0; step->forward_file && i < forwards->count; i++)
            if (strcmp(step->forward_file, forwards->files[i].text) == 0)
                return true;
    return false;
}

static bool
was_forwarded(const struct job *job, const struct forwards *forwards)
{
    for (unsigned i = 0; i < forwards->count; i++)
        if (job_saw(job, "forward-done %s", forwards->files[i].text))
            return true;
    return false;
}

static void may_wait
expand_forward(struct job *job, const struct step *above, const struct rights *rights, const char *path, bool extended,
               const struct msg_user_done *done)
{
    struct step *step = step_below(job, above);
    const char **texts = arena_array(job->arena, done->text_count, sizeof *texts);

    (void)job_seen(job, "forward-done %s", path);
    step->expansion = EXPAND_FORWARD;
    step->forward_file = path;
    step->from = step->local;
    step->owner = step->user;
    step->rights = *rights;
    step->notify &= ~NOTIFY_SUCCESS;
    if (above->notify == NOTIFY_SUCCESS)
        step->notify = NOTIFY_NEVER;
    if (!local.s.frozen_delivered_to)
        step->delivered = step->address;
    if (extended || !(local.propagate & EXPAND_FORWARD))
        step->unmatched = NULL;
    for (size_t i = 0; i < done->text_count; i++)
        texts[i] = done->texts[i].text;
    destinations_add(job, step, texts, done->text_count);
}

/* Reads the file. 1: it was expanded, or the step is dealt with. 0: it means nothing: on to the mailbox. */
static int may_wait
read_forward(struct job *job, const struct step *step, const struct rights *rights, const struct forwards *forwards,
             unsigned i)
{
    const char *path = forwards->files[i].text;
    struct msg_user_job work = store_job(job, step, USER_FORWARD, path, 0);
    const struct msg_user_done *done = store_call(job, step, rights, &work, false);

    if (!done)
        return 1;
    if (done->result == USER_FAILED) {
        log_warning("%s: %s", job->d->request->queue_id, done->reason);
        job_failed(job, step, done->status, done->reason);
        return 1;
    }
    if (done->result == USER_IGNORED)
        log_warning("%s", done->reason);
    if (done->result == USER_IGNORED || done->text_count == 0)
        return 0;
    expand_forward(job, step, rights, path, forwards->extended[i], done);
    return 1;
}

/* For what is no mailbox of ours: looks for the files alone. */
static int may_wait
look_for_forward(struct job *job, const struct step *step, const struct rights *rights, struct forwards *forwards)
{
    struct msg_user_job work = store_job(job, step, USER_LOOK, "", 0);
    const struct msg_user_done *done;

    if (forwards->count == 0)
        return 0;
    work.texts = forwards->files;
    work.text_count = forwards->count;
    done = store_call(job, step, rights, &work, false);
    if (!done)
        return 1;
    if (done->result == USER_FAILED) {
        job_failed(job, step, done->status, done->reason);
        return 1;
    }
    return done->result == USER_THERE ? read_forward(job, step, rights, forwards, (unsigned)done->position) : 0;
}

/* ---- the mailbox ---- */

static void may_wait
store(struct job *job, const struct step *step, const struct rights *rights, const struct forwards *forwards)
{
    struct mailbox mailbox = find_mailbox(job, step, rights);
    struct msg_user_job work = store_job(job, step, USER_STORE, mailbox.path, CONTEXT_FILE);
    const struct msg_user_done *done;

    work.flags = mailbox.flags | (local.s.require_home_directory ? USER_JOB_NEEDS_HOME : 0u);
    work.directory = rights->home;
    work.texts = (struct user_text *)forwards->files;
    work.text_count = forwards->count;
    done = store_call(job, step, &mailbox.rights, &work, true);
    if (done && done->result == USER_THERE) {
        if (read_forward(job, step, rights, forwards, (unsigned)done->position))
            return;
        work.text_count = 0;
        done = store_call(job, step, &mailbox.rights, &work, true);
    }
    if (!done)
        return;
    if (done->result == USER_DONE) {
        job_sent(job, step, ends_in_slash(mailbox.path) ? "delivered to maildir" : "delivered to mailbox");
        if (local.s.biff && done->position >= 0)
            biff_notify(step->user, done->position);
    } else if (ends_in_slash(mailbox.path)) {
        job_failed(job, step, done->status, arena_printf(job->arena, "maildir delivery failed: %s", done->reason));
    } else {
        job_failed(job, step, done->status,
                   arena_printf(job->arena, "cannot update mailbox %s for user %s. %s", mailbox.path, step->user,
                                done->reason));
    }
}

/* ---- transports and commands in its place ---- */

/* "transport:nexthop"; a next hop that is missing is the request's. */
static void may_wait
pass(struct job *job, const struct step *step, const char *destination)
{
    const char *colon = strchr(destination, ':');
    size_t len = colon ? (size_t)(colon - destination) : strlen(destination);
    const char *nexthop = colon && colon[1] ? colon + 1 : job->d->request->nexthop;
    struct delivery_status status;
    struct err err;

    if (delivery_pass(job->d, job->index, step->address, arena_strndup(job->arena, destination, len), nexthop, &status,
                      &err) < 0) {
        job_deferred(job, step, "4.3.0", &err);
        return;
    }
    job_count(job, step, &status); /* the other agent has logged it */
}

/* What the maps say for the user, or else the parameter. NULL: deferred. "" for neither. */
static const char *may_wait
choose(struct job *job, const struct step *step, const struct maps *maps, const char *otherwise)
{
    const char *value = NULL;
    struct err err;

    if (!maps_is_empty(maps) && maps_find(maps, job->arena, slice_from(step->user), &value, &err) < 0) {
        log_warning("%s: %s", job->d->request->queue_id, err.text);
        job_failed(job, step, "4.3.0", "table look-up problem");
        return NULL;
    }
    return value ? value : otherwise;
}

/* ---- nobody of that name ---- */

static bool
is_required(const char *user)
{
    return strcasecmp(user, "postmaster") == 0 || strcasecmp(user, "mailer-daemon") == 0;
}

static void may_wait
relay_unknown(struct job *job, const struct step *above, struct err *err)
{
    const char *address;
    struct step *step = step_below(job, above);

    if (names_expand(job->arena, above, &above->rights, local.s.luser_relay, local.s.forward_expansion_filter, &address,
                     NULL, err) < 0) {
        job_deferred(job, above, "4.3.5", err);
        return;
    }
    step->unmatched = NULL;
    step->from = NULL;
    if (!local.s.frozen_delivered_to)
        step->delivered = step->address;
    destinations_add(job, step, &address, 1);
}

static void may_wait
unknown(struct job *job, const struct step *step)
{
    const char *transport = choose(job, step, local.fallback_maps, local.s.fallback_transport);
    struct err err;

    if (!transport)
        return;
    if (*transport) {
        pass(job, step, transport);
    } else if (*local.s.luser_relay && !job_seen_address(job, "luser", step->address)) {
        relay_unknown(job, step, &err);
    } else if (is_required(step->user)) {
        log_warning("required alias not found: %s", step->user);
        job_sent(job, step, "discarded");
    } else {
        job_failed(job, step, "5.1.1", arena_printf(job->arena, "unknown user: \"%s\"", step->user));
    }
}

/* ---- all together ---- */

/* Everything after .forward. forwards: what store() is to look for first; empty if that was done. */
static void may_wait
deliver_mailbox(struct job *job, const struct step *step, const struct rights *rights, bool exists,
                const struct forwards *forwards)
{
    const char *transport = choose(job, step, local.transport_maps, local.s.mailbox_transport), *command;

    if (!transport)
        return;
    if (*transport) {
        pass(job, step, transport);
        return;
    }
    if (!exists) {
        unknown(job, step);
        return;
    }
    command = choose(job, step, local.command_maps, local.s.mailbox_command);
    if (!command)
        return;
    if (*command)
        command_deliver(job, step, rights, command);
    else
        store(job, step, rights, forwards);
}

void
user_deliver(struct job *job, const struct step *step)
{
    struct forwards *forwards = ARENA_NEW(job->arena, struct forwards);
    bool own, exists,
        to_store = *local.s.mailbox_transport == '\0' && *local.s.mailbox_command == '\0' &&
                   maps_is_empty(local.transport_maps) && maps_is_empty(local.command_maps);
    struct rights rights = {.user = "", .home = "", .shell = ""};
    struct err err;

    if (passwd_find(job->arena, step->user, &rights, &exists, &err) < 0) {
        log_warning("%s: look-up of user %s: %s", job->d->request->queue_id, step->user, err.text);
        job_failed(job, step, "4.3.0", "user lookup error");
        return;
    }
    if (exists && find_forwards(job, step, &rights, forwards, &err) < 0) {
        job_deferred(job, step, "4.3.5", &err);
        return;
    }
    /* Once by whatever way, and once more when the user's own file says so. */
    own = is_own_forward(step, forwards);
    if (job_seen(job, own ? "mailbox %s" : "recipient %s", step->local) || (!own && was_forwarded(job, forwards)))
        return;
    if (own)
        forwards->count = 0;
    if (!to_store) {
        if (look_for_forward(job, step, &rights, forwards))
            return;
        forwards->count = 0;
    }
    deliver_mailbox(job, step, &rights, exists, forwards);
}
