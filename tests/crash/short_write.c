/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a daemon under test: some writes to regular files write less than asked, as POSIX allows. SHORT_WRITE is
 * PERMILLE:SEED. Sockets and pipes are left alone: there short writes happen by themselves. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static unsigned state, permille;

static int
is_shortened(int fd)
{
    struct stat st;

    if (permille == 0) {
        const char *text = getenv("SHORT_WRITE");
        const char *colon = text != NULL ? strchr(text, ':') : NULL;

        permille = text != NULL ? (unsigned)atoi(text) : 1;
        state = (colon != NULL ? (unsigned)atoi(colon + 1) : 1) ^ (unsigned)getpid();
    }
    state = state * 1103515245U + 12345U;
    return (state >> 16) % 1000 < permille && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
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

    return real(fd, data, is_shortened(fd) ? shorter(len) : len);
}

ssize_t
pwrite64(int fd, const void *data, size_t len, off_t offset)
{
    ssize_t (*real)(int, const void *, size_t, off_t) =
        (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");

    return real(fd, data, is_shortened(fd) ? shorter(len) : len, offset);
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

    if (is_shortened(fd))
        return write(fd, parts[0].iov_base, shorter(parts[0].iov_len));
    return real(fd, parts, count);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    ssize_t (*real)(int, const struct iovec *, int, off_t) =
        (ssize_t(*)(int, const struct iovec *, int, off_t))dlsym(RTLD_NEXT, "pwritev");

    if (is_shortened(fd))
        return pwrite64(fd, parts[0].iov_base, shorter(parts[0].iov_len), offset);
    return real(fd, parts, count, offset);
}

ssize_t
pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
    return pwritev(fd, parts, count, offset);
}
