/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as a main.cf: parsed, every value expanded. What was accepted is edited, and then must read the same but for the
 * edited name. */
#include <string.h>

#include "lib/base/check.h"
#include "lib/conf/conf.h"
#include "lib/conf/main_cf.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

struct walk {
    struct conf *before, *after;
    struct arena *arena;
};

static void
expand(void *ctx, const char *name, const char *value)
{
    struct walk *walk = ctx;
    struct err err;
    (void)name;
    char *text = conf_expand(walk->before, walk->arena, value, &err);
    check(!text || strlen(text) <= 2 << 20);
}

static void
compare(void *ctx, const char *name, const char *value)
{
    struct walk *walk = ctx;
    if (strcmp(name, "edited_name") == 0 || strcmp(name, "config_directory") == 0)
        return;
    const char *after = conf_raw(walk->after, name);
    check(after && strcmp(after, value) == 0);
}

static void
edit(struct walk *walk, struct slice text)
{
    struct main_cf_change change = {.name = "edited_name", .value = "new", .action = MAIN_CF_SET};
    struct buf out = {0};
    struct err err;
    main_cf_edit(text, &change, 1, &out);
    walk->after = conf_from_text("/nowhere", buf_slice(&out), &err);
    check(walk->after);
    check(strcmp(conf_raw(walk->after, "edited_name"), "new") == 0);
    conf_each_setting(walk->before, compare, walk);
    conf_free(&walk->after);
    buf_release(&out);
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct walk walk = {.arena = arena_new()};
    struct slice text = slice_make(data, size);
    struct err err;
    /* The reader of files refuses NULs before this. */
    if (!slice_has_byte(text, 0) && size < 64 << 10)
        walk.before = conf_from_text("/nowhere", text, &err);
    if (walk.before) {
        conf_each_setting(walk.before, expand, &walk);
        edit(&walk, text);
    }
    conf_free(&walk.before);
    arena_free(&walk.arena);
    return 0;
}
