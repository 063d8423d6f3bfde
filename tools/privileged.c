/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/privileged.h"

#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/text.h"
#include "lib/table/match_list.h"

void
privileged_begin(void)
{
    static const int ignored[] = {SIGPIPE, SIGXFSZ, SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, SIGUSR2, SIGCHLD};
    sigset_t none;
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0)
        _exit(EX_OSERR); /* not even that: there is nowhere to say so */
    (void)close_range(STDERR_FILENO + 1, UINT_MAX, 0);
    for (unsigned i = 0; i < ARRAY_LEN(ignored); i++)
        (void)signal(ignored[i], SIG_IGN);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    alarm(0);
}

static bool
stands_in(struct arena *arena, const struct conf *conf, const char *parameter, const char *directory)
{
    struct err err;
    const char *list = conf_string(conf, arena, parameter, &err);
    struct slice rest = slice_from(list), word;

    if (!list)
        fatal("%s", err.text);
    while (slice_word(&rest, ", \t\r\n", &word))
        if (slice_equal_text(word, directory))
            return true;
    return false;
}

/* Are the rights our own, and not lent by the file's set-group-id bit? */
static bool
are_rights_own(void)
{
    return getuid() == 0 || (getuid() == geteuid() && getgid() == getegid());
}

const char *
privileged_directory(struct arena *arena, const char *wanted)
{
    const char *directory = wanted ? wanted : getenv("MAIL_CONFIG");
    struct conf *conf;
    struct err err;

    if (directory)
        directory = arena_strdup(arena, directory);
    if (clearenv() != 0 || setenv("PATH", "/usr/bin:/bin", 1) < 0)
        fatal("environment: out of memory");
    if (!directory || are_rights_own() || strcmp(directory, DEF_CONFIG_DIR) == 0)
        return directory;
    conf = conf_load(NULL, &err);
    if (!conf)
        fatal("%s", err.text);
    if (!stands_in(arena, conf, "alternate_config_directories", directory) &&
        !stands_in(arena, conf, "multi_instance_directories", directory)) {
        fatal_set_status(EX_NOPERM);
        fatal("untrusted configuration directory name: %.100s (to allow it, name it in alternate_config_directories or "
              "multi_instance_directories of %s/main.cf)",
              directory, DEF_CONFIG_DIR);
    }
    conf_free(&conf);
    return directory;
}

bool
privileged_user_may(struct arena *arena, const struct conf *conf, const char *parameter, const char *list,
                    const char **user)
{
    const struct passwd *pw = getpwuid(getuid());
    struct match_list *users;
    struct err err;
    bool may;

    *user = pw ? arena_strdup(arena, pw->pw_name) : "unknown";
    users = match_list_new(arena, conf, parameter, list, 0, &err);
    if (!users || match_list_text(users, slice_from(*user), &may, &err) < 0) {
        fatal_set_status(EX_TEMPFAIL);
        fatal("%s: %s", parameter, err.text);
    }
    return may;
}
