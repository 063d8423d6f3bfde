/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/service/service.h"

#include <fcntl.h>
#include <libgen.h>
#include <malloc.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/program_pages.h"
#include "lib/mail/log_form.h"
#include "lib/mail/messages.h"
#include "lib/service/log_setup.h"
#include "lib/service/service_internal.h"
#include "lib/table/proxy_client.h"
#include "lib/table/table.h"

enum {
    LARGE_LIMIT = 100000,
    MALLOC_KEEP = 4 << 20, /* freed memory that stays ours until housekeeping gives it back */
};

struct service_state service_state;

/* --- arguments --- */

struct arguments {
    const char *directory;
    const char *overrides[256];
    unsigned override_count;
    unsigned verbose;
};

static unsigned
number_argument(const char *text, unsigned max)
{
    unsigned long long n;

    if (slice_to_u64(slice_from(text), max, &n) < 0)
        fatal("bad number in an argument: %s", text);
    return (unsigned)n;
}

static enum service_socket
socket_argument(const char *type)
{
    if (strcmp(type, "unix-dgram") == 0)
        return SOCKET_DATAGRAM;
    if (strcmp(type, "fifo") == 0)
        return SOCKET_FIFO;
    if (strcmp(type, "pass") == 0)
        return SOCKET_PASS;
    return SOCKET_STREAM;
}

static void
take_override(struct arguments *args, const char *text)
{
    if (args->override_count == ARRAY_LEN(args->overrides))
        fatal("too many -o options");
    args->overrides[args->override_count++] = text;
}

/* D, d, i, l, V and z are options of Postfix's daemons that mean nothing here. */
static void
parse_arguments(int argc, char **argv, struct arguments *args)
{
    struct service_state *s = &service_state;
    int option;

    while ((option = getopt(argc, argv, "+cC:Ddilm:n:o:s:St:uvVz")) != -1) {
        switch (option) {
        case 'c': s->chroot = true; break;
        case 'C': args->directory = optarg; break;
        case 'm': s->process_limit = number_argument(optarg, UINT32_MAX); break;
        case 'n': s->name = optarg; break;
        case 'o': take_override(args, optarg); break;
        case 's': s->socket_count = number_argument(optarg, 1000); break;
        case 'S': s->standalone = true; break;
        case 't': s->type = socket_argument(optarg); break;
        case 'u': s->unprivileged = true; break;
        case 'v': args->verbose++; break;
        case '?': fatal("usage: %s -n service [-t type] [-cuvS] [-C directory] [-s sockets] [-o name=value]", argv[0]);
        default: break;
        }
    }
    s->args = argv + optind;
    s->has_master = !s->standalone && s->socket_count > 0;
}

/* --- configuration --- */

static void
override(struct conf *conf, const char *text)
{
    const char *equals = strchr(text, '=');
    struct err err;
    char *name;

    if (!equals || equals == text)
        fatal("missing '=' after attribute name: \"%s\"", text);
    name = arena_strndup(service_state.arena, text, (size_t)(equals - text));
    if (conf_override(conf, name, equals + 1, &err) < 0)
        fatal("-o %s: %s", text, err.text);
}

static void
load_configuration(const struct arguments *args)
{
    struct service_state *s = &service_state;
    struct err err;

    s->conf = conf_load(args->directory, &err);
    if (!s->conf)
        fatal("%s", err.text);
    conf_set_service_name(s->conf, s->name);
    for (unsigned i = 0; i < args->override_count; i++)
        override(s->conf, args->overrides[i]);
    if (service_settings_load(&s->settings, s->conf, s->arena, &err) < 0)
        fatal("%s", err.text);
    log_form_init(strcmp(s->settings.info_log_address_format, "internal") == 0,
                  (unsigned)s->settings.delay_logging_resolution_limit);
    s->watchdog_time = s->settings.daemon_timeout;
    if (s->service->watchdog_time && conf_time(s->conf, s->service->watchdog_time, &s->watchdog_time, &err) < 0)
        fatal("%s", err.text);
    if (conf_is_set(s->conf, "max_use"))
        s->use_limit = (unsigned)s->settings.max_use;
}

/* --- start --- */

static void
reach_proxymap(void)
{
    struct service_state *s = &service_state;

    proxy_client_init(arena_printf(s->arena, "private/%s", s->settings.proxymap_service_name),
                      arena_printf(s->arena, "private/%s", s->settings.proxywrite_service_name));
}

/* Sessions need descriptors; how many there are is master's (or the shell's) hard limit. */
static void
raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* How many mappings the kernel lets a process have. */
static unsigned long
mapping_limit(void)
{
    enum { USUAL = 65530 };
    char text[24];
    int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    unsigned long limit = USUAL;

    if (fd >= 0)
        close(fd);
    if (n > 0) {
        text[n] = '\0';
        limit = strtoul(text, NULL, 10);
    }
    return limit;
}

/* Where the administrator gives no limit: what there are descriptors and stacks for, two of each for a session (a stack takes two
 * mappings). Who comes beyond that waits; without a limit the process would end. */
static unsigned
sessions_that_fit(void)
{
    struct rlimit descriptors;
    unsigned long limit = mapping_limit() / 4;

    if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0 && descriptors.rlim_cur / 2 < limit)
        limit = (unsigned long)descriptors.rlim_cur / 2;
    return limit < 1 ? 1 : limit > LARGE_LIMIT ? LARGE_LIMIT : (unsigned)limit;
}

