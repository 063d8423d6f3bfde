/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a postmap source: "key whitespace value". */
#include <string.h>
#include <unistd.h>

#include "lib/base/text.h"
#include "lib/run/crypto.h"
#include "tools/map_command.h"

enum { FILES_LIMIT = 64 << 20 };

/* With -F: the files that the value names, one after the other, with a newline between. */
static int
read_files(struct map_builder *builder, struct slice names, struct slice *value, struct err *err)
{
    struct arena *arena = map_builder_arena(builder);
    struct buf text = {0}, encoded = {0};
    struct slice name;
    int result = 0;

    while (result == 0 && table_list_next(&names, ", \t\r\n", &name)) {
        struct buf one = {0};
        int fd = -1;
        const char *path = name.ptr ? arena_strndup(arena, name.ptr, name.len) : "";
        result = table_text_read(path, &one, &fd, err);
        if (fd >= 0)
            close(fd);
        if (text.len > 0)
            buf_append_byte(&text, '\n');
        buf_append_slice(&text, buf_slice(&one));
        buf_release(&one);
        if (result == 0 && text.len > FILES_LIMIT)
            result = err_set(err, ERR_PERM, "%s: file too large", path);
    }
    if (result == 0) {
        crypto_base64_encode(buf_slice(&text), &encoded);
        *value = arena_slice(arena, buf_slice(&encoded));
    }
    buf_release(&text);
    buf_release(&encoded);
    return result;
}

static void
postmap_line(struct map_builder *builder, const struct table_lines *lines, struct slice line)
{
    const struct map_command *command = map_builder_command(builder);
    struct arena *arena = map_builder_arena(builder);
    struct slice key, value;
    const char *why;
    struct err err;

    if (command->utf8 && !text_is_utf8(line)) {
        table_lines_warn(lines, "non-UTF-8 input \"%s\" -- ignoring this line",
                         arena_strndup(arena, line.ptr, line.len));
        return;
    }
    if (table_split_pair(line, &key, &value, &why) < 0) {
        if (strchr(why, '"'))
            table_lines_warn(lines, "%s in '%s' -- ignoring this line", why, arena_strndup(arena, line.ptr, line.len));
        else
            table_lines_warn(lines, "%s", why);
        return;
    }
    if (key.ptr[key.len - 1] == ':')
        table_lines_warn(lines, "record is in \"key: value\" format; is this an alias file?");
    if (command->values_are_files && read_files(builder, value, &value, &err) < 0) {
        table_lines_warn(lines, "%s: skipping this entry", err.text);
        return;
    }
    map_entry(builder, key, value);
}

const struct map_kind map_kind_postmap = {.separator = "\t", .line = postmap_line};
