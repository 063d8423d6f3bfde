/* SPDX-License-Identifier: Apache-2.0 */
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/run/loop.h"
#include "lib/run/task_private.h"

/* Threads take jobs from one queue and put them on another when done; who puts the first one there since the loop last
 * looked wakes it, so a batch of completions costs one wake-up. The eventfd is watched edge-triggered and never read. */
enum { DEFAULT_THREADS = 4, MOST_THREADS = 64, THREAD_STACK = 256 * 1024 };

struct job {
    struct job *next;
    void (*fn)(void *arg);
    void (*done)(void *arg);
    void *arg;
};

struct queue {
    struct job *first, **end;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct queue waiting, finished;
    unsigned waiting_count;
    unsigned idle, started, limit;
    bool ending;
    pthread_t threads[MOST_THREADS];
    int wake_fd;
    struct event *event; /* NULL: not in use yet */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .limit = DEFAULT_THREADS, .wake_fd = -1};

static void
queue_put(struct queue *queue, struct job *job)
{
    job->next = NULL;
    if (!queue->first)
        queue->end = &queue->first;
    *queue->end = job;
    queue->end = &job->next;
}

static struct job *
queue_take(struct queue *queue)
{
    struct job *job = queue->first;
    if (job)
        queue->first = job->next;
    return job;
}

/* The loop is woken without the lock, which it takes first of all. */
static void
finish(struct job *job)
{
    static const uint64_t one = 1;
    pthread_mutex_lock(&pool.lock);
    bool wake = !pool.finished.first;
    queue_put(&pool.finished, job);
    pthread_mutex_unlock(&pool.lock);
    if (wake && write(pool.wake_fd, &one, sizeof(one)) < 0)
        abort(); /* the counter can't overflow, so the descriptor was closed under us */
}

static void *
thread_main(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        struct job *job = queue_take(&pool.waiting);
        if (!job && pool.ending)
            break;
        if (job)
            pool.waiting_count--;
        if (!job) {
            pool.idle++;
            pthread_cond_wait(&pool.work, &pool.lock);
            pool.idle--;
            continue;
        }
        pthread_mutex_unlock(&pool.lock);
        job->fn(job->arg);
        finish(job);
        pthread_mutex_lock(&pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* In the loop: hands out what has finished. */
static void
deliver(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    pthread_mutex_lock(&pool.lock);
    struct job *job = pool.finished.first;
    pool.finished.first = NULL;
    pthread_mutex_unlock(&pool.lock);
    while (job) {
        struct job *next = job->next;
        job->done(job->arg);
        free(job);
        job = next;
    }
}

static void
pool_open(void)
{
    pool.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool.wake_fd < 0)
        fatal("thread pool: no eventfd");
    pool.event = event_new(loop_base(), pool.wake_fd, EV_READ | EV_ET | EV_PERSIST, deliver, NULL);
    if (!pool.event || event_add(pool.event, NULL) < 0)
        fatal("thread pool: cannot watch its eventfd");
}

/* One more thread, with all signals blocked: they are for the loop. Without any thread we can't go on. */
static void
start_thread(void)
{
    sigset_t all, before;
    pthread_attr_t attr;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    if (pthread_create(&pool.threads[pool.started], &attr, thread_main, NULL) == 0)
        pool.started++;
    else if (pool.started == 0)
        fatal("thread pool: cannot start a thread");
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void
pool_submit(void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
    struct job *job = malloc(sizeof(*job));
    if (!job)
        fatal("out of memory");
    *job = (struct job){.fn = fn, .done = done, .arg = arg};
    if (!pool.event)
        pool_open();
    pthread_mutex_lock(&pool.lock);
    queue_put(&pool.waiting, job);
    /* Who is idle may already have been woken for a job that still waits. */
    bool more = ++pool.waiting_count > pool.idle && pool.started < pool.limit;
    pthread_mutex_unlock(&pool.lock);
    if (more)
        start_thread();
    pthread_cond_signal(&pool.work);
}

void
pool_set_threads(unsigned count)
{
    check(pool.started == 0 && count > 0);
    pool.limit = count < MOST_THREADS ? count : MOST_THREADS;
}

void
pool_release(void)
{
    struct job *job;
    if (!pool.event)
        return;
    pthread_mutex_lock(&pool.lock);
    pool.ending = true;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
    for (; pool.started > 0; pool.started--)
        pthread_join(pool.threads[pool.started - 1], NULL);
    while ((job = queue_take(&pool.finished)))
        free(job);
    event_free(pool.event);
    close(pool.wake_fd);
    pool.event = NULL;
    pool.wake_fd = -1;
    pool.ending = false;
}

struct blocking {
    struct task *task;
    void (*fn)(void *arg);
    void *arg;
    bool done;
};

static void
blocking_run(void *arg)
{
    struct blocking *blocking = arg;
    blocking->fn(blocking->arg);
}

static void
blocking_done(void *arg)
{
    struct blocking *blocking = arg;
    blocking->done = true;
    task_make_ready(blocking->task, TASK_WOKEN);
}

void
task_run_blocking(void (*fn)(void *arg), void *arg)
{
    struct blocking blocking = {.task = task_current(), .fn = fn, .arg = arg};
    if (!blocking.task) {
        fn(arg);
        return;
    }
    pool_submit(blocking_run, blocking_done, &blocking);
    while (!blocking.done)
        task_suspend_deaf();
}
