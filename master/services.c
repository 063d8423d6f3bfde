/* SPDX-License-Identifier: Apache-2.0 */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/log_events.h"
#include "lib/service/master_protocol.h"
#include "master/master.h"

/* --- one service --- */

/* qmgr and pickup speak over stream sockets here; those who poke them look what kind of file it is. */
static enum service_type
real_type(const struct master_service *conf)
{
    if (conf->type == SERVICE_FIFO && (strcmp(conf->command, "qmgr") == 0 || strcmp(conf->command, "pickup") == 0))
        return SERVICE_UNIX;
    return conf->type;
}

static struct service *
find_service(const struct master_service *conf)
{
    LIST_EACH(at, &master.services)
    {
        struct service *s = LIST_ENTRY(at, struct service, link);

        if (strcmp(s->name, conf->name) == 0 && s->type == real_type(conf) && s->is_private == conf->is_private)
            return s;
    }
    return NULL;
}

static struct service *
service_new(const struct master_service *conf)
{
    struct service *s = calloc(1, sizeof(*s));

    if (!s)
        fatal("out of memory");
    s->name = text_copy(conf->name);
    s->type = real_type(conf);
    s->is_private = conf->is_private;
    if (s->type != SERVICE_INET)
        s->path = text_copy(arena_printf(master.arena, "%s/%s", conf->is_private ? "private" : "public", conf->name));
    list_init(&s->children);
    task_group_init(&s->watchers);
    list_append(&master.services, &s->link);
    return s;
}

void
service_free_if_gone(struct service *s)
{
    if (s->conf || s->child_count > 0 || master.loading || master.stopping)
        return;
    loop_timer_clear(&s->throttle_timer);
    loop_timer_clear(&s->wakeup_timer);
    list_remove(&s->link);
    free(s->name);
    free(s->path);
    free(s);
}

static void
retire_children(struct service *s)
{
    LIST_EACH(at, &s->children)
    {
        child_tell(LIST_ENTRY(at, struct child, link), MASTER_RETIRE);
    }
}

/* --- the whole configuration --- */

struct new_configuration {
    struct conf *conf;
    struct arena *arena;
    struct master_settings settings;
    struct master_cf cf;
    const char *version;
    char **environment;
};

/* Services that we need and that a master.cf made for Postfix, or an old one, does not have. */
static int
add_implicit(struct new_configuration *new, const char *name, const char *line, struct err *err)
{
    struct master_cf built_in;
    struct master_service *all;

    for (size_t i = 0; i < new->cf.count; i++)
        if (strcmp(new->cf.services[i].name, name) == 0 && new->cf.services[i].type != SERVICE_INET)
            return 0;
    if (master_cf_parse(new->conf, new->arena, "built-in services", slice_from(line), &built_in, err) < 0)
        return -1;
    all = arena_array(new->arena, new->cf.count + built_in.count, sizeof(*all));
    memcpy(all, new->cf.services, new->cf.count * sizeof(*all));
    memcpy(all + new->cf.count, built_in.services, built_in.count * sizeof(*all));
    new->cf.services = all;
    new->cf.count += built_in.count;
    return 0;
}

static int
add_all_implicit(struct new_configuration *new, struct err *err)
{
    const char *resolver = conf_string(new->conf, new->arena, "resolver_service_name", err);
    const char *postlog = new->settings.postlog_service_name;

    if (!resolver ||
        add_implicit(new, resolver, arena_printf(new->arena, "%s unix - - n - 1 resolver\n", resolver), err) < 0)
        return -1;
    if (*new->settings.maillog_file)
        return add_implicit(new, postlog, arena_printf(new->arena, "%s unix-dgram n - n - 1 postlogd\n", postlog), err);
    return 0;
}

static void
tell_old_defaults(const struct master_cf *cf)
{
    for (size_t i = 0; i < cf->count; i++)
        if (cf->services[i].chroot && strcmp(cf->services[i].fields[4], "-") == 0)
            log_old_chroot(cf->path, cf->services[i].line);
}

