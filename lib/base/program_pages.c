/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/program_pages.h"

#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Segments that are never written hold nothing but what their file holds. */
static int
release_object(struct dl_phdr_info *object, size_t size, void *arg)
{
    const uintptr_t page = *(const uintptr_t *)arg;

    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uintptr_t begin = object->dlpi_addr + segment->p_vaddr;

        if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W))
            continue;
        /* The last page may also hold the beginning of the next segment. */
        uintptr_t end = (begin + segment->p_memsz) & ~(page - 1);

        begin = (begin + page - 1) & ~(page - 1);
        if (begin < end)
            (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
    }
    return 0;
}

void
program_pages_release(void)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    dl_iterate_phdr(release_object, &page);
}
