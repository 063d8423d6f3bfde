/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/server_names.h"

#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/text.h"
#include "lib/run/crypto.h"
#include "lib/table/maps.h"

enum { CONTEXTS_MOST = 1000 };

struct server_names {
    const char *parameter;
    struct maps *tables;
    struct tls_settings settings; /* of each context but for the certificate */
    struct map *contexts;         /* digest of a table's value -> struct tls_context */
};

/* What the tables have for the name, or for a domain above it; *value NULL: nothing. */
static int may_wait
find_value(const struct server_names *names, struct arena *arena, const char *name, const char **value, struct err *err)
{
    *value = NULL;
    for (const char *key = name; key && !*value; key = strchr(key + 1, '.'))
        if (maps_find(names->tables, arena, slice_from(key), value, err) < 0)
            return -1;
    return 0;
}

static struct tls_context *
make_context(const struct server_names *names, const char *name, const char *value, struct err *err)
{
    struct tls_settings settings = names->settings;
    struct tls_context *context = NULL;
    struct buf text = {0};

    buf_reserve(&text, strlen(value) + 1); /* a buffer that moves would leave a key behind */
    /* postmap -F makes base64 of the files' content. */
    if (crypto_base64_decode(slice_from(value), &text) < 0 || !memmem(text.ptr, text.len, "-----BEGIN", 10)) {
        err_set(err, ERR_SYNTAX, "%s: %s: make the table with postmap -F", names->parameter, name);
    } else {
        buf_append_byte(&text, '\0');
        settings.pem = text.ptr;
        context = tls_context_new(&settings, err);
    }
    if (text.ptr)
        crypto_wipe(text.ptr, text.len);
    buf_release(&text);
    return context;
}

static struct tls_context *
context_of(struct server_names *names, const char *name, const char *value, struct err *err)
{
    unsigned char digest[CRYPTO_DIGEST_MOST];
    size_t len = crypto_digest("SHA256", slice_from(value), digest);
    struct slice key = slice_make(digest, len);
    struct tls_context *context = map_get(names->contexts, key);

    if (context)
        return context;
    if (map_count(names->contexts) >= CONTEXTS_MOST) {
        err_set(err, ERR_TEMP, "%s: %s: more than %d certificates", names->parameter, name, CONTEXTS_MOST);
        return NULL;
    }
    context = make_context(names, name, value, err);
    if (context)
        map_put(names->contexts, key, context);
    return context;
}

/* Called in a handshake. */
static int may_wait
choose(void *ctx, const char *name, struct tls_context **context, struct err *err)
{
    struct server_names *names = ctx;
    struct arena *arena = arena_new();
    char *lower = arena_strdup(arena, name);
    const char *value;

    text_lower_all(lower, strlen(lower));
    *context = NULL;
    int result = find_value(names, arena, lower, &value, err);
    if (result == 0 && value) {
        *context = context_of(names, lower, value, err);
        result = *context ? 0 : -1;
    }
    if (result < 0)
        log_warning("%s", err->text);
    arena_free(&arena);
    return result;
}

static void
free_context(void *value)
{
    struct tls_context *context = value;

    tls_context_free(&context);
}

static void
release(void *arg)
{
    struct server_names *names = arg;

    map_free(&names->contexts, free_context);
}

int
server_names_use(struct arena *arena, const struct conf *conf, const char *parameter, const char *text,
                 struct tls_settings *settings, struct err *err)
{
    struct maps *tables = maps_new(arena, conf, parameter, text, TABLE_FOLD_FIXED, err);

    if (!tables)
        return -1;
    if (maps_is_empty(tables))
        return 0;
    struct server_names *names = ARENA_NEW(arena, struct server_names);
    *names =
        (struct server_names){.parameter = parameter, .tables = tables, .settings = *settings, .contexts = map_new()};
    names->settings.chain_files = NULL;
    names->settings.cert_file = names->settings.key_file = NULL;
    names->settings.cert_file2 = names->settings.key_file2 = NULL;
    arena_defer(arena, release, names);
    settings->choose = choose;
    settings->choose_ctx = names;
    return 0;
}