static int
read_configuration(struct new_configuration *new, struct err *err)
{
    new->conf = conf_load(NULL, err);
    if (!new->conf)
        return -1;
    new->arena = arena_new();
    if (master_settings_load(&new->settings, new->conf, new->arena, err) < 0 ||
        master_cf_load(new->conf, new->arena, &new->cf, err) < 0 || add_all_implicit(new, err) < 0)
        return -1;
    tell_old_defaults(&new->cf);
    new->version = conf_string(new->conf, new->arena, "mail_version", err);
    if (!new->version)
        return -1;
    new->environment = environment_of_services(new->arena, new->conf, err);
    return new->environment ? 0 : -1;
}

static void
release_configuration(struct conf *conf, struct arena *arena)
{
    if (conf)
        conf_free(&conf);
    if (arena)
        arena_free(&arena);
}

static int
find_owner(const char *name, struct err *err)
{
    const struct passwd *owner;

    master.is_root = geteuid() == 0;
    if (!master.is_root)
        return 0;
    owner = getpwnam(name);
    if (!owner)
        return err_set(err, ERR_PERM, "mail_owner: unknown user: %s", name);
    if (owner->pw_uid == 0)
        return err_set(err, ERR_PERM, "mail_owner: %s has root's uid", name);
    master.owner_uid = owner->pw_uid;
    master.owner_gid = owner->pw_gid;
    return 0;
}

/* --- from the old one to the new one --- */

static void
match_services(void)
{
    LIST_EACH(at, &master.services)
    {
        LIST_ENTRY(at, struct service, link)->conf = NULL;
    }
    for (size_t i = 0; i < master.master_cf.count; i++) {
        const struct master_service *conf = &master.master_cf.services[i];
        struct service *s = find_service(conf);

        if (master_service_is_listed(conf, master.settings.master_service_disable))
            continue;
        if (s && s->conf) {
            log_warning("%s, line %u: service %s is there twice: ignored", master.master_cf.path, conf->line,
                        conf->name);
            continue;
        }
        if (!s)
            s = service_new(conf);
        s->conf = conf;
        s->phase = stop_phase_of(conf);
        s->failures = 0;
        s->not_before = 0;
    }
}

/* On the first start what does not work is an error; later the others must go on. */
static int may_wait
start_service(struct service *s, bool is_first, struct err *err)
{
    demand_stop_watching(s);
    if (listen_update(s, err) < 0) {
        if (is_first)
            return -1;
        log_error("%s", err->text);
    }
    demand_start_watching(s);
    service_set_wakeup(s);
    service_update(s);
    return 0;
}

static int may_wait
apply_all(bool is_first, struct err *err)
{
    LIST_EACH(at, &master.services)
    {
        struct service *s = LIST_ENTRY(at, struct service, link);

        if (!is_first)
            retire_children(s);
        if (s->conf) {
            if (start_service(s, is_first, err) < 0)
                return -1;
        } else {
            demand_stop_watching(s);
            listen_close(s, true);
        }
    }
    return 0;
}

/* No service goes while the list is walked with waits in between. */
static int may_wait
apply(bool is_first, struct err *err)
{
    int result;

    master.loading = true;
    match_services();
    result = apply_all(is_first, err);
    master.loading = false;
    LIST_EACH(at, &master.services)
    {
        service_free_if_gone(LIST_ENTRY(at, struct service, link));
    }
    return result;
}

int may_wait
services_load(struct err *err)
{
    struct new_configuration new = {0};
    struct conf *old_conf = master.conf;
    struct arena *old_arena = master.arena;

    if (read_configuration(&new, err) < 0 || find_owner(new.settings.mail_owner, err) < 0) {
        release_configuration(new.conf, new.arena);
        return -1;
    }
    master.conf = new.conf;
    master.arena = new.arena;
    master.settings = new.settings;
    master.master_cf = new.cf;
    master.version = new.version;
    master.environment = new.environment;
    if (apply(!old_conf, err) < 0)
        return -1;
    release_configuration(old_conf, old_arena);
    return 0;
}
