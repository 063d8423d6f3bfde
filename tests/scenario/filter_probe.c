/* SPDX-License-Identifier: Apache-2.0 */
/* What does the filter of these groups do with a call? For the test of the sandbox.
 *     filter_probe GROUPS call...     "name result" for each: signal number as -N, 0, or errno
 *     filter_probe GROUPS panic       how a process ends that has gone through bad times behind that filter
 *     filter_probe                    the names of all calls of this architecture */
#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/run/sandbox.h"

enum { MOST_CALLS = 600, LONGEST = 5 };

static void
list_calls(void)
{
    for (int i = 0; i < MOST_CALLS; i++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);

        if (name)
            puts(name);
        free(name);
    }
}

static void
enter(unsigned groups)
{
    struct err err;

    (void)alarm(LONGEST);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || sandbox_filter(groups, &err) < 0)
        _exit(255);
}

/* Arguments that no call takes, so that one that is let through does nothing. */
static void
try_call(unsigned groups, int call)
{
    enter(groups);
    errno = 0;
    _exit(syscall(call, -1L, -1L, -1L, -1L, -1L, -1L) < 0 ? errno : 0);
}

static int
compare(const void *a, const void *b)
{
    return memcmp(a, b, 1);
}

static void
use_memory(void)
{
    size_t size = (size_t)8 << 20;
    char *text = malloc(size);

    if (!text)
        _exit(254);
    memset(text, 'x', size);
    text = realloc(text, 8 * size); /* a mapping that moves */
    if (!text)
        _exit(254);
    qsort(text, 1000, 64, compare);
    (void)mprotect(text + 4096 - ((unsigned long)text & 4095), 4096, PROT_NONE);
}

/* What seldom happens: a clock in the kernel only, much memory, a log that has gone, and the end of all. */
static void
panic_behind(unsigned groups)
{
    struct timespec now;

    log_init("postfix/probe");
    enter(groups);
    use_memory();
    (void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    (void)syscall(SYS_restart_syscall);
#ifdef SYS_gettimeofday
    (void)syscall(SYS_gettimeofday, NULL, NULL);
#endif
#ifdef SYS_time
    (void)syscall(SYS_time, NULL);
#endif
    (void)signal(SIGUSR1, SIG_IGN);
    (void)usleep(1);
    log_to_syslog("mail");
    log_to_fd(STDERR_FILENO, true);
    panic("behind its filter");
}

int
main(int argc, char **argv)
{
    unsigned groups = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 0;
    const struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &none);
    if (argc < 2)
        list_calls();
    for (int i = 2; i < argc; i++) {
        bool last_words = strcmp(argv[i], "panic") == 0;
        int call = last_words ? 0 : seccomp_syscall_resolve_name(argv[i]), status = 0;
        pid_t pid;

        if (call < 0)
            continue;
        (void)fflush(stdout);
        pid = fork();
        if (pid == 0 && last_words)
            panic_behind(groups);
        if (pid == 0)
            try_call(groups, call);
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            return 1;
        printf("%s %d\n", argv[i], WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
    }
    return 0;
}
