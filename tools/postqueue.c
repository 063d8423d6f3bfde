/* SPDX-License-Identifier: Apache-2.0 */
/* postqueue: shows the queue to everybody, and has it flushed. Runs with the group that may use public/; see postqueue(1). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/addr.h"
#include "lib/mail/queue_id.h"
#include "lib/mail/queue_list.h"
#include "lib/table/match_list.h"
#include "tools/privileged.h"
#include "tools/queue_command.h"

enum { READ_SIZE = 65536, MESSAGE_LIMIT = 64 << 20 };

static const char usage[] =
    "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site";

struct output {
    bool json, long_ids;
    struct queue_list_totals totals;
    struct buf text;
};

static void
put(const struct buf *text)
{
    if (text->len > 0)
        fwrite(text->ptr, 1, text->len, stdout);
}

static void
show(struct output *output, const struct queue_list_message *message)
{
    if (output->json)
        queue_list_print_json(message, &output->text);
    else
        queue_list_print(message, output->long_ids, &output->totals, &output->text);
    put(&output->text);
    buf_clear(&output->text);
}

static void
show_end(struct output *output)
{
    if (!output->json)
        queue_list_print_end(&output->totals, &output->text);
    put(&output->text);
    buf_release(&output->text);
}

/* ---- by showq ---- */

/* Takes what is complete. True: that was the end. */
static bool
take_messages(struct buf *in, struct arena *arena, struct output *output)
{
    struct queue_list_message message;
    struct err err;
    size_t used;
    int result;

    while ((result = queue_list_decode(arena, buf_slice(in), &used, &message, &err)) == 1) {
        show(output, &message);
        buf_consume(in, used);
        arena_reset(arena);
    }
    if (result < 0)
        fatal("%s", err.text);
    return result == 2;
}

static void
list_by_showq(int fd, struct output *output)
{
    struct arena *arena = arena_new();
    struct buf in = {0};
    ssize_t n = 0;
    bool ended = false;

    while (!ended && in.len < MESSAGE_LIMIT && (n = read(fd, buf_reserve(&in, READ_SIZE), READ_SIZE)) > 0) {
        buf_added(&in, (size_t)n);
        ended = take_messages(&in, arena, output);
    }
    if (!ended)
        fatal("malformed showq server response");
    show_end(output);
    buf_release(&in);
    arena_free(&arena);
}

/* ---- when the mail system is down ---- */

static void
list_files(struct queue_command *command, struct output *output)
{
    struct arena *arena = arena_new();
    struct queue_list_message message;
    struct err err;

    if (queue_dir_open(&command->dir, ".", command->conf, command->arena, &err) < 0)
        fatal("%s", err.text);
    for (unsigned i = 0; queue_dir_all[i]; i++) {
        struct queue_walk *walk = queue_walk_new(&command->dir, queue_dir_all[i]);
        const char *id;
        bool found;
        int result;

        while ((result = queue_walk_next(walk, &id, NULL, &err)) != 0) {
            if (result < 0 || queue_list_read(&command->dir, arena, queue_dir_all[i], id, &message, &found, &err) < 0)
                log_warning("%s", err.text);
            else if (found)
                show(output, &message);
            arena_reset(arena);
        }
        queue_walk_free(&walk);
    }
    show_end(output);
    arena_free(&arena);
}

static void
list_queue(struct queue_command *command, bool json)
{
    struct output output = {.json = json, .long_ids = command->settings.enable_long_queue_ids};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "public/%s", command->settings.showq_service_name);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        list_by_showq(fd, &output);
    } else if (queue_command_is_owner()) {
        log_warning("Mail system is down -- accessing queue directly (Connect to the %s %s service: %s)", "Postfix",
                    command->settings.showq_service_name, strerror(errno));
        list_files(command, &output);
    } else {
        fatal_set_status(errno == EACCES ? EX_NOPERM : EX_UNAVAILABLE);
        if (errno == EACCES)
            fatal("Connect to the Postfix %s service: %s", command->settings.showq_service_name, strerror(errno));
        fatal("Queue report unavailable - mail system is down (Connect to the Postfix %s service: %s)",
              command->settings.showq_service_name, strerror(errno));
    }
    if (fd >= 0)
        close(fd);
}

