/* SPDX-License-Identifier: Apache-2.0 */
/* main() of a fuzz target where there is no libFuzzer. Takes libFuzzer's arguments, those that are used here:
 *   fuzz_NAME [-runs=N] [-max_total_time=SECONDS] [-max_len=BYTES] [-seed=N] [FILE or DIRECTORY ...]
 * Replays every file named (and every file in the directories named), then feeds the target random mutations of them
 * until N runs or the time are over. With files alone and no -runs, it only replays: that is how a finding is looked at.
 * Without coverage to guide it this finds shallow bugs only; it keeps the targets alive under compilers without libFuzzer. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seed {
    uint8_t *data;
    size_t len;
};

struct corpus {
    struct seed *seeds;
    size_t count;
    bool had_directory;
};

struct options {
    unsigned long runs;
    unsigned long seconds;
    size_t max_len;
    uint64_t random;
    bool runs_given;
};

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

static void *
must_alloc(void *old, size_t len)
{
    void *p = realloc(old, len > 0 ? len : 1);

    if (p == NULL)
        die("realloc");
    return p;
}

/* xorshift64*: repeatable from -seed=, and good enough to choose mutations. */
static uint64_t
next_random(struct options *opt)
{
    opt->random ^= opt->random >> 12;
    opt->random ^= opt->random << 25;
    opt->random ^= opt->random >> 27;
    return opt->random * UINT64_C(2685821657736338717);
}

static size_t
below(struct options *opt, size_t limit)
{
    return limit == 0 ? 0 : (size_t)(next_random(opt) % limit);
}

/* The target reads a block of exactly its length, so that AddressSanitizer sees the first byte read beyond it. */
static void
run_one(const uint8_t *data, size_t len)
{
    uint8_t *copy = must_alloc(NULL, len);

    memcpy(copy, data, len);
    (void)LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

static void
load_file(struct corpus *corpus, const char *path)
{
    FILE *f = fopen(path, "rb");
    struct seed seed = {.data = NULL, .len = 0};
    size_t got;

    if (f == NULL)
        die(path);
    do {
        seed.data = must_alloc(seed.data, seed.len + 65536);
        got = fread(seed.data + seed.len, 1, 65536, f);
        seed.len += got;
    } while (got > 0);
    fclose(f);
    corpus->seeds = must_alloc(corpus->seeds, (corpus->count + 1) * sizeof(*corpus->seeds));
    corpus->seeds[corpus->count++] = seed;
}

static void
load(struct corpus *corpus, const char *path)
{
    char name[1024];
    struct dirent *entry;
    struct stat st;
    DIR *dir;

    if (stat(path, &st) < 0)
        die(path);
    if (!S_ISDIR(st.st_mode)) {
        load_file(corpus, path);
        return;
    }
    corpus->had_directory = true;
    dir = opendir(path);
    if (dir == NULL)
        die(path);
    while ((entry = readdir(dir)) != NULL) {
        int n = snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);

        if (entry->d_name[0] != '.' && n > 0 && (size_t)n < sizeof(name))
            load(corpus, name);
    }
    closedir(dir);
}

/* Bytes that mean something to line protocols, records with lengths, and UTF-8. */
static uint8_t
interesting_byte(struct options *opt)
{
    static const uint8_t bytes[] = {0, 1, 9, 10, 13, ' ', '"', '\'', '(', ')', ',', '.', '/', ':', ';', '<', '=',
                                    '>', '@', '[', '\\', ']', '{', '}', '~', 127, 128, 192, 255};

    return bytes[below(opt, sizeof(bytes))];
}

