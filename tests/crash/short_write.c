/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a daemon under test: writes to regular files write less than asked, as POSIX allows, or fail. Sockets, pipes and
 * the like are left alone: there short writes happen by themselves, and a write to an eventfd can't fail.
 *   SHORT_WRITE is PERMILLE:SEED
 *   FAIL_WRITE is CALL:ERRNO:FIRST:STEP: the FIRST of the calls of that name ("*": of any), and then each STEP-th (0: no other),
 *   fails with that errno (a number) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static unsigned state, permille, calls;
static struct {
    int is_read;
    char call[16];
    unsigned error, first, step;
} failure;

static int
is_file(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static int
is_shortened(int fd)
{
    if (permille == 0) {
        const char *text = getenv("SHORT_WRITE");
        const char *colon = text != NULL ? strchr(text, ':') : NULL;

        permille = text != NULL ? (unsigned)atoi(text) : 1;
        state = (colon != NULL ? (unsigned)atoi(colon + 1) : 1) ^ (unsigned)getpid();
        if (text == NULL)
            permille = ~0U;
    }
    if (permille == ~0U)
        return 0;
    state = state * 1103515245U + 12345U;
    return (state >> 16) % 1000 < permille && is_file(fd);
}

static int
fails(const char *call, int fd)
{
    unsigned number;

    if (!failure.is_read) {
        const char *text = getenv("FAIL_WRITE");

        if (text == NULL ||
            sscanf(text, "%15[^:]:%u:%u:%u", failure.call, &failure.error, &failure.first, &failure.step) != 4)
            failure.call[0] = '\0';
        failure.is_read = 1;
    }
    if ((strcmp(failure.call, call) != 0 && failure.call[0] != '*') || !is_file(fd))
        return 0;
    number = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    if (number < failure.first)
        return 0;
    if (number > failure.first && (failure.step == 0 || (number - failure.first) % failure.step != 0))
        return 0;
    errno = (int)failure.error;
    return 1;
}

static size_t
shorter(size_t len)
{
    state = state * 1103515245U + 12345U;
    return len <= 1 ? len : 1 + (state >> 8) % (len - 1);
}

ssize_t
write(int fd, const void *data, size_t len)
{
    ssize_t (*real)(int, const void *, size_t) = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");

    return fails("write", fd) ? -1 : real(fd, data, is_shortened(fd) ? shorter(len) : len);
}

ssize_t
pwrite64(int fd, const void *data, size_t len, off_t offset)
{
    ssize_t (*real)(int, const void *, size_t, off_t) =
        (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");

    return fails("pwrite", fd) ? -1 : real(fd, data, is_shortened(fd) ? shorter(len) : len, offset);
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t offset)
{
    return pwrite64(fd, data, len, offset);
}

ssize_t
writev(int fd, const struct iovec *parts, int count)
{
    ssize_t (*real)(int, const struct iovec *, int) = (ssize_t(*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");

    if (fails("writev", fd))
        return -1;
    if (is_shortened(fd))
        return write(fd, parts[0].iov_base, shorter(parts[0].iov_len));
    return real(fd, parts, count);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    ssize_t (*real)(int, const struct iovec *, int, off_t) =
        (ssize_t(*)(int, const struct iovec *, int, off_t))dlsym(RTLD_NEXT, "pwritev");

    if (fails("pwritev", fd))
        return -1;
    if (is_shortened(fd))
        return pwrite64(fd, parts[0].iov_base, shorter(parts[0].iov_len), offset);
    return real(fd, parts, count, offset);
}

ssize_t
pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
    return pwritev(fd, parts, count, offset);
}
