/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in an alias, a .forward file or an included list: an address, "|command", "/file", ":include:/file". */
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/addr.h"
#include "local/local.h"

enum { ROUTE_BATCH = 500 };

static const char include_word[] = ":include:";
enum { INCLUDE_LENGTH = sizeof include_word - 1 };

static bool
is_address(const char *text)
{
    return *text != '|' && *text != '/' && strncasecmp(text, include_word, INCLUDE_LENGTH) != 0;
}

/* ---- addresses ---- */

/* "user" alone, or "user@full.domain", needs no help of rewrite. */
static bool
is_simple(const char *address)
{
    const char *at = strrchr(address, '@');

    if (strpbrk(address, "!%") || strchr(address, '@') != at || strpbrk(address, "\"\\: "))
        return false;
    return at ? strchr(at, '.') != NULL : local.s.append_at_myorigin;
}

static const char *
with_extension(struct arena *arena, const struct step *step, const char *address)
{
    const char *at = strrchr(address, '@');

    if (!step->unmatched || !*local.s.recipient_delimiter)
        return address;
    if (!at)
        at = address + strlen(address);
    return arena_printf(arena, "%.*s%c%s%s", (int)(at - address), address, *local.s.recipient_delimiter,
                        step->unmatched, at);
}

/* The raw form, completed as mail of this host. */
static int may_wait
canonical(struct arena *arena, const struct step *step, const char *text, const char **address, struct err *err)
{
    if (!is_simple(text)) {
        if (router_rewrite(local.router, arena, "local", text, address, err) < 0)
            return -1;
    } else {
        *address = strchr(text, '@') ? text : arena_printf(arena, "%s@%s", text, local.s.myorigin);
    }
    *address = with_extension(arena, step, *address);
    return 0;
}

/* Ours to deliver, or a message of its own. */
static void
dispatch(struct job *job, const struct step *above, const char *address, const struct route_answer *answer)
{
    struct step *step = step_below(job, above);

    step->address = *answer->address ? answer->address : address;
    step->unmatched = NULL;
    if (answer->flags & ROUTE_FAIL)
        job_failed(job, step, "4.3.0", answer->reason);
    else if (answer->flags & ROUTE_ERROR)
        job_failed(job, step, "5.1.3", answer->reason);
    else if (strcmp(answer->transport, job->d->request->transport) == 0 &&
             strcasecmp(answer->nexthop, job->d->request->nexthop) == 0)
        job_add_recipient(job, step);
    else
        forward_add(job, step);
}

static void may_wait
add_addresses(struct job *job, const struct step *step, const char *const *addresses, unsigned count)
{
    struct route_answer *answers = arena_array(job->arena, count, sizeof *answers);
    struct err err;

    if (count == 0)
        return;
    if (router_resolve(local.router, job->arena, step->sender, addresses, count, answers, &err) < 0) {
        job_deferred(job, step, "4.3.0", &err);
        return;
    }
    for (unsigned i = 0; i < count; i++)
        dispatch(job, step, addresses[i], &answers[i]);
}

void
destinations_add(struct job *job, const struct step *step, const char *const *texts, size_t count)
{
    const char **addresses = arena_array(job->arena, ROUTE_BATCH, sizeof *addresses);
    unsigned n = 0;
    struct err err;

    for (size_t i = 0; i < count; i++) {
        if (!is_address(texts[i])) {
            job_add_destination(job, step, texts[i]);
        } else if (canonical(job->arena, step, texts[i], &addresses[n], &err) < 0) {
            job_deferred(job, step, "4.3.0", &err);
        } else if (++n == ROUTE_BATCH) {
            add_addresses(job, step, addresses, n);
            n = 0;
        }
    }
    add_addresses(job, step, addresses, n);
}

/* ---- :include: ---- */

