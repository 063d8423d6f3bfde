/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/mapped_file.h"

#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static struct mapped_file *all_maps;
static bool handler_is_set;

/* Where the fault is not ours, the default action ends the process when the access is tried again. */
static void
on_bus_error(int number, siginfo_t *info, void *context)
{
    const unsigned char *at = info->si_addr;
    long page = sysconf(_SC_PAGESIZE);

    (void)context;
    for (struct mapped_file *map = all_maps; map; map = map->next) {
        if (at < map->ptr || at >= map->ptr + map->size)
            continue;
        map->is_damaged = true;
        void *start = (void *)((uintptr_t)at & ~(uintptr_t)(page - 1));
        if (mmap(start, (size_t)page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == start)
            return;
    }
    signal(number, SIG_DFL);
}

static void
set_handler(void)
{
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};

    if (handler_is_set)
        return;
    sigemptyset(&action.sa_mask);
    handler_is_set = sigaction(SIGBUS, &action, NULL) == 0;
}

static int
map_file(struct mapped_file *map, struct err *err)
{
    struct stat st;

    if (fstat(map->fd, &st) < 0)
        return err_errno(err, "fstat");
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_PERM, "not a regular file");
    if (st.st_size <= 0)
        return err_set(err, ERR_PERM, "the file is empty");
    void *ptr = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, map->fd, 0);
    if (ptr == MAP_FAILED)
        return err_errno(err, "mmap");
    map->ptr = ptr;
    map->size = (size_t)st.st_size;
    return 0;
}

int
mapped_file_init(struct mapped_file *map, int fd, bool random, struct err *err)
{
    *map = (struct mapped_file){.fd = fd};
    if (map_file(map, err) < 0) {
        close(fd);
        map->fd = -1;
        return -1;
    }
    if (random)
        (void)madvise((void *)(uintptr_t)map->ptr, map->size, MADV_RANDOM);
    set_handler();
    map->next = all_maps;
    all_maps = map;
    return 0;
}

int
mapped_file_grow(struct mapped_file *map, struct err *err)
{
    struct mapped_file old = *map;

    if (map_file(map, err) < 0)
        return -1;
    (void)munmap((void *)(uintptr_t)old.ptr, old.size);
    return 0;
}

void
mapped_file_release(struct mapped_file *map)
{
    for (struct mapped_file **at = &all_maps; *at; at = &(*at)->next)
        if (*at == map) {
            *at = map->next;
            break;
        }
    if (map->ptr)
        (void)munmap((void *)(uintptr_t)map->ptr, map->size);
    if (map->fd >= 0)
        close(map->fd);
    map->ptr = NULL;
    map->fd = -1;
}
