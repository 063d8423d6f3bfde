/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/server.h"

#include <string.h>

#include "auth/failures.h"
#include "lib/base/log.h"
#include "lib/run/crypto.h"

static int
add_table(struct server *server, struct source *source, const char *name, struct err *err)
{
    source->kind = SOURCE_TABLE;
    source->maps = maps_new(server->arena, server->conf, "auth_sources", name, TABLE_FOLD_FIXED | TABLE_NO_REGSUB, err);
    return source->maps ? 0 : -1;
}

static int
read_source(struct server *server, struct slice word, struct source *source, struct err *err)
{
    struct slice rest = word, kind;

    slice_cut(&rest, ':', &kind);
    source->name = arena_strndup(server->arena, word.ptr, word.len);
    source->argument = arena_strndup(server->arena, rest.ptr ? rest.ptr : "", rest.len);
    if (slice_equal_text(kind, "users"))
        source->kind = SOURCE_USERS;
    else if (slice_equal_text(kind, "pam"))
        source->kind = SOURCE_PAM;
    else if (slice_equal_text(kind, "saslauthd"))
        source->kind = SOURCE_SASLAUTHD;
    else if (slice_equal_text(kind, "table") && rest.len > 0)
        return add_table(server, source, source->argument, err);
    else
        return err_set(err, ERR_SYNTAX,
                       "parameter auth_sources: \"%s\": users, pam[:service], saslauthd[:socket] and table:type:name "
                       "are known",
                       source->name);
    return 0;
}

static int
load_sources(struct server *server, struct err *err)
{
    struct slice rest = slice_from(server->set.auth_sources), word;
    unsigned count = 0;

    while (slice_word_braced(&rest, ", \t\r\n", &word))
        count++;
    server->sources = arena_array(server->arena, count, sizeof *server->sources);
    rest = slice_from(server->set.auth_sources);
    while (slice_word_braced(&rest, ", \t\r\n", &word))
        if (read_source(server, word, &server->sources[server->source_count++], err) < 0)
            return -1;
    if (!server_has_source(server, SOURCE_USERS))
        return 0;
    server->users = user_table_open(server->set.auth_users_file, false, err);
    return server->users ? 0 : -1;
}

bool
server_has_source(const struct server *server, enum source_kind kind)
{
    for (unsigned i = 0; i < server->source_count; i++)
        if (server->sources[i].kind == kind)
            return true;
    return false;
}

static int
load_mailboxes(struct server *server, struct err *err)
{
    const struct auth_settings *set = &server->set;
    struct arena *arena = server->arena;

    server->local_domains = match_list_new(arena, server->conf, "mydestination", set->mydestination, 0, err);
    if (!server->local_domains)
        return -1;
    server->virtual_domains =
        match_list_new(arena, server->conf, "virtual_mailbox_domains", set->virtual_mailbox_domains, 0, err);
    if (!server->virtual_domains)
        return -1;
    server->mailboxes = maps_new(arena, server->conf, "virtual_mailbox_maps", set->virtual_mailbox_maps,
                                 TABLE_FOLD_FIXED | TABLE_NO_UNAUTH, err);
    if (!server->mailboxes)
        return -1;
    server->uids = maps_new(arena, server->conf, "virtual_uid_maps", set->virtual_uid_maps,
                            TABLE_FOLD_FIXED | TABLE_NO_UNAUTH, err);
    if (!server->uids)
        return -1;
    server->gids = maps_new(arena, server->conf, "virtual_gid_maps", set->virtual_gid_maps,
                            TABLE_FOLD_FIXED | TABLE_NO_UNAUTH, err);
    if (!server->gids)
        return -1;
    server->tokens = maps_new(arena, server->conf, "auth_token_maps", set->auth_token_maps, TABLE_NO_REGSUB, err);
    return server->tokens ? 0 : -1;
}

struct server *
server_new(struct arena *arena, const struct conf *conf, struct err *err)
{
    struct server *server = ARENA_NEW(arena, struct server);

    server->arena = arena;
    server->conf = conf;
    if (auth_settings_load(&server->set, conf, arena, err) < 0 || load_sources(server, err) < 0 ||
        load_mailboxes(server, err) < 0 || auth_key_load(server->set.data_directory, true, server->ticket_key, err) < 0)
        return NULL;
    crypto_hmac_sha256(slice_make(server->ticket_key, AUTH_KEY_SIZE), slice_from("users that do not exist"),
                       server->pretend_key);
    server->failures = failures_new(&server->set);
    return server;
}

void
server_free(struct server **at)
{
    struct server *server = *at;

    if (!server)
        return;
    user_table_close(&server->users);
    failures_free(&server->failures);
    crypto_wipe(server->ticket_key, sizeof server->ticket_key);
    *at = NULL;
}
