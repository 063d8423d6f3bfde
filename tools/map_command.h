/* SPDX-License-Identifier: Apache-2.0 */
/* tools/map_command.h: what postmap and postalias share. */
#ifndef TOOLS_MAP_COMMAND_H
#define TOOLS_MAP_COMMAND_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/conf/conf.h"
#include "lib/table/table_text.h"

/* How a source's lines become entries, and what goes in besides. Entries go to map_entry(). */
struct map_builder;
struct map_kind {
    const char *separator; /* between key and value where an entry is printed */
    void (*line)(struct map_builder *, const struct table_lines *, struct slice line);
    void (*complete)(struct map_builder *); /* when all lines are in; NULL: nothing */
};
extern const struct map_kind map_kind_postmap, map_kind_aliases;

struct map_command {
    const struct map_kind *kind;
    const struct conf *conf;
    const char *default_type;
    bool utf8; /* smtputf8_enable */
    bool no_fold, values_are_files, incremental, keep_root, own_mode, no_utf8, json;
    enum table_duplicates duplicates;
};

/* "type:name" in its parts; the default type where there is none. type lives in the arena. */
void map_name_split(const struct map_command *, struct arena *, const char *text, const char **type, const char **name);

/* Each of these ends the program with a message when it can't do its work; found: for the exit status. names: NULL-ended. */
void map_build(const struct map_command *, const char *type_and_name);
bool map_query(const struct map_command *, char **names, const char *key);
bool map_query_stdin(const struct map_command *, char **names);
bool map_delete(const struct map_command *, char **names, const char *key);
bool map_delete_stdin(const struct map_command *, char **names);
void map_list(const struct map_command *, const char *name);

/* postmap -b, -h, -m: keys are the lines of the body, or the header fields, of the message on standard input. */
bool map_query_message(const struct map_command *, char **names, bool header, bool body, bool mime);

/* For map_kind: an entry; warns of duplicates as the command's options say. */
void map_entry(struct map_builder *, struct slice key, struct slice value);

/* The same for an entry of our own: as it is, and in the place of one that is there. */
void map_entry_replace(struct map_builder *, const char *key, const char *value);
const struct map_command *map_builder_command(const struct map_builder *);
struct arena *map_builder_arena(const struct map_builder *); /* reset for each line */

/* Fills in what comes from main.cf; options are the caller's, and come first. */
void map_command_init(struct map_command *, const struct map_kind *, const struct conf *);

/* The whole of postmap or postalias; letters: the options, for getopt(). Returns the exit status. */
int map_main(int argc, char **argv, const struct map_kind *, const char *letters, const char *usage);

#endif
