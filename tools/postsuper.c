/* SPDX-License-Identifier: Apache-2.0 */
/* postsuper: works on messages in the queue, and keeps its directories in order. See postsuper(1).
 *
 * What qmgr holds in the journal is made a file first, so that there is one place to look. A message that is being
 * delivered is not waited for: qmgr notices that its file has gone. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/queue_id.h"
#include "lib/service/log_setup.h"
#include "tools/queue_command.h"

static const char usage[] =
    "usage: postsuper [-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] [-f queue_id (expire and/or un-hold)] "
    "[-h queue_id (hold)] [-H queue_id (un-hold)] [-p (purge temporary files)] [-r queue_id (requeue)] "
    "[-s (structure fix)] [-S (redundant structure fix)] [-v (verbose)] [queue...]";

enum { OLD_SECONDS = 7 * 24 * 3600, MODE_EXPIRE = 0010 };

static const char *const log_queues[] = {"bounce", "defer", "trace", NULL};

struct command {
    struct queue_command base;
    const char *const *queues; /* to be searched */
};

/* What is told on standard error goes to the mail log as well, when all is done. */
static struct buf told;

static void tell(const char *fmt, ...) PRINTF_LIKE(1, 2);

static void
tell(const char *fmt, ...)
{
    char text[600];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    log_info("%s", text);
    buf_printf(&told, "%s\n", text);
}

static void
log_what_was_told(const struct conf *conf)
{
    struct slice rest = buf_slice(&told), line;
    struct err err;

    log_flush();
    if (rest.len == 0 || log_setup(conf, "postsuper", &err) < 0)
        return;
    while (slice_cut(&rest, '\n', &line))
        log_info("%.*s", SLICE_ARG(line));
    log_flush_all();
    buf_release(&told);
}

/* ---- one message in one queue: 1 if it was there and something was done ---- */

static int
delete_in(struct command *command, const char *queue, const char *id)
{
    bool found, had_log;
    struct err err;

    if (queue_dir_remove(&command->base.dir, queue, id, &found, &err) < 0) {
        log_warning("%s", err.text);
        return 0;
    }
    if (!found)
        return 0;
    for (unsigned i = 0; log_queues[i]; i++)
        if (queue_dir_remove(&command->base.dir, log_queues[i], id, &had_log, &err) < 0)
            log_warning("%s", err.text);
    tell("%s: removed", id);
    return 1;
}

static bool
is_complete(struct command *command, const char *path, struct stat *st)
{
    return fstatat(command->base.dir.fd, path, st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st->st_mode) &&
           (st->st_mode & 0700) == 0700;
}

static int
move_from(struct command *command, const char *queue, const char *to, const char *id, bool now, const char *what)
{
    const char *path = queue_dir_path(&command->base.dir, command->base.arena, queue, id);
    struct stat st;
    bool found;
    struct err err;

    if (strcmp(queue, to) == 0 || !is_complete(command, path, &st))
        return 0;
    if (now && utimensat(command->base.dir.fd, path, NULL, AT_SYMLINK_NOFOLLOW) < 0)
        log_warning("%s: reset time stamps: %s", path, strerror(errno));
    if (queue_dir_move(&command->base.dir, queue, to, id, NULL, &found, &err) < 0) {
        log_warning("%s", err.text);
        return 0;
    }
    if (found)
        tell("%s: %s", id, what);
    return found;
}

static int
hold_in(struct command *command, const char *queue, const char *id)
{
    return move_from(command, queue, "hold", id, false, "placed on hold");
}

static int
release_in(struct command *command, const char *queue, const char *id)
{
    if (strcmp(queue, "hold") != 0)
        return 0;
    return move_from(command, queue, "deferred", id, false, "released from hold");
}

static int
requeue_in(struct command *command, const char *queue, const char *id)
{
    return move_from(command, queue, "maildrop", id, true, "requeued");
}

