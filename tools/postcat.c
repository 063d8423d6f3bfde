/* SPDX-License-Identifier: Apache-2.0 */
/* postcat: shows what is in queue files. See postcat(1). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/mail/queue_id.h"
#include "lib/mail/queue_record.h"
#include "tools/queue_command.h"

static const char usage[] = "usage: postcat [-b (body text)] [-c config_dir] [-d (decimal record type)] "
                            "[-e (envelope records)] [-h (header text)] [-q (access queue)] [-v] [file(s)...]";

enum { SHOW_ENVELOPE = 1, SHOW_HEADER = 2, SHOW_BODY = 4, SHOW_ALL = 7, SHOW_OFFSETS = 8, SHOW_DECIMAL = 16 };

static const struct {
    unsigned char type;
    const char *name;
} names[] = {
    {REC_SIZE, "message_size"},           {REC_TIME, "message_arrival_time"}, {REC_FILTER, "content_filter"},
    {REC_INSPECTOR, "content_inspector"}, {REC_FULL_NAME, "sender_fullname"}, {REC_SENDER, "sender"},
    {REC_VERP, "verp_delimiters"},        {REC_WARN, "warning_message_time"}, {REC_ORIGINAL, "original_recipient"},
    {REC_RECIPIENT, "recipient"},         {REC_DONE, "done_recipient"},       {REC_CANCELLED, "canceled_recipient"},
    {REC_REDIRECT, "redirect_to"},        {REC_POINTER, "pointer_record"},    {REC_KILLED, "killed_record"},
    {REC_TEXT, "regular_text"},           {REC_TEXT_PART, "continued_text"},  {REC_PADDING, "padding"},
};

struct show {
    const char *path;
    unsigned what;
    struct queue_cursor cursor;
    struct arena *arena;
    enum { IN_ENVELOPE, IN_HEADER, IN_BODY, IN_EXTRACTED } section;
};

static const char *
name_of(unsigned char type)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (names[i].type == type)
            return names[i].name;
    return "unknown_record";
}

static const char *
date(struct arena *arena, const char *seconds)
{
    time_t time = (time_t)strtoll(seconds, NULL, 10);
    struct tm tm;
    char text[64];

    localtime_r(&time, &tm);
    strftime(text, sizeof(text), "%a %b %e %H:%M:%S %Y", &tm);
    return arena_strdup(arena, text);
}

static void
print_title(const struct show *show, const char *title)
{
    if (show->what & SHOW_ENVELOPE)
        printf("*** %s %s ***\n", title, show->path);
}

static void
print_head(const struct show *show, const struct queue_record *record)
{
    if (show->what & SHOW_OFFSETS)
        printf("%9" PRIu64 " ", record->offset);
}

static void
print_envelope_record(const struct show *show, const struct queue_record *record, char *text)
{
    static const char create_time[] = "create_time=";

    if (!(show->what & SHOW_ENVELOPE))
        return;
    print_head(show, record);
    if (show->what & SHOW_DECIMAL)
        printf("%d: %s\n", record->type, text);
    else if (record->type == REC_ATTRIBUTE && strncmp(text, create_time, strlen(create_time)) == 0)
        printf("create_time: %s\n", date(show->arena, text + strlen(create_time)));
    else if (record->type == REC_ATTRIBUTE)
        printf("named_attribute: %s\n", text);
    else if (record->type == REC_TIME || record->type == REC_WARN)
        printf("%s: %s\n", name_of(record->type), date(show->arena, text));
    else
        printf("%s: %s\n", name_of(record->type), text);
}

/* A text record of any length, as it is. */
static int
print_text(struct show *show, const struct queue_record *record, struct err *err)
{
    bool header = show->section == IN_HEADER, shown;
    uint64_t at = 0;
    struct slice bytes;

    /* The empty line after the header belongs to both, and so it is shown with either. */
    if (header && record->length == 0)
        show->section = IN_BODY;
    shown = show->what & (header ? SHOW_HEADER : SHOW_BODY);
    if (header && record->length == 0)
        shown = (show->what & SHOW_BODY) != 0;
    if (!shown)
        return 0;
    print_head(show, record);
    if (show->what & SHOW_OFFSETS)
        printf("%s: ", name_of(record->type));
    while (at < record->length) {
        if (queue_record_data(&show->cursor, record, at, &bytes, err) < 0)
            return -1;
        fwrite(bytes.ptr, 1, bytes.len, stdout);
        at += bytes.len;
    }
    if (record->type == REC_TEXT || (show->what & SHOW_OFFSETS))
        putchar('\n');
    return 0;
}