/* Changes buf in place by one random edit; returns the new length, which stays within opt->max_len. */
static size_t
mutate(struct options *opt, uint8_t *buf, size_t len, const struct corpus *corpus)
{
    size_t at = below(opt, len + 1), span;

    switch (below(opt, 7)) {
    case 0: /* flip a bit */
        if (at < len)
            buf[at] = (uint8_t)(buf[at] ^ (1U << below(opt, 8)));
        return len;
    case 1:
        if (at < len)
            buf[at] = interesting_byte(opt);
        return len;
    case 2:
        if (at < len)
            buf[at] = (uint8_t)next_random(opt);
        return len;
    case 3: /* cut a run out */
        span = below(opt, (len - at < 32 ? len - at : 32) + 1);
        memmove(buf + at, buf + at + span, len - at - span);
        return len - span;
    case 4: /* put bytes in */
        span = below(opt, 9);
        if (len + span > opt->max_len)
            return len;
        memmove(buf + at + span, buf + at, len - at);
        for (size_t i = 0; i < span; i++)
            buf[at + i] = interesting_byte(opt);
        return len + span;
    case 5: /* repeat a run */
        span = below(opt, (len - at < 256 ? len - at : 256) + 1);
        if (len + span > opt->max_len)
            return len;
        memmove(buf + at + span, buf + at, len - at);
        return len + span;
    default: /* end as another seed ends */
        if (corpus->count > 0) {
            const struct seed *other = &corpus->seeds[below(opt, corpus->count)];
            size_t from = below(opt, other->len + 1);

            span = other->len - from;
            if (at + span > opt->max_len)
                span = opt->max_len - at;
            memcpy(buf + at, other->data + from, span);
            return at + span;
        }
        return at;
    }
}

static void
fuzz(struct options *opt, const struct corpus *corpus)
{
    uint8_t *buf = must_alloc(NULL, opt->max_len);
    time_t end = time(NULL) + (time_t)opt->seconds;
    unsigned long run;

    for (run = 0; run < opt->runs && (opt->seconds == 0 || time(NULL) < end); run++) {
        size_t len = 0;

        if (corpus->count > 0) {
            const struct seed *seed = &corpus->seeds[below(opt, corpus->count)];

            len = seed->len < opt->max_len ? seed->len : opt->max_len;
            memcpy(buf, seed->data, len);
        }
        for (size_t edits = 1 + below(opt, 8); edits > 0; edits--)
            len = mutate(opt, buf, len, corpus);
        run_one(buf, len);
    }
    free(buf);
    printf("%lu runs\n", run);
}

static bool
is_option(const char *arg, const char *name, unsigned long *value)
{
    size_t len = strlen(name);

    if (strncmp(arg, name, len) != 0)
        return false;
    *value = strtoul(arg + len, NULL, 10);
    return true;
}

static void
parse(struct options *opt, struct corpus *corpus, const char *arg)
{
    unsigned long n;

    if (is_option(arg, "-runs=", &n)) {
        opt->runs = n;
        opt->runs_given = true;
    } else if (is_option(arg, "-max_total_time=", &n)) {
        opt->seconds = n;
        opt->runs_given = true;
    } else if (is_option(arg, "-max_len=", &n)) {
        opt->max_len = n;
    } else if (is_option(arg, "-seed=", &n)) {
        opt->random = n;
    } else if (arg[0] != '-') {
        load(corpus, arg);
    } else {
        fprintf(stderr, "option not known here, ignored: %s\n", arg);
    }
}

int
main(int argc, char **argv)
{
    struct options opt = {.runs = ULONG_MAX, .max_len = 4096, .random = (uint64_t)time(NULL) ^ (uint64_t)getpid()};
    struct corpus corpus = {.seeds = NULL};

    for (int i = 1; i < argc; i++)
        parse(&opt, &corpus, argv[i]);
    printf("%s: %zu seeds, -seed=%lu\n", argv[0], corpus.count, (unsigned long)opt.random);
    fflush(stdout);
    if (opt.random == 0)
        opt.random = 1;
    for (size_t i = 0; i < corpus.count; i++)
        run_one(corpus.seeds[i].data, corpus.seeds[i].len);
    if (opt.runs_given || corpus.had_directory || corpus.count == 0)
        fuzz(&opt, &corpus);
    for (size_t i = 0; i < corpus.count; i++)
        free(corpus.seeds[i].data);
    free(corpus.seeds);
    return 0;
}
