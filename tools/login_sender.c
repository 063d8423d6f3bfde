/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/login_sender.h"

#include <pwd.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/table/maps.h"

struct login_sender {
    const char *name;
    const char *patterns;   /* NULL: none, so nothing is allowed */
    const char *empty;      /* the pattern that allows the empty sender */
    const char *delimiters; /* of extensions */
    struct arena *arena;
};

static const char *
find_patterns(struct arena *arena, const struct conf *conf, const char *list, const char *name)
{
    struct maps *maps;
    const char *patterns;
    struct err err;

    if (strcmp(list, "static:*") == 0)
        return "*";
    maps = maps_new(arena, conf, "local_login_sender_maps", list, TABLE_FOLD_FIXED, &err);
    if (!maps || maps_find(maps, arena, slice_from(name), &patterns, &err) < 0) {
        fatal_set_status(EX_TEMPFAIL);
        fatal("local_login_sender_maps: %s", err.text);
    }
    return patterns;
}

struct login_sender *
login_sender_new(struct arena *arena, const struct conf *conf, const struct tools_settings *settings)
{
    struct login_sender *who = ARENA_NEW(arena, struct login_sender);
    const struct passwd *pw = getpwuid(getuid());

    who->arena = arena;
    who->name = pw ? arena_strdup(arena, pw->pw_name) : arena_printf(arena, "uid:%ld", (long)getuid());
    who->empty = settings->empty_address_local_login_sender_maps_lookup_key;
    who->delimiters = settings->recipient_delimiter;
    who->patterns = find_patterns(arena, conf, settings->local_login_sender_maps, who->name);
    return who;
}

const char *
login_sender_name(const struct login_sender *who)
{
    return who->name;
}

/* Without the extension of its local part. */
static struct slice
plain(const struct login_sender *who, struct slice sender)
{
    const char *at = memrchr(sender.ptr, '@', sender.len);
    size_t local = at ? (size_t)(at - sender.ptr) : sender.len, end = 1;
    struct slice text;

    while (end < local && (!sender.ptr[end] || !strchr(who->delimiters, sender.ptr[end])))
        end++;
    if (end >= local)
        return sender;
    text = slice_from(
        arena_printf(who->arena, "%.*s%.*s", (int)end, sender.ptr, (int)(sender.len - local), sender.ptr + local));
    return text;
}

static bool
matches(const struct login_sender *who, struct slice pattern, struct slice sender)
{
    const char *at = memrchr(sender.ptr, '@', sender.len);

    if (slice_equal_text(pattern, "*"))
        return true;
    if (sender.len == 0)
        return slice_equal_text_fold(pattern, who->empty);
    if (pattern.ptr[0] == '@')
        return at && slice_equal_fold(pattern, slice_make(at, (size_t)(sender.ptr + sender.len - at)));
    return slice_equal_fold(pattern, sender);
}

bool
login_sender_may(const struct login_sender *who, struct slice sender)
{
    struct slice rest = slice_from(who->patterns ? who->patterns : ""), pattern, wanted = plain(who, sender);

    while (slice_word(&rest, ", \t\r\n", &pattern))
        if (matches(who, pattern, wanted))
            return true;
    return false;
}