/* 1: the file's end. */
static int
print_record(struct show *show, const struct queue_record *record, struct err *err)
{
    char *text;

    if (record->type == REC_END) {
        print_title(show, "MESSAGE FILE END");
        return 1;
    }
    if (record->type == REC_CONTENT) {
        print_title(show, "MESSAGE CONTENTS");
        show->section = IN_HEADER;
        return 0;
    }
    if (record->type == REC_EXTRACTED) {
        print_title(show, "HEADER EXTRACTED");
        show->section = IN_EXTRACTED;
        return 0;
    }
    if (record->type == REC_POINTER)
        return queue_record_follow(&show->cursor, record, err);
    if (show->section == IN_HEADER || show->section == IN_BODY)
        return record->type == REC_PADDING ? 0 : print_text(show, record, err);
    if (queue_record_text(&show->cursor, record, show->arena, &text, err) < 0)
        return -1;
    print_envelope_record(show, record, text);
    return 0;
}

static void
print_file(int fd, const char *path, unsigned what)
{
    struct show show = {.path = path, .what = what, .arena = arena_new()};
    struct queue_record record;
    struct err err;
    int result;

    if (queue_cursor_init(&show.cursor, show.arena, fd, 0, &err) < 0)
        fatal("%s: %s", path, err.text);
    print_title(&show, "ENVELOPE RECORDS");
    do {
        result = queue_record_next(&show.cursor, &record, &err);
        if (result == 0 && record.offset == 0 && record.type != REC_SIZE && record.type != REC_TIME)
            result = err_set(&err, ERR_SYNTAX, "input is not a valid queue file");
        if (result == 0)
            result = print_record(&show, &record, &err);
    } while (result == 0);
    if (result < 0) {
        fflush(stdout);
        fatal("%s: %s", path, err.text);
    }
    arena_free(&show.arena);
}

static int
open_by_id(struct queue_command *command, const char *id, const char **path)
{
    static const char *const queues[] = {"maildrop", "incoming", "active", "deferred", "hold", "saved", NULL};
    int fd;

    if (!queue_id_is_valid(slice_from(id)))
        fatal("bad mail queue ID: %s", id);
    if (queue_command_is_owner())
        queue_command_want_files(command, id);
    for (unsigned i = 0; queues[i]; i++) {
        *path = queue_dir_path(&command->dir, command->arena, queues[i], id);
        fd = openat(command->dir.fd, *path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0)
            return fd;
    }
    fatal("open queue file %s: %s", id, strerror(errno));
}

int
main(int argc, char **argv)
{
    struct queue_command command;
    const char *config_directory = NULL;
    unsigned what = 0, form = 0;
    bool by_id = false;
    int option;

    log_init("postcat");
    while ((option = getopt(argc, argv, "bc:dehoqv")) != -1) {
        switch (option) {
        case 'b': what |= SHOW_BODY; break;
        case 'c': config_directory = optarg; break;
        case 'd': form |= SHOW_DECIMAL; break;
        case 'e': what |= SHOW_ENVELOPE; break;
        case 'h': what |= SHOW_HEADER; break;
        case 'o': form |= SHOW_OFFSETS; break;
        case 'q': by_id = true; break;
        case 'v': form |= SHOW_OFFSETS; break;
        default: fatal("%s", usage);
        }
    }
    what = (what ? what : SHOW_ALL) | form;
    if (by_id)
        queue_command_begin(&command, "postcat", config_directory, true);
    if (optind == argc)
        print_file(STDIN_FILENO, "stdin", what);
    for (; optind < argc; optind++) {
        const char *path = argv[optind];
        int fd = by_id ? open_by_id(&command, argv[optind], &path) : open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            fatal("open %s: %s", path, strerror(errno));
        print_file(fd, path, what);
        close(fd);
    }
    if (by_id)
        queue_command_end(&command);
    return fflush(stdout) == 0 ? 0 : 1;
}