static int
expire_in(struct command *command, const char *queue, const char *id)
{
    const char *path = queue_dir_path(&command->base.dir, command->base.arena, queue, id);
    struct stat st;

    if (!is_complete(command, path, &st))
        return 0;
    if (fchmodat(command->base.dir.fd, path, (st.st_mode & 0777) | MODE_EXPIRE, 0) < 0) {
        log_warning("expire file %s: cannot set permission: %s", path, strerror(errno));
        return 0;
    }
    tell("%s: expired", id);
    return 1;
}

static const char *const usual_queues[] = {"hold", "incoming", "active", "deferred", NULL};
static const char *const all_queues[] = {"maildrop", "hold", "incoming", "active", "deferred", NULL};
static const char *const hold_queue[] = {"hold", NULL};

static const struct action {
    char option;
    int (*fn)(struct command *, const char *queue, const char *id);
    const char *const *queues;
    const char *result;
    const char *wakes; /* qmgr, when something was done */
} actions[] = {
    {'d', delete_in, all_queues, "Deleted", NULL},
    {'h', hold_in, usual_queues, "Placed on hold", NULL},
    {'H', release_in, hold_queue, "Released from hold", "D"},
    {'r', requeue_in, usual_queues, "Requeued", NULL},
    {'e', expire_in, usual_queues, "Force-expired", "DA"},
    {'f', expire_in, usual_queues, "Force-expired", "DA"},
};

/* ---- which messages ---- */

static unsigned
act_on_id(struct command *command, const struct action *action, const char *id)
{
    const char *const *queues = command->queues ? command->queues : action->queues;
    unsigned count = 0;

    if (!queue_id_is_valid(slice_from(id))) {
        log_warning("invalid mail queue id: %s", id);
        return 0;
    }
    queue_command_want_files(&command->base, id);
    for (unsigned i = 0; queues[i] && count == 0; i++)
        count += (unsigned)action->fn(command, queues[i], id);
    return count;
}

static unsigned
act_on_all(struct command *command, const struct action *action)
{
    const char *const *queues = command->queues ? command->queues : action->queues;
    unsigned count = 0;
    struct err err;

    queue_command_want_files(&command->base, NULL);
    for (unsigned i = 0; queues[i]; i++) {
        struct queue_walk *walk = queue_walk_new(&command->base.dir, queues[i]);
        const char *id;
        bool in_place;
        int result;

        while ((result = queue_walk_next(walk, &id, &in_place, &err)) != 0) {
            if (result < 0)
                log_warning("%s", err.text);
            else if (in_place)
                count += (unsigned)action->fn(command, queues[i], id);
        }
        queue_walk_free(&walk);
    }
    return count;
}

static unsigned
act_on_input(struct command *command, const struct action *action)
{
    char line[1024];
    unsigned count = 0;

    while (fgets(line, sizeof(line), stdin)) {
        struct slice id = slice_trim(slice_from(line));
        if (id.len > 0)
            count += act_on_id(command, action, arena_strndup(command->base.arena, id.ptr, id.len));
    }
    return count;
}

static unsigned
act(struct command *command, const struct action *action, const char *argument)
{
    if (strcmp(argument, "ALL") == 0)
        return act_on_all(command, action);
    if (strcmp(argument, "-") == 0)
        return act_on_input(command, action);
    return act_on_id(command, action, argument);
}

/* ---- order in the directories ---- */

