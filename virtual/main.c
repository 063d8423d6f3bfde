/* SPDX-License-Identifier: Apache-2.0 */
/* virtual(8): mailboxes of users who have no account here. Tables say where each recipient's mailbox is and whose files these
 * are; a courier of that user writes them. */
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/conf/settings_virtual.h"
#include "lib/mail/addr.h"
#include "lib/mail/agent.h"
#include "lib/run/loop.h"
#include "lib/service/service.h"
#include "lib/store/courier.h"
#include "lib/store/mbox.h"
#include "lib/table/maps.h"

enum { COURIERS = 64, PARALLEL = 32 };
#define COURIER_IDLE SECONDS(5)
#define CALL_TIME    SECONDS(3600)

static struct virtual_settings settings;
static struct maps *mailbox_maps, *uid_maps, *gid_maps;
static const struct maps *status_filter;
static unsigned locks;

/* ---- where a recipient's mail goes ---- */

struct mailbox {
    const char *path;
    struct courier_ids ids;
};

/* *value NULL: the address is in no table. */
static int may_wait
look_up(const struct maps *maps, struct arena *arena, const char *address, const char **value, struct err *err)
{
    const char *extension;

    return maps_find_address(maps, arena, slice_from(address), settings.recipient_delimiter, MAPS_FULL | MAPS_DOMAIN,
                             NULL, value, &extension, err);
}

/* A number from a table: what is missing or none is the administrator's mistake, and not the sender's. */
static int may_wait
find_number(const struct maps *maps, struct arena *arena, const char *address, const char *what, unsigned long long *n,
            struct err *err)
{
    const char *value;

    if (look_up(maps, arena, address, &value, err) < 0)
        return -1;
    if (!value)
        return err_set(err, ERR_TEMP, "recipient %s: %s not found in %s", address, what,
                       maps == uid_maps ? "virtual_uid_maps" : "virtual_gid_maps");
    if (slice_to_u64(slice_trim(slice_from(value)), UINT32_MAX - 1, n) < 0)
        return err_set(err, ERR_TEMP, "recipient %s: bad %s %s", address, what, value);
    return 0;
}

static int may_wait
find_ids(struct arena *arena, const char *address, struct courier_ids *ids, struct err *err)
{
    unsigned long long uid, gid;

    if (find_number(uid_maps, arena, address, "uid", &uid, err) < 0 ||
        find_number(gid_maps, arena, address, "gid", &gid, err) < 0)
        return -1;
    if (uid < (unsigned long long)settings.virtual_minimum_uid)
        return err_set(err, ERR_TEMP, "recipient %s: uid %llu is below virtual_minimum_uid", address, uid);
    if (uid == 0 || gid == 0)
        return err_set(err, ERR_TEMP, "recipient %s: mailboxes of root are not written", address);
    *ids = (struct courier_ids){(uid_t)uid, (gid_t)gid};
    return 0;
}

/* "..": a table's result may have come from an address ($1 of a pattern). */
static bool
climbs(const char *path)
{
    for (const char *at = strstr(path, ".."); at; at = strstr(at + 1, ".."))
        if ((at == path || at[-1] == '/') && (at[2] == '/' || at[2] == '\0'))
            return true;
    return false;
}

static int may_wait
find_mailbox(struct arena *arena, const char *address, struct mailbox *mailbox, bool *found, struct err *err)
{
    const char *value;

    if (look_up(mailbox_maps, arena, address, &value, err) < 0)
        return -1;
    *found = value != NULL;
    if (!value)
        return 0;
    if (!*value || climbs(value))
        return err_set(err, ERR_TEMP, "recipient %s: bad mailbox name \"%s\" in virtual_mailbox_maps", address, value);
    mailbox->path =
        *settings.virtual_mailbox_base ? arena_printf(arena, "%s/%s", settings.virtual_mailbox_base, value) : value;
    if (*mailbox->path != '/')
        return err_set(err, ERR_TEMP, "recipient %s: mailbox %s is no absolute path", address, mailbox->path);
    return find_ids(arena, address, &mailbox->ids, err);
}

/* ---- one recipient ---- */

static void
finish(struct delivery *d, unsigned i, const char *dsn, const char *reason)
{
    struct delivery_status status = {.result = *dsn == '2'   ? DELIVERED_SENT
                                               : *dsn == '5' ? DELIVERED_BOUNCED
                                                             : DELIVERED_DEFERRED,
                                     .dsn = dsn,
                                     .reason = reason,
                                     .relay = "virtual",
                                     .action = *dsn == '2' ? "delivered" : NULL};

    if (settings.soft_bounce && status.result == DELIVERED_BOUNCED) {
        status.result = DELIVERED_DEFERRED;
        status.dsn = arena_printf(d->arena, "4%s", dsn + 1);
    }
    delivery_result(d, i, &status);
}

static void
put_header(struct buf *out, const char *name, const char *before, const char *address, const char *after)
{
    size_t at;

    buf_printf(out, "%s: %s", name, before);
    at = out->len;
    buf_append_text(out, address);
    text_printable(out->ptr + at, out->len - at, '?', true);
    buf_printf(out, "%s\n", after);
}

static const char *
headers(const struct delivery *d, const struct deliver_recipient *rcpt)
{
    struct buf out = {0};
    const char *text;

    put_header(&out, "Return-Path", "<", addr_quote(d->arena, d->request->sender), ">");
    if (settings.enable_original_recipient)
        put_header(&out, "X-Original-To", "", addr_quote(d->arena, *rcpt->original ? rcpt->original : rcpt->address),
                   "");
    put_header(&out, "Delivered-To", "", addr_quote(d->arena, rcpt->address), "");
    text = arena_strdup(d->arena, buf_text(&out));
    buf_release(&out);
    return text;
}