/* Whose rights a list has that root's aliases name: its owner's, so that he can't make things happen as default_privs. */
static int may_wait
take_include_rights(struct job *job, struct step *step, const char *path)
{
    struct courier_stat st;
    struct rights rights;
    struct err err;
    bool found;

    if (step->rights.uid != 0)
        return 0;
    if (courier_stat(path, &found, &st, &err) < 0 || !found) {
        log_warning("unable to lookup :include: file %s: %s", path, found ? err.text : "No such file or directory");
        job_failed(job, step, "4.3.5", "mail system configuration error");
        return -1;
    }
    if (!S_ISREG(st.mode)) {
        log_warning(":include: file %s is not a regular file", path);
        job_failed(job, step, "4.3.5", "mail system configuration error");
        return -1;
    }
    if (st.uid == 0)
        return 0;
    if (passwd_find_uid(job->arena, st.uid, &rights, &found, &err) < 0 || !found) {
        log_warning("%s: cannot find :include: file owner username", path);
        job_failed(job, step, "4.3.5", "mail system configuration error");
        return -1;
    }
    step->rights = rights;
    return 0;
}

/* Can nobody but root have put it there? Then a root without any power over others' files may read what is root's own. */
static bool may_wait
is_roots_list(struct arena *arena, const char *path)
{
    char *part = arena_strdup(arena, path);
    struct courier_stat st;
    struct err err;
    bool found;

    if (courier_stat(part, &found, &st, &err) < 0 || !found || !S_ISREG(st.mode) || st.uid != 0)
        return false;
    for (char *slash; (slash = strrchr(part, '/')) != NULL;) {
        slash[slash == part] = '\0';
        if (courier_stat(part, &found, &st, &err) < 0 || !found || st.uid != 0 || (st.mode & (S_IWGRP | S_IWOTH)))
            return false;
        if (slash == part)
            break;
    }
    return true;
}

/* A list of root's is read as default_privs, or if they may not, as root. */
static const struct msg_user_done *may_wait
read_list(struct job *job, const struct step *above, const struct step *step, const char *path)
{
    static const struct rights root = {.user = "root", .home = "", .shell = ""};
    struct msg_user_job work = store_job(job, step, USER_INCLUDE, path, 0);
    const struct msg_user_done *done;

    if (above->rights.uid == 0 && step->rights.uid != 0)
        work.flags = USER_JOB_STRICT_OWNER; /* what stands in it is done as who owns it */
    done = store_call(job, step, rights_of(step), &work, false);
    if (done && done->result != USER_DONE && step->rights.uid == 0 && is_roots_list(job->arena, path))
        done = store_call(job, step, &root, &work, false);
    return done;
}

static void may_wait
include(struct job *job, const struct step *above, const char *path)
{
    struct step *step = step_below(job, above);
    const struct msg_user_done *done;
    const char **texts;

    if (*path != '/') {
        log_warning(":include:%s uses a relative path", path);
        job_failed(job, above, "5.3.5", "mail system configuration error");
        return;
    }
    if (job_seen(job, "include %s", path) || take_include_rights(job, step, path) < 0)
        return;
    done = read_list(job, above, step, path);
    if (!done)
        return;
    if (done->result != USER_DONE) {
        log_warning("%s", done->reason);
        job_failed(job, step, "4.3.5", "mail system configuration error");
        return;
    }
    step->expansion = EXPAND_INCLUDE;
    if (!(local.propagate & EXPAND_INCLUDE))
        step->unmatched = NULL;
    texts = arena_array(job->arena, done->text_count, sizeof *texts);
    for (size_t i = 0; i < done->text_count; i++)
        texts[i] = done->texts[i].text;
    destinations_add(job, step, texts, done->text_count);
}

/* ---- */

void
destination_deliver(struct job *job, const struct step *step, const char *text)
{
    if (*text == '|') {
        if (!(local.command_mask & step->expansion))
            job_failed(job, step, "5.7.1", "mail to command is restricted");
        else if (!job_seen(job, "command %lu %s", (unsigned long)step->rights.uid, text + 1))
            command_deliver(job, step, rights_of(step), text + 1);
    } else if (*text == '/') {
        if (!(local.file_mask & step->expansion))
            job_failed(job, step, "5.7.1", "mail to file is restricted");
        else if (!job_seen(job, "file %lu %s", (unsigned long)step->rights.uid, text))
            file_deliver(job, step, text);
    } else {
        include(job, step, text + INCLUDE_LENGTH);
    }
}