/* Files in a wrong subdirectory go where the hashing has them. */
static void
fix_structure(struct command *command, const char *queue)
{
    struct queue_walk *walk = queue_walk_new(&command->base.dir, queue);
    struct err err;
    const char *id, *place;
    bool in_place;
    int result;

    while ((result = queue_walk_next(walk, &id, &in_place, &err)) != 0) {
        if (result < 0) {
            log_warning("%s", err.text);
            continue;
        }
        if (in_place)
            continue;
        place = queue_dir_path(&command->base.dir, command->base.arena, queue, id);
        if (faccessat(command->base.dir.fd, place, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            log_warning("%s: there is a file in the right place and one in a wrong one", id);
        else if (queue_dir_make_parents(&command->base.dir, place, &err) < 0 ||
                 renameat(command->base.dir.fd, queue_walk_path(walk, command->base.arena, id), command->base.dir.fd,
                          place) < 0)
            log_warning("rename %s: %s", place, strerror(errno));
    }
    queue_walk_free(&walk);
}

/* Incomplete files that nobody works on any more. */
static void
purge(struct command *command, const char *queue)
{
    struct queue_walk *walk = queue_walk_new(&command->base.dir, queue);
    time_t now = time(NULL);
    struct err err;
    struct stat st;
    const char *id;
    int result;

    queue_walk_show_all(walk);
    while ((result = queue_walk_next(walk, &id, NULL, &err)) != 0) {
        const char *path;
        if (result < 0) {
            log_warning("%s", err.text);
            continue;
        }
        path = queue_walk_path(walk, command->base.arena, id);
        if (fstatat(command->base.dir.fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
            (st.st_mode & 0700) == 0700 || now - st.st_mtime < OLD_SECONDS)
            continue;
        if (unlinkat(command->base.dir.fd, path, 0) < 0)
            log_warning("remove file %s: %s", path, strerror(errno));
        else
            log_info("removed file %s", path);
    }
    queue_walk_free(&walk);
}

static void
keep_order(struct command *command, bool structure, bool old_files)
{
    const char *const *queues = command->queues ? command->queues : all_queues;

    for (unsigned i = 0; queues[i]; i++) {
        if (old_files)
            purge(command, queues[i]);
        if (structure)
            fix_structure(command, queues[i]);
    }
}

/* ---- the command line ---- */

struct request {
    const struct action *action;
    const char *argument;
};

static const struct action *
action_of(int option)
{
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (actions[i].option == option)
            return &actions[i];
    return NULL;
}

static void
report(const struct action *action, unsigned count)
{
    if (count > 0)
        tell("%s: %u message%s", action->result, count, count == 1 ? "" : "s");
}

static void
carry_out(struct command *command, const struct request *requests, size_t count)
{
    unsigned done[ARRAY_LEN(actions)] = {0};

    for (size_t i = 0; i < count; i++)
        done[requests[i].action - actions] += act(command, requests[i].action, requests[i].argument);
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        report(&actions[i], done[i]);
        if (done[i] > 0 && actions[i].wakes)
            queue_command_trigger(&command->base, actions[i].wakes);
    }
}

int
main(int argc, char **argv)
{
    struct command command = {0};
    struct arena *arena = arena_new();
    struct request *requests = arena_array(arena, (size_t)argc, sizeof(*requests));
    size_t count = 0;
    const char *config_directory = NULL;
    bool structure = false, old_files = false;
    int option;

    log_init("postsuper");
    while ((option = getopt(argc, argv, "c:d:e:f:h:H:pr:sSv")) != -1) {
        if (option == 'c') {
            config_directory = optarg;
        } else if (option == 'p') {
            old_files = true;
        } else if (option == 's' || option == 'S') {
            structure = true;
        } else if (option == 'v') {
            log_set_verbose(log_verbose() + 1);
        } else if (option == '?') {
            fatal("%s", usage);
        } else {
            requests[count++] = (struct request){action_of(option), optarg};
        }
    }
    if (count == 0 && !structure && !old_files)
        structure = old_files = true;
    queue_command_begin(&command.base, "postsuper", config_directory, true);
    if (!queue_command_is_owner())
        fatal("use of this command is reserved for the superuser");
    queue_command_become_owner(&command.base);
    if (optind < argc)
        command.queues = (const char *const *)(argv + optind);
    carry_out(&command, requests, count);
    keep_order(&command, structure, old_files);
    log_what_was_told(command.base.conf);
    queue_command_end(&command.base);
    arena_free(&arena);
    return 0;
}
