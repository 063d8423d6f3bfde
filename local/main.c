/* SPDX-License-Identifier: Apache-2.0 */
/* local(8): delivers to aliases, .forward files, commands, files and mailboxes of this host's users. */
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/conf/environment.h"
#include "lib/conf/list.h"
#include "lib/service/service.h"
#include "lib/store/mbox.h"
#include "local/local.h"

enum { COURIERS = 64 };
#define COURIER_IDLE SECONDS(5)

struct local local;

struct word {
    const char *name;
    unsigned bit;
};

static int
read_mask(const char *parameter, const char *text, const struct word *words, unsigned count, unsigned *mask,
          struct err *err)
{
    struct slice rest = slice_from(text), word;

    *mask = 0;
    while (slice_word(&rest, ", \t\r\n", &word)) {
        unsigned i = 0;

        while (i < count && !slice_equal_text_fold(word, words[i].name))
            i++;
        if (i == count)
            return err_set(err, ERR_SYNTAX, "%s: unknown word: %.*s", parameter, SLICE_ARG(word));
        *mask |= words[i].bit;
    }
    return 0;
}

static int
read_masks(struct err *err)
{
    static const struct word expansions[] = {
        {"alias", EXPAND_ALIAS}, {"forward", EXPAND_FORWARD}, {"include", EXPAND_INCLUDE}};
    static const struct word contexts[] = {
        {"command", CONTEXT_COMMAND}, {"file", CONTEXT_FILE}, {"forward", CONTEXT_FORWARD}};
    static const struct word tables[] = {{"alias", EXPAND_ALIAS},
                                         {"forward", EXPAND_FORWARD},
                                         {"include", EXPAND_INCLUDE},
                                         {"canonical", 0},
                                         {"virtual", 0},
                                         {"generic", 0}};
    const struct local_settings *s = &local.s;

    if (read_mask("allow_mail_to_commands", s->allow_mail_to_commands, expansions, ARRAY_LEN(expansions),
                  &local.command_mask, err) < 0 ||
        read_mask("allow_mail_to_files", s->allow_mail_to_files, expansions, ARRAY_LEN(expansions), &local.file_mask,
                  err) < 0 ||
        read_mask("prepend_delivered_header", s->prepend_delivered_header, contexts, ARRAY_LEN(contexts),
                  &local.delivered_mask, err) < 0 ||
        read_mask("propagate_unmatched_extensions", s->propagate_unmatched_extensions, tables, ARRAY_LEN(tables),
                  &local.propagate, err) < 0)
        return -1;
    if (mbox_lock_kinds(s->sun_mailtool_compatibility ? "dotlock" : s->mailbox_delivery_lock, &local.locks, err) < 0)
        return err_context(err, "mailbox_delivery_lock");
    return 0;
}

/* default_privs must be there, and not be root. */
static int
find_default_rights(struct arena *arena, struct err *err)
{
    const struct passwd *pw = getpwnam(local.s.default_privs);

    if (!pw)
        return err_set(err, ERR_PERM, "default_privs: unknown user: %s", local.s.default_privs);
    if (pw->pw_uid == 0)
        return err_set(err, ERR_PERM, "default_privs: %s is the superuser", local.s.default_privs);
    local.default_rights = (struct rights){.user = arena_strdup(arena, pw->pw_name),
                                           .home = arena_strdup(arena, pw->pw_dir),
                                           .shell = arena_strdup(arena, pw->pw_shell),
                                           .uid = pw->pw_uid,
                                           .gid = pw->pw_gid};
    return 0;
}

static int
open_maps(const struct conf *conf, struct arena *arena, struct err *err)
{
    const unsigned flags = TABLE_FOLD_FIXED | TABLE_NO_REGSUB;
    const struct local_settings *s = &local.s;

    local.transport_maps = maps_new(arena, conf, "mailbox_transport_maps", s->mailbox_transport_maps, flags, err);
    if (!local.transport_maps)
        return -1;
    local.command_maps =
        maps_new(arena, conf, "mailbox_command_maps", s->mailbox_command_maps, flags | TABLE_NO_UNAUTH, err);
    if (!local.command_maps)
        return -1;
    local.fallback_maps = maps_new(arena, conf, "fallback_transport_maps", s->fallback_transport_maps, flags, err);
    local.filter =
        delivery_filter_new(arena, conf, "local_delivery_status_filter", s->local_delivery_status_filter, err);
    return local.fallback_maps && local.filter ? alias_prepare(conf, arena, err) : -1;
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    struct arena *arena = service_arena();

    if (local_settings_load(&local.s, conf, arena, err) < 0 || read_masks(err) < 0 ||
        find_default_rights(arena, err) < 0)
        return -1;
    local.environment = environment_export(conf, arena, err);
    if (!local.environment)
        return -1;
    /* All sources of users load their code now: later that is forbidden. */
    (void)getpwnam("no-such-user.invalid");
    /* The helper is forked before tables are open: it needs none. */
    if (courier_prepare(COURIERS, COURIER_IDLE, err) < 0 || open_maps(conf, arena, err) < 0)
        return -1;
    if (geteuid() == 0)
        sandbox->user = local.s.mail_owner;
    return 0;
}

static void
deliver(struct delivery *d)
{
    struct map *loop = map_new();
    struct err err;

    if (loop_scan(d->source, loop, &err) < 0) {
        delivery_result_rest(d,
                             &(struct delivery_status){
                                 .result = DELIVERED_DEFERRED, .dsn = "4.3.0", .reason = err.text, .relay = "local"});
    } else {
        for (unsigned i = 0; i < d->request->recipient_count; i++)
            job_run(d, i, loop);
    }
    map_free(&loop, NULL);
}

static int
start(struct err *err)
{
    const struct agent agent = {.deliver = deliver, .filter = local.filter};

    (void)err;
    local.router = router_new(arena_printf(service_arena(), "private/%s", local.s.rewrite_service_name));
    forward_prepare();
    agent_init(&agent);
    return 0;
}

int
main(int argc, char **argv)
{
    static const struct service service = {
        .program = "local",
        .prepare = prepare,
        .start = start,
        .serve = agent_serve,
        .overlaps = true,
        .delivers = true,
        .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_UNIX | SANDBOX_FDPASS |
                             SANDBOX_HELPERS | SANDBOX_READ | SANDBOX_THREADS | SANDBOX_NAMES,
                    .no_landlock = true,
                    .may_write_files = true},
    };

    return service_main(argc, argv, &service);
}
