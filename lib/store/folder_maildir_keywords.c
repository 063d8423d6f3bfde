/* SPDX-License-Identifier: Apache-2.0 */
/* The file dovecot-keywords of a Maildir folder: "0 $Forwarded", "1 Junk": the letters a, b... in file names stand for them. */
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/check.h"
#include "lib/store/file.h"
#include "lib/store/folder_maildir.h"

#define KEYWORDS      "dovecot-keywords"
#define KEYWORDS_LOCK "dovecot-keywords.lock"
#define KEYWORDS_TEMP "dovecot-keywords.tmp"

enum { KEYWORDS_LIMIT = 1 << 20 };

int
maildir_keywords_read(struct folder *folder, struct err *err)
{
    struct arena *arena = arena_new();
    struct slice text, line, word;
    unsigned long long number;
    int result = file_read_name(arena, maildir_of(folder)->fd, KEYWORDS, KEYWORDS_LIMIT, &text, err);
    while (result == 0 && slice_cut(&text, '\n', &line))
        if (slice_word(&line, " ", &word) && slice_to_u64(word, FOLDER_KEYWORDS - 1, &number) == 0 && line.len > 1)
            folder_name_keyword(folder, (unsigned)number, slice_trim(line));
    arena_free(&arena);
    return result;
}

static int
write_names(struct folder *folder, struct err *err)
{
    struct buf out = {0};
    for (unsigned i = 0; i < FOLDER_KEYWORDS; i++)
        if (folder->keywords[i])
            buf_printf(&out, "%u %s\n", i, folder->keywords[i]);
    int result = file_replace(maildir_of(folder)->fd, KEYWORDS, KEYWORDS_TEMP, buf_slice(&out), NULL, err);
    buf_release(&out);
    return result;
}

/* With the lock, after reading anew: another program may have added some. */
static int
add(struct folder *folder, struct slice name, struct err *err)
{
    if (maildir_keywords_read(folder, err) < 0)
        return -1;
    int number = folder_find_keyword(folder, name);
    if (number >= 0)
        return number;
    for (unsigned i = 0; i < FOLDER_KEYWORDS; i++)
        if (!folder->keywords[i]) {
            folder_name_keyword(folder, i, name);
            if (write_names(folder, err) == 0)
                return (int)i;
            free(folder->keywords[i]);
            folder->keywords[i] = NULL;
            return -1;
        }
    return err_set(err, ERR_PERM, "no room for another keyword in this folder");
}

int
maildir_add_keyword(struct folder *folder, struct slice name, struct err *err)
{
    int fd = maildir_of(folder)->fd;
    if (file_dotlock(fd, KEYWORDS_LOCK, err) < 0)
        return -1;
    int number = add(folder, name, err);
    unlinkat(fd, KEYWORDS_LOCK, 0);
    return number;
}