/* ---- flushing ---- */

static void
flush(const struct queue_command *command, const char *bytes)
{
    if (queue_command_trigger(command, bytes))
        return;
    fatal_set_status(EX_UNAVAILABLE);
    fatal("Cannot flush mail queue - mail system is down");
}

/* flush(8) does it: "S" and a site, or "I" and a queue id. */
static void
ask_flush(const struct queue_command *command, char what, const char *argument)
{
    if (queue_command_send(command->settings.flush_service_name,
                           arena_printf(command->arena, "%c%s\n", what, argument)))
        return;
    log_warning("connect to public/%s: %s", command->settings.flush_service_name, strerror(errno));
    fatal("Cannot flush mail queue - mail system is down");
}

static void
flush_site(struct queue_command *command, const char *site)
{
    struct slice domain = slice_from(site);
    struct match_list *eligible;
    bool found = false;
    struct err err;

    if (domain.len > 255 || !addr_is_site(domain))
        fatal("Cannot flush mail queue - invalid destination: \"%.100s%s\"", site, domain.len > 100 ? "..." : "");
    eligible = match_list_new(
        command->arena, command->conf, "fast_flush_domains", command->settings.fast_flush_domains,
        match_list_flags(command->settings.parent_domain_matches_subdomains, "fast_flush_domains"), &err);
    if (!eligible || match_list_domain(eligible, domain, &found, &err) < 0) {
        fatal_set_status(EX_TEMPFAIL);
        fatal("fast_flush_domains: %s", err.text);
    }
    if (!found)
        fatal("Flush service is not configured for destination \"%s\"", site);
    ask_flush(command, 'S', site);
}

static void
flush_one(const struct queue_command *command, const char *id)
{
    if (!queue_id_is_valid(slice_from(id)))
        fatal("Cannot flush queue ID - invalid name: \"%.100s%s\"", id, strlen(id) > 100 ? "..." : "");
    ask_flush(command, 'I', id);
}

/* Root and the queue's owner may always. */
static void
check_right(struct queue_command *command, const char *parameter, const char *list, const char *what)
{
    const char *user;

    if (getuid() == 0 || queue_command_is_owner() ||
        privileged_user_may(command->arena, command->conf, parameter, list, &user))
        return;
    fatal_set_status(EX_NOPERM);
    fatal("User %s(%ld) is not allowed to %s", user, (long)getuid(), what);
}

int
main(int argc, char **argv)
{
    struct arena *arena = arena_new();
    struct queue_command command;
    const char *config_directory = NULL, *argument = NULL;
    int action = 0, option;

    privileged_begin();
    log_init("postqueue");
    fatal_set_status(EX_USAGE);
    while ((option = getopt(argc, argv, "c:fi:jps:v")) != -1) {
        if (option == 'c') {
            config_directory = optarg;
        } else if (option == 'v') {
            log_set_verbose(log_verbose() + 1);
        } else if (option == '?' || action) {
            fatal("%s", usage);
        } else {
            action = option;
            argument = optarg;
        }
    }
    if (!action || optind < argc)
        fatal("%s", usage);
    fatal_set_status(EX_CONFIG);
    queue_command_begin(&command, "postqueue", privileged_directory(arena, config_directory), false);
    if (action == 'p' || action == 'j')
        check_right(&command, "authorized_mailq_users", command.settings.authorized_mailq_users, "view the mail queue");
    else
        check_right(&command, "authorized_flush_users", command.settings.authorized_flush_users,
                    "flush the mail queue");
    fatal_set_status(EX_UNAVAILABLE);
    switch (action) {
    case 'p':
    case 'j': list_queue(&command, action == 'j'); break;
    case 'f': flush(&command, "FDIA"); break;
    case 'i': flush_one(&command, argument); break;
    default: flush_site(&command, argument); break;
    }
    queue_command_end(&command);
    arena_free(&arena);
    return fflush(stdout) == 0 ? 0 : EX_IOERR;
}
