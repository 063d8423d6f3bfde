/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an mbox: it is refused and left alone, or its messages get UIDs, and then another look finds the same messages
 * with the same content, also after one got flags and one was expunged. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/siphash.h"
#include "lib/store/folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

enum { MESSAGES = 200 };

struct seen {
    uint32_t uid;
    uint64_t content;
};

static uint64_t
content_of(struct folder *folder, struct folder_message *message)
{
    static const struct siphash_key none = {0};
    struct folder_content content;
    struct err err;
    check(folder_read(folder, message, &content, &err) == 0);
    uint64_t sum = siphash(&none, content.bytes.ptr, content.bytes.len);
    folder_content_release(&content);
    return sum;
}

static struct folder *
look(const char *path)
{
    struct err err;
    struct folder *folder = folder_open(path, FOLDER_MBOX, &err);
    check(folder != NULL);
    if (folder_sync(folder, &err) == 0)
        return folder;
    folder_close(&folder);
    return NULL;
}

static void
compare(const char *path, const struct seen *seen, size_t count)
{
    struct folder *folder = look(path);
    check(folder && folder_count(folder) == count);
    for (size_t i = 0; i < count; i++) {
        check(folder_at(folder, i)->uid == seen[i].uid);
        check(content_of(folder, folder_at(folder, i)) == seen[i].content);
    }
    folder_close(&folder);
}

static void
change(const char *path, struct seen *seen, size_t count)
{
    struct folder *folder = look(path);
    struct err err;
    bool gone;
    check(folder_set_flags(folder, folder_at(folder, count - 1), FLAG_SEEN | FLAG_FLAGGED, 0, &gone, &err) == 0);
    check(folder_expunge(folder, folder_at(folder, 0), &err) == 0 && folder_settle(folder, &err) == 0);
    check(folder_count(folder) == count - 1);
    folder_close(&folder);
    compare(path, seen + 1, count - 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    char path[100];
    struct seen seen[MESSAGES];
    const char *memory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(path, sizeof(path), "%s/fuzz_mbox.%d", memory, (int)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    check(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
    close(fd);
    struct folder *folder = look(path);
    size_t count = folder ? folder_count(folder) : 0;
    for (size_t i = 0; i < count && count < MESSAGES; i++) {
        struct folder_message *message = folder_at(folder, i);
        seen[i] = (struct seen){message->uid, content_of(folder, message)};
    }
    folder_close(&folder);
    if (count > 0 && count < MESSAGES) {
        compare(path, seen, count);
        change(path, seen, count);
    }
    unlink(path);
    return 0;
}