static bool
is_maildir(const char *path)
{
    return path[strlen(path) - 1] == '/';
}

static void may_wait
store(struct delivery *d, unsigned i, const struct mailbox *mailbox)
{
    const struct msg_user_job job = {.work = USER_STORE,
                                     .path = mailbox->path,
                                     .sender = addr_quote(d->arena, d->request->sender),
                                     .head = headers(d, &d->request->recipients[i]),
                                     .size = d->request->size,
                                     .limit = settings.virtual_mailbox_limit,
                                     .flags = settings.strict_mailbox_ownership ? USER_JOB_STRICT_OWNER : 0,
                                     .locks = locks,
                                     .lock_attempts = settings.deliver_lock_attempts,
                                     .lock_delay = settings.deliver_lock_delay,
                                     .lock_stale = settings.stale_lock_time,
                                     .directory = "",
                                     .shell = ""};
    const struct msg_user_done *done;
    struct err err;

    if (courier_call(d->arena, mailbox->ids, &job, d->source, loop_now() + CALL_TIME, &done, &err) < 0) {
        log_warning("%s: %s", d->request->queue_id, err.text);
        finish(d, i, "4.3.0", arena_strdup(d->arena, err.text));
    } else if (done->result == USER_DONE) {
        finish(d, i, "2.0.0", is_maildir(mailbox->path) ? "delivered to maildir" : "delivered to mailbox");
    } else if (is_maildir(mailbox->path)) {
        finish(d, i, done->status, arena_printf(d->arena, "maildir delivery failed: %s", done->reason));
    } else {
        finish(d, i, done->status, arena_printf(d->arena, "mailbox %s: %s", mailbox->path, done->reason));
    }
}

static void may_wait
deliver_one(struct delivery *d, unsigned i)
{
    char *address = arena_strdup(d->arena, d->request->recipients[i].address);
    struct mailbox mailbox = {.path = ""};
    struct err err;
    bool found;

    text_lower_all(address, strlen(address));
    if (find_mailbox(d->arena, address, &mailbox, &found, &err) < 0) {
        log_warning("%s: %s", d->request->queue_id, err.text);
        finish(d, i, "4.3.5", "mail system configuration error");
    } else if (!found) {
        finish(d, i, "5.1.1", arena_printf(d->arena, "unknown user: \"%s\"", address));
    } else {
        store(d, i, &mailbox);
    }
}

/* ---- many recipients at once ---- */

struct work {
    struct delivery *d;
    unsigned next; /* recipient */
};

static void
deliver_some(void *arg)
{
    struct work *work = arg;

    while (work->next < work->d->request->recipient_count && !task_is_cancelled())
        deliver_one(work->d, work->next++);
}

static void
deliver(struct delivery *d)
{
    struct work work = {.d = d};
    struct task_group group;

    task_group_init(&group);
    for (unsigned i = 1; i < d->request->recipient_count && i < PARALLEL; i++)
        task_spawn(&group, "recipients", deliver_some, &work);
    deliver_some(&work);
    if (task_is_cancelled())
        task_group_cancel(&group);
    task_group_join(&group);
}

/* ---- start ---- */

static int
open_maps(const struct conf *conf, struct arena *arena, struct err *err)
{
    const unsigned flags = TABLE_FOLD_FIXED | TABLE_NO_REGSUB | TABLE_NO_UNAUTH;

    mailbox_maps = maps_new(arena, conf, "virtual_mailbox_maps", settings.virtual_mailbox_maps,
                            flags & ~(unsigned)TABLE_NO_UNAUTH, err);
    if (!mailbox_maps)
        return -1;
    uid_maps = maps_new(arena, conf, "virtual_uid_maps", settings.virtual_uid_maps, flags, err);
    if (!uid_maps)
        return -1;
    gid_maps = maps_new(arena, conf, "virtual_gid_maps", settings.virtual_gid_maps, flags, err);
    return gid_maps ? 0 : -1;
}

static int
prepare(const struct conf *conf, struct sandbox *sandbox, struct err *err)
{
    struct arena *arena = service_arena();

    if (virtual_settings_load(&settings, conf, arena, err) < 0)
        return -1;
    if (mbox_lock_kinds(settings.virtual_mailbox_lock, &locks, err) < 0)
        return err_context(err, "virtual_mailbox_lock");
    if (courier_prepare(COURIERS, COURIER_IDLE, err) < 0 || open_maps(conf, arena, err) < 0)
        return -1;
    status_filter = delivery_filter_new(arena, conf, "virtual_delivery_status_filter",
                                        settings.virtual_delivery_status_filter, err);
    if (geteuid() == 0)
        sandbox->user = settings.mail_owner;
    return status_filter ? 0 : -1;
}

static int
start(struct err *err)
{
    const struct agent agent = {.deliver = deliver, .filter = status_filter};

    (void)err;
    agent_init(&agent);
    return 0;
}

int
main(int argc, char **argv)
{
    static const struct service service = {
        .program = "virtual",
        .prepare = prepare,
        .start = start,
        .serve = agent_serve,
        .overlaps = true,
        .delivers = true,
        .sandbox = {.calls = SANDBOX_BASE | SANDBOX_ACCEPT | SANDBOX_LINKS | SANDBOX_UNIX | SANDBOX_FDPASS |
                             SANDBOX_HELPERS | SANDBOX_CONTENT,
                    .no_landlock = true,
                    .may_write_files = true},
    };

    return service_main(argc, argv, &service);
}