/* Whoever is woken by what we write shall not push us off the processor for each reply, nor we others for each message:
 * then every turn of the loop has more to do, and each system call and switch serves more messages (on two cores 1.2 to
 * 1.5 times the rate at 0.55 to 0.7 of the CPU: bench/RESULTS.md). Children keep it; who runs users' commands resets it. Not for readers
 * of mail: a login passes four processes, and on a busy machine each would wait for its turn. */
static void
prefer_batches(void)
{
    const struct sched_param none = {0};

    if (sched_setscheduler(0, SCHED_BATCH, &none) < 0)
        log_debug("SCHED_BATCH: %m");
}

/* Other daemons may run as mail_owner while we are root, and the other way round. */
static uid_t
trusted_uid(void)
{
    const struct passwd *owner = geteuid() == 0 ? getpwnam(service_state.settings.mail_owner) : NULL;

    return owner ? owner->pw_uid : geteuid();
}

static void
enter_sandbox(struct sandbox *sandbox)
{
    struct service_state *s = &service_state;
    struct buf achieved = {0};
    struct err err;

    if (s->unprivileged)
        sandbox->user = s->settings.mail_owner;
    if (s->chroot)
        sandbox->chroot_dir = s->settings.queue_directory;
    if (sandbox->calls)
        sandbox->calls |= SANDBOX_BASE | SANDBOX_ACCEPT;
    if (sandbox->calls && s->type == SOCKET_PASS) /* connections come as descriptors */
        sandbox->calls |= SANDBOX_LINKS | SANDBOX_SESSIONS;
    if (!s->standalone && sandbox_enter(sandbox, &achieved, &err) < 0)
        fatal("sandbox: %s", err.text);
    /* Who has given up anything can't count on opening a table again. */
    if (!s->standalone && (sandbox->user || sandbox->chroot_dir || !sandbox->no_landlock || sandbox->calls))
        tables_seal();
    log_debug("sandbox: %s", buf_text(&achieved));
    buf_release(&achieved);
}

static void
start(void *arg)
{
    const struct service *service = service_state.service;
    struct err err;

    (void)arg;
    if (service->start && service->start(&err) < 0)
        fatal("%s", err.text);
    if (service_state.standalone)
        service_serve_standard_input();
    else if (!service_state.ending)
        service_listen();
    service_report_ready();
    if (!service_state.is_short)
        program_pages_release();
}

static void
on_terminate(void *arg)
{
    (void)arg;
    service_end(true);
}

static void
on_hangup(void *arg)
{
    (void)arg;
    if (service_state.service->reopen)
        service_state.service->reopen();
}

static void
start_loop(void)
{
    struct service_state *s = &service_state;

    loop_init();
    loop_on_signal(SIGTERM, on_terminate, NULL);
    loop_on_signal(SIGHUP, on_hangup, NULL);
    task_group_init(&s->start_tasks);
    task_group_init(&s->tasks);
    task_group_init(&s->acceptors);
    task_group_init(&s->session_tasks);
    task_group_init(&s->end_tasks);
    link_init(&mail_protocol, s->service->program, trusted_uid());
}

static void
start_log(const char *program, unsigned verbose)
{
    struct err err;

    if (!service_state.service->logs_itself && log_setup(service_state.conf, program, &err) < 0)
        fatal("%s", err.text);
    log_set_verbose((int)verbose);
}

static void
run(struct sandbox *sandbox)
{
    struct service_state *s = &service_state;
    struct err err;

    if (s->service->prepare && s->service->prepare(s->conf, sandbox, &err) < 0)
        fatal("%s", err.text);
    if (s->has_master) {
        service_watch_master();
        service_start_watchdog();
    }
    enter_sandbox(sandbox);
    task_spawn(&s->start_tasks, "start", start, NULL);
    service_start_housekeeping();
    loop_run();
    log_flush();
}

int
service_main(int argc, char **argv, const struct service *service)
{
    struct service_state *s = &service_state;
    struct sandbox sandbox = service->sandbox;
    struct arguments args = {0};
    const char *program = basename(argv[0]);

    mallopt(M_MMAP_THRESHOLD, MALLOC_KEEP);
    mallopt(M_TRIM_THRESHOLD, MALLOC_KEEP);
    s->service = service;
    s->arena = arena_new();
    s->name = service->program;
    log_init(program);
    parse_arguments(argc, argv, &args);
    if (s->has_master)
        log_setup_early(program);
    load_configuration(&args);
    if (chdir(s->settings.queue_directory) < 0)
        fatal("chdir %s: %m", s->settings.queue_directory);
    start_log(program, args.verbose);
    raise_descriptor_limit();
    if (s->process_limit == 0 || s->process_limit > LARGE_LIMIT)
        s->process_limit = sessions_that_fit();
    if (!service->is_interactive)
        prefer_batches();
    start_loop();
    reach_proxymap();
    run(&sandbox);
    return 0;
}

/* --- what the daemon asks --- */

const char *
service_name(void)
{
    return service_state.name;
}

const struct conf *
service_conf(void)
{
    return service_state.conf;
}

void
service_is_short(void)
{
    service_state.is_short = true;
}

struct arena *
service_arena(void)
{
    return service_state.arena;
}

struct task_group *
service_tasks(void)
{
    return &service_state.tasks;
}

unsigned
service_process_limit(void)
{
    return service_state.process_limit;
}

bool
service_is_standalone(void)
{
    return service_state.standalone;
}

bool
service_is_ending(void)
{
    return service_state.ending;
}

bool
service_is_terminating(void)
{
    return service_state.terminating;
}

char **
service_args(void)
{
    return service_state.args;
}

const char *
service_socket_path(const char *class_and_name)
{
    return class_and_name;
}
