/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/run/task_private.h"

#ifdef HAVE_VALGRIND_VALGRIND_H
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(low, high) 0
#define VALGRIND_STACK_DEREGISTER(id)      (void)(id)
#define RUNNING_ON_VALGRIND                0
#endif

/* Stacks that are free stay mapped, the one used last first, because its pages are warm. How many have been free since
 * the last sweep tells how many are too many. The struct at the top of each stack is shifted by some cache lines from
 * one stack to the next, so that those of many tasks don't all fall on the same lines of the cache. */
enum { COLOURS = 16, COLOUR_SHIFT = 64, FREE_LIMIT = 256 };

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static struct {
    struct task *free; /* linked through link.next */
    unsigned free_count, free_least;
    unsigned made, mapped;
} stacks;

static size_t
page_size(void)
{
    static size_t size;
    if (!size)
        size = (size_t)sysconf(_SC_PAGESIZE);
    return size;
}

/* A guard that needs no mapping of its own where the kernel can (Linux 6.13), so that ten thousand tasks don't come
 * near vm.max_map_count. */
static int
make_guard(char *at, size_t size)
{
    if (madvise(at, size, MADV_GUARD_INSTALL) == 0)
        return 0;
    return mprotect(at, size, PROT_NONE);
}

static struct task *
map_stack(void)
{
    size_t guard = page_size(), size = guard + TASK_STACK_SIZE;
    char *base =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (base == MAP_FAILED || make_guard(base, guard) < 0)
        fatal("out of memory: no stack for a task, %u are in use", stacks.mapped);
    (void)madvise(base, size, MADV_NOHUGEPAGE); /* 128 KiB that hold two pages must not become a huge one */
    size_t top = (sizeof(struct task) + 63) / 64 * 64 + stacks.made % COLOURS * COLOUR_SHIFT;
    struct task *task = (struct task *)(void *)(base + size - top);
    task->low = base + guard;
    task->start = (char *)task;
    task->valgrind_id = VALGRIND_STACK_REGISTER(task->low, task->start);
    stacks.made++;
    stacks.mapped++;
    return task;
}

static void
unmap_stack(struct task *task)
{
    char *base = task->low - page_size();
    VALGRIND_STACK_DEREGISTER(task->valgrind_id);
    check(munmap(base, page_size() + TASK_STACK_SIZE) == 0);
    stacks.mapped--;
}

static void
unmap_free(unsigned count)
{
    for (; count > 0 && stacks.free; count--) {
        struct task *task = stacks.free;
        stacks.free = (struct task *)(void *)task->link.next;
        stacks.free_count--;
        unmap_stack(task);
    }
}

struct task *
task_stack_take(void)
{
    struct task *task = stacks.free;
    if (!task)
        return map_stack();
    stacks.free = (struct task *)(void *)task->link.next;
    if (--stacks.free_count < stacks.free_least)
        stacks.free_least = stacks.free_count;
    memset(task, 0, offsetof(struct task, low));
    return task;
}

void
task_stack_give(struct task *task)
{
    if (stacks.free_count >= FREE_LIMIT) {
        unmap_stack(task);
        return;
    }
    task->link.next = (struct list *)(void *)stacks.free;
    stacks.free = task;
    stacks.free_count++;
}

void
task_stack_trim(struct task *task)
{
#ifdef POSTERN_SANITIZERS
    (void)task; /* the shadow of dropped frames would stay */
#else
    enum { RED_ZONE = 128 };
    uintptr_t used = ((uintptr_t)task->sp - RED_ZONE) & ~(uintptr_t)(page_size() - 1);
    uintptr_t low = (uintptr_t)task->low;
    if (used > low && !RUNNING_ON_VALGRIND)
        (void)madvise(task->low, used - low, MADV_DONTNEED);
#endif
}

void
task_stack_sweep(void)
{
    unmap_free((stacks.free_least + 1) / 2);
    stacks.free_least = stacks.free_count;
}

void
task_stack_release(void)
{
    unmap_free(stacks.free_count);
    stacks.free_least = 0;
}

unsigned
task_stack_count(void)
{
    return stacks.made;
}
