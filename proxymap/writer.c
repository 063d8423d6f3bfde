/* SPDX-License-Identifier: Apache-2.0 */
#include "proxymap/writer.h"

#include <string.h>

#include "lib/run/task.h"
#include "lib/table/table_type.h"

enum { NEW_FILE_MODE = 0600 };

/* A change of a file, which is synced: done whole in a thread of the pool. */
struct job {
    const struct table_maker *maker;
    const struct conf *conf;
    const char *path, *value;
    struct slice key;
    bool found;
    int result;
    struct err err;
};

static bool busy; /* a job runs: those that come meanwhile wait */
static struct task_cond idle;

static void
run_job(void *arg)
{
    struct job *job = arg;
    void *file = job->maker->update(job->conf, job->path, true, NEW_FILE_MODE, TABLE_DUP_REPLACE, &job->err);

    job->result = -1;
    if (!file)
        return;
    if (job->value)
        job->result = job->maker->put(file, job->key, slice_from(job->value), &job->err);
    else
        job->result = job->maker->remove(file, job->key, &job->found, &job->err);
    if (job->result < 0)
        job->maker->abandon(file);
    else
        job->result = job->maker->finish(file, &job->err);
}

static int may_wait
change_file(struct job *job, struct err *err)
{
    while (busy)
        if (task_wait(&idle, NO_DEADLINE, err) < 0)
            return -1;
    busy = true;
    task_run_blocking(run_job, job);
    busy = false;
    task_wake_one(&idle);
    if (job->result < 0)
        *err = job->err;
    return job->result;
}

int may_wait
writer_change(const struct conf *conf, struct arena *arena, const char *name, unsigned flags, struct slice key,
              const char *value, bool *found, struct err *err)
{
    size_t type = strcspn(name, ":");
    const struct table_ops *ops = table_type_find(slice_make(name, type));
    struct job job = {.conf = conf, .value = value, .key = key, .found = true};
    struct table *table;

    *found = true;
    if (!ops || name[type] == '\0')
        return err_set(err, ERR_PERM, "unsupported dictionary type: %s", name);
    if (ops->change) {
        table = table_open(conf, name, flags, err);
        return table ? table_change(table, arena, key, value, found, err) : -1;
    }
    if (!ops->maker || !ops->maker->update)
        return err_set(err, ERR_PERM, "table %s: its type can't be changed", name);
    job.maker = ops->maker;
    job.path = name + type + 1;
    if (change_file(&job, err) < 0)
        return -1;
    *found = job.found;
    return 0;
}
