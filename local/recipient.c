/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <strings.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/addr.h"
#include "local/local.h"

/* Names in which a delimiter is a letter like any other. */
static bool
is_indivisible(const char *name, char delimiter)
{
    static const char *const reserved[] = {"postmaster", "mailer-daemon", "double-bounce"};
    size_t len = strlen(name);

    for (unsigned i = 0; i < ARRAY_LEN(reserved); i++)
        if (strcasecmp(name, reserved[i]) == 0)
            return true;
    return delimiter == '-' && local.s.owner_request_special &&
           (strncasecmp(name, "owner-", 6) == 0 || (len > 8 && strcasecmp(name + len - 8, "-request") == 0));
}

/* Where the extension's delimiter stands; NULL: there is none. Never the first character. */
static const char *
find_extension(const char *name)
{
    size_t at = *name ? 1 + strcspn(name + 1, local.s.recipient_delimiter) : 0;

    if (!*local.s.recipient_delimiter || !name[at] || is_indivisible(name, name[at]))
        return NULL;
    return name + at;
}

void
recipient_split(const struct job *job, struct step *step)
{
    struct arena *arena = job->arena;
    struct slice name, domain;
    const char *extension;
    char *lower;

    addr_split(step->address, &name, &domain);
    lower = arena_strndup(arena, name.ptr, name.len);
    text_lower_all(lower, name.len);
    step->local = step->user = lower;
    lower = arena_strndup(arena, domain.ptr, domain.len);
    text_lower_all(lower, domain.len);
    step->domain = lower;
    step->extension = NULL;
    extension = find_extension(step->local);
    if (!extension)
        return;
    step->user = arena_strndup(arena, step->local, (size_t)(extension - step->local));
    step->delimiter = *extension;
    if (strchr(extension, '/'))
        log_warning("%s: address with illegal extension: %s", job->d->request->queue_id, step->local);
    else
        step->extension = extension + 1;
}

/* The header's form of an address, in lower case. */
static bool
is_in_loop(const struct job *job, const char *address)
{
    char *key = arena_strdup(job->arena, addr_quote(job->arena, address));

    text_lower_all(key, strlen(key));
    return map_get_text(job->loop, key) != NULL;
}

/* Aliases: the whole local part first, then without its extension. */
static bool may_wait
try_aliases(struct job *job, const struct step *step)
{
    bool found;

    alias_expand(job, step, step->local, NULL, &found);
    if (!found && step->extension)
        alias_expand(job, step, step->user, local.propagate & EXPAND_ALIAS ? step->extension : NULL, &found);
    return found;
}

void
recipient_deliver(struct job *job, const struct step *above)
{
    struct step *step = ARENA_NEW(job->arena, struct step);

    *step = *above;
    recipient_split(job, step);
    if (is_in_loop(job, step->address)) {
        job_failed(job, step, "5.4.6", arena_printf(job->arena, "mail forwarding loop for %s", step->address));
        return;
    }
    if (try_aliases(job, step))
        return;
    if (step->extension)
        step->unmatched = step->extension;
    /* Members of a list with an owner, what users forward to each other, and what stands in included lists become messages
     * of their own, with a status for each. */
    if ((step->owner && strcasecmp(step->owner, step->user) != 0) || step->expansion == EXPAND_INCLUDE)
        forward_add(job, step);
    else
        user_deliver(job, step);
}
