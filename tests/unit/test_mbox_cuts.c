/* SPDX-License-Identifier: Apache-2.0 */
/* mboxes and power cuts: what a cut may leave of a file at each moment, and what becomes of that.
 *
 * A session's and a delivery's work on an mbox is recorded: each write, change of length or of an extended attribute, and sync. For a
 * cut after each of these the states are made that a file system with a journal may leave. It keeps changes of length and of
 * attributes in their order, but not what a write puts into a block: of each block any content may be there that it had since
 * the last sync. A file that is cut gets zeros behind its new end, as far as the block goes, and these are such a write too: they may
 * be there when the new length is not. What a write puts behind the end, or where there was only room, becomes the file's block by
 * block, and the journal keeps its order too.
 *
 * Each state is opened as after a restart. Then every message must be there once, whole, with its UID and flags, as it was
 * acknowledged before the cut; what the last command had begun may be done or not, for each message. Of some, the repair is
 * recorded and cut off in the same way. Some get a message from a program that knows nothing of all this, before the repair.
 *
 * MBOX_CUTS=N: so many sequences of commands (default 3); MBOX_CUTS_SEED: the first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "lib/base/siphash.h"
#include "lib/store/folder.h"
#include "lib/store/mbox.h"

enum {
    BLOCK = 4096, /* what a file system writes whole */
    ATTRIBUTES = 6,
    VALUE = 2000,
    NAME = 40,
    MESSAGES = 200,
    STEPS = 16,
    RANDOM_STATES = 2, /* for each cut and number of changes that the journal has */
    SEEN = 1 << 18,
    TEXT = 400,
};

static char *directory, path[200], state_path[200];
static struct err err;
static unsigned era; /* grows with each restart of the machine */
static uint64_t dice = 1;
static unsigned long states;

static unsigned
roll(unsigned below)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (unsigned)((dice >> 11) % below);
}

/* ---- a file's state ---- */

struct attribute {
    char name[NAME], value[VALUE];
    size_t len;
    bool is_set;
};

struct image {
    char *bytes;
    size_t size, room; /* beyond size: zeros */
    struct attribute attributes[ATTRIBUTES];
};

static void
image_need(struct image *image, size_t room)
{
    room = (room + BLOCK - 1) / BLOCK * BLOCK;
    if (room <= image->room)
        return;
    image->bytes = realloc(image->bytes, room);
    assert_non_null(image->bytes);
    memset(image->bytes + image->room, 0, room - image->room);
    image->room = room;
}

static void
image_copy(struct image *to, const struct image *from)
{
    image_need(to, from->room ? from->room : 1);
    memset(to->bytes, 0, to->room);
    if (from->room)
        memcpy(to->bytes, from->bytes, from->room);
    to->size = from->size;
    memcpy(to->attributes, from->attributes, sizeof(to->attributes));
}

static void
image_resize(struct image *image, size_t size)
{
    image_need(image, size);
    if (size < image->size)
        memset(image->bytes + size, 0, image->size - size);
    image->size = size;
}

static struct attribute *
attribute_of(struct image *image, const char *name)
{
    struct attribute *empty = NULL;
    for (size_t i = 0; i < ATTRIBUTES; i++) {
        struct attribute *a = &image->attributes[i];
        if (a->is_set && strcmp(a->name, name) == 0)
            return a;
        if (!a->is_set && !empty)
            empty = a;
    }
    assert_non_null(empty);
    snprintf(empty->name, NAME, "%s", name);
    return empty;
}

static void
image_write_file(const struct image *image, const char *to)
{
    unlink(to);
    int fd = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, image->bytes, image->size, 0), image->size);
    for (size_t i = 0; i < ATTRIBUTES; i++)
        if (image->attributes[i].is_set)
            assert_int_equal(
                fsetxattr(fd, image->attributes[i].name, image->attributes[i].value, image->attributes[i].len, 0), 0);
    close(fd);
}

/* ---- the record ---- */

enum kind { WRITE, RESIZE, SET, REMOVE, DATASYNC, SYNC };

struct op {
    enum kind kind;
    size_t at, len; /* RESIZE: at */
    char *bytes;
    char name[NAME];
};

struct trace {
    struct image start;
    struct op *ops;
    size_t count, size;
};

static struct trace *record; /* NULL: nothing is recorded */
static ino_t recorded;

static bool
is_recorded(int fd)
{
    struct stat st;
    return record && fstat(fd, &st) == 0 && st.st_ino == recorded;
}

static struct op *
add_op(enum kind kind, size_t at, const void *bytes, size_t len, const char *name)
{
    if (record->count == record->size) {
        record->size = record->size ? 2 * record->size : 64;
        record->ops = realloc(record->ops, record->size * sizeof(*record->ops));
        assert_non_null(record->ops);
    }
    struct op *op = &record->ops[record->count++];
    *op = (struct op){.kind = kind, .at = at, .len = len};
    if (len > 0) {
        op->bytes = malloc(len);
        assert_non_null(op->bytes);
        memcpy(op->bytes, bytes, len);
    }
    if (name)
        snprintf(op->name, NAME, "%s", name);
    return op;
}

static void
trace_release(struct trace *trace)
{
    for (size_t i = 0; i < trace->count; i++)
        free(trace->ops[i].bytes);
    free(trace->ops);
    free(trace->start.bytes);
}

ssize_t __real_pwrite(int, const void *, size_t, off_t);
ssize_t __real_write(int, const void *, size_t);
int __real_ftruncate(int, off_t);
int __real_posix_fallocate(int, off_t, off_t);
int __real_fsync(int);
int __real_fdatasync(int);
int __real_fsetxattr(int, const char *, const void *, size_t, int);
int __real_fremovexattr(int, const char *);
int __real_open(const char *, int, ...);
ssize_t __wrap_pwrite(int, const void *, size_t, off_t);
ssize_t __wrap_write(int, const void *, size_t);
int __wrap_ftruncate(int, off_t);
int __wrap_posix_fallocate(int, off_t, off_t);
int __wrap_fsync(int);
int __wrap_fdatasync(int);
int __wrap_fsetxattr(int, const char *, const void *, size_t, int);
int __wrap_fremovexattr(int, const char *);
int __wrap_open(const char *, int, ...);

ssize_t
__wrap_pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    ssize_t n = __real_pwrite(fd, bytes, len, at);
    if (n > 0 && is_recorded(fd))
        add_op(WRITE, (size_t)at, bytes, (size_t)n, NULL);
    return n;
}

ssize_t
__wrap_write(int fd, const void *bytes, size_t len)
{
    bool on = is_recorded(fd);
    ssize_t n = __real_write(fd, bytes, len);
    if (n > 0 && on)
        add_op(WRITE, (size_t)(lseek(fd, 0, SEEK_CUR) - n), bytes, (size_t)n, NULL);
    return n;
}

int
__wrap_ftruncate(int fd, off_t size)
{
    int result = __real_ftruncate(fd, size);
    if (result == 0 && is_recorded(fd))
        add_op(RESIZE, (size_t)size, NULL, 0, NULL);
    return result;
}

int
__wrap_posix_fallocate(int fd, off_t at, off_t len)
{
    int result = __real_posix_fallocate(fd, at, len);
    if (result == 0 && is_recorded(fd)) /* it grows in steps */
        for (off_t step = 1; step <= 2; step++)
            add_op(RESIZE, (size_t)(at + len * step / 2), NULL, 0, NULL);
    return result;
}

int
__wrap_fsync(int fd)
{
    if (is_recorded(fd))
        add_op(SYNC, 0, NULL, 0, NULL);
    return 0;
}

int
__wrap_fdatasync(int fd)
{
    if (is_recorded(fd))
        add_op(DATASYNC, 0, NULL, 0, NULL);
    return 0;
}

int
__wrap_fsetxattr(int fd, const char *name, const void *value, size_t len, int flags)
{
    int result = __real_fsetxattr(fd, name, value, len, flags);
    assert_true(len < VALUE);
    if (result == 0 && is_recorded(fd))
        add_op(SET, 0, value, len, name);
    return result;
}

int
__wrap_fremovexattr(int fd, const char *name)
{
    int result = __real_fremovexattr(fd, name);
    if (result == 0 && is_recorded(fd))
        add_op(REMOVE, 0, NULL, 0, name);
    return result;
}

/* The name of the machine's start. */
int
__wrap_open(const char *name, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, int) : 0;
    va_end(ap);
    if (strcmp(name, "/proc/sys/kernel/random/boot_id") != 0)
        return __real_open(name, flags, mode);
    char text[20];
    int fd = memfd_create("era", MFD_CLOEXEC);
    int len = snprintf(text, sizeof(text), "%08u", era);
    assert_true(fd >= 0);
    assert_int_equal(__real_pwrite(fd, text, (size_t)len, 0), len);
    return fd;
}

static void
record_begin(struct trace *trace, const char *file)
{
    struct stat st;
    *trace = (struct trace){0};
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    image_need(&trace->start, (size_t)st.st_size + 1);
    assert_int_equal(pread(fd, trace->start.bytes, (size_t)st.st_size, 0), st.st_size);
    trace->start.size = (size_t)st.st_size;
    char names[1000];
    ssize_t len = flistxattr(fd, names, sizeof(names));
    for (ssize_t i = 0; i < len; i += (ssize_t)strlen(names + i) + 1) {
        struct attribute *a = attribute_of(&trace->start, names + i);
        ssize_t n = fgetxattr(fd, names + i, a->value, VALUE);
        assert_true(n >= 0);
        a->len = (size_t)n;
        a->is_set = true;
    }
    close(fd);
    record = trace;
    recorded = st.st_ino;
}

/* ---- what a cut may leave ---- */

/* A block's content; at: so many changes of the journal came before. is_new: the block is another one, which only these make the
 * file's. */
struct version {
    size_t block, at;
    bool is_new;
    char bytes[BLOCK];
};

struct window {
    struct image disk;   /* all that is promised */
    struct image memory; /* as the processes see it */
    const struct op *changes[64];
    size_t change_count;
    struct version *versions;
    size_t version_count, version_room;
    struct growth {
        size_t at, end;
    } growths[64]; /* by writes */
    size_t growth_count;
};

static void
add_version(struct window *w, size_t block, bool is_new)
{
    if (w->version_count == w->version_room) {
        w->version_room = w->version_room ? 2 * w->version_room : 32;
        w->versions = realloc(w->versions, w->version_room * sizeof(*w->versions));
        assert_non_null(w->versions);
    }
    struct version *v = &w->versions[w->version_count++];
    *v = (struct version){.block = block, .at = w->change_count, .is_new = is_new};
    image_need(&w->memory, (block + 1) * BLOCK);
    memcpy(v->bytes, w->memory.bytes + block * BLOCK, BLOCK);
}

static void
add_change(struct window *w, const struct op *op)
{
    assert_true(w->change_count < sizeof(w->changes) / sizeof(w->changes[0]));
    w->changes[w->change_count++] = op;
}

static void
apply_attribute(struct image *image, const struct op *op)
{
    struct attribute *a = attribute_of(image, op->name);
    a->is_set = op->kind == SET;
    a->len = op->len;
    if (op->len > 0)
        memcpy(a->value, op->bytes, op->len);
}

static void
settle(struct window *w, bool all)
{
    for (size_t i = 0; i < w->change_count; i++)
        all |= w->changes[i]->kind == RESIZE;
    if (all || w->growth_count > 0) {
        image_copy(&w->disk, &w->memory);
        w->change_count = 0;
    } else { /* only bytes at their places, and attributes */
        static struct attribute kept[ATTRIBUTES];
        memcpy(kept, w->disk.attributes, sizeof(kept));
        image_copy(&w->disk, &w->memory);
        memcpy(w->disk.attributes, kept, sizeof(kept));
    }
    w->version_count = 0;
    w->growth_count = 0;
}

static void
window_add(struct window *w, const struct op *op)
{
    size_t old = w->memory.size;
    switch (op->kind) {
    case WRITE:
        if (op->at + op->len > old) {
            image_resize(&w->memory, op->at + op->len);
            assert_true(w->growth_count < sizeof(w->growths) / sizeof(w->growths[0]));
            w->growths[w->growth_count++] = (struct growth){w->change_count, op->at + op->len};
        }
        memcpy(w->memory.bytes + op->at, op->bytes, op->len);
        for (size_t b = op->at / BLOCK; b <= (op->at + op->len - 1) / BLOCK; b++)
            add_version(w, b, false);
        break;
    case RESIZE:
        add_change(w, op);
        image_resize(&w->memory, op->at);
        if (op->at < old) {
            if (op->at % BLOCK)
                add_version(w, op->at / BLOCK, false);
            for (size_t b = (op->at + BLOCK - 1) / BLOCK; b * BLOCK < old; b++)
                add_version(w, b, true);
        }
        break;
    case SET:
    case REMOVE:
        apply_attribute(&w->memory, op);
        add_change(w, op);
        break;
    case DATASYNC: settle(w, false); break;
    case SYNC: settle(w, true); break;
    }
}

enum choice { OLDEST, NEWEST, ANY, ONE_OLD, ONE_NEW };

/* The block's content, with the first `changes` of the journal. */
static void
choose_block(const struct window *w, size_t block, size_t changes, enum choice choice, char *out)
{
    const struct version *candidates[64];
    size_t n = 0;
    bool may_be_base = true;
    for (size_t i = 0; i < w->version_count; i++) {
        const struct version *v = &w->versions[i];
        if (v->block != block)
            continue;
        if (v->at > changes && (v->is_new || block * BLOCK >= w->disk.size))
            break;
        if (v->is_new) {
            n = 0;
            may_be_base = false;
        }
        assert_true(n < 64);
        candidates[n++] = v;
    }
    size_t pick = 0, all = n + may_be_base;
    if (choice == NEWEST)
        pick = all - 1;
    else if (choice == ANY)
        pick = roll((unsigned)all);
    if (may_be_base && pick == 0) {
        memset(out, 0, BLOCK);
        if ((block + 1) * BLOCK <= w->disk.room)
            memcpy(out, w->disk.bytes + block * BLOCK, BLOCK);
    } else {
        memcpy(out, candidates[pick - may_be_base]->bytes, BLOCK);
    }
}

/* How long the file is. */
static size_t
choose_size(const struct window *w, size_t changes, enum choice choice)
{
    size_t size = w->disk.size, most = size, growth = 0;
    for (size_t i = 0; i <= changes; i++) {
        for (; growth < w->growth_count && w->growths[growth].at <= i; growth++)
            most = w->growths[growth].end > most ? w->growths[growth].end : most;
        if (i < changes && w->changes[i]->kind == RESIZE)
            size = most = w->changes[i]->at;
    }
    if (most <= size || choice == OLDEST)
        return size;
    size_t steps = most / BLOCK - size / BLOCK + 1, step = choice == ANY ? roll((unsigned)steps + 1) : steps;
    if (step == 0)
        return size;
    size_t longer = (size / BLOCK + step) * BLOCK;
    return longer < most ? longer : most;
}

static void
make_state(const struct window *w, size_t changes, enum choice choice, size_t special, struct image *out)
{
    image_copy(out, &w->disk);
    for (size_t i = 0; i < changes; i++)
        if (w->changes[i]->kind != RESIZE)
            apply_attribute(out, w->changes[i]);
    enum choice rest = choice == ONE_OLD ? NEWEST : choice == ONE_NEW ? OLDEST : choice;
    size_t size = choose_size(w, changes, choice == ONE_NEW ? NEWEST : rest);
    image_need(out, size + 1);
    for (size_t b = 0; b * BLOCK < size; b++) {
        bool is_special = (choice == ONE_OLD || choice == ONE_NEW) && b == special;
        choose_block(w, b, changes, !is_special ? rest : choice == ONE_OLD ? OLDEST : NEWEST, out->bytes + b * BLOCK);
    }
    out->size = size;
    memset(out->bytes + size, 0, out->room - size);
}

/* ---- messages ---- */

struct known {
    unsigned id;
    uint32_t uid; /* 0: not told yet */
    unsigned flags;
};

struct snapshot {
    struct known known[MESSAGES];
    size_t count;
    uint32_t validity;
};

/* Of very different lengths, and nowhere alike. */
static char *
text_of(unsigned id)
{
    static const unsigned sizes[] = {0, 3, 30, 150, 400};
    unsigned lines = sizes[id * 7 % 5] + id % 7;
    struct buf text = {0};
    buf_printf(&text, "Subject: message %u\n%s\n", id, id % 3 ? "" : "X-Folded: one\n Status: no field\nX-Y: z\n");
    for (unsigned i = 0; i < lines; i++)
        buf_printf(&text, "message %u, line %u\n", id, i);
    buf_printf(&text, "end of message %u\n", id);
    char *copy = strdup(buf_text(&text));
    buf_release(&text);
    return copy;
}

static unsigned
identify(struct slice bytes, bool *whole)
{
    char *copy = strndup(bytes.ptr, bytes.len);
    unsigned id = 0;
    *whole = sscanf(copy, "Subject: message %u\n", &id) == 1;
    char *want = text_of(id);
    *whole = *whole && strlen(copy) == bytes.len && strcmp(copy, want) == 0;
    free(want);
    free(copy);
    return id;
}

static int __attribute__((format(printf, 2, 3))) complain(char *why, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(why, TEXT, format, ap);
    va_end(ap);
    return -1;
}

/* -1: why */
static int
take_snapshot(struct folder *folder, struct snapshot *snapshot, char *why)
{
    snapshot->count = 0;
    snapshot->validity = folder_uid_validity(folder);
    for (size_t i = 0; i < folder_count(folder); i++) {
        struct folder_message *m = folder_at(folder, i);
        struct folder_content content;
        bool whole;
        if (folder_read(folder, m, &content, &err) < 0)
            return complain(why, "UID %u can't be read: %s", m->uid, err.text);
        unsigned id = identify(content.bytes, &whole);
        folder_content_release(&content);
        if (!whole)
            return complain(why, "UID %u (message %u) is not whole", m->uid, id);
        snapshot->known[snapshot->count++] = (struct known){id, m->uid, m->flags};
    }
    return 0;
}

static const struct known *
known_find(const struct snapshot *snapshot, unsigned id)
{
    for (size_t i = 0; i < snapshot->count; i++)
        if (snapshot->known[i].id == id)
            return &snapshot->known[i];
    return NULL;
}

/* found: after a cut between the two. */
static int
compare(const struct snapshot *found, const struct snapshot *before, const struct snapshot *after, char *why)
{
    for (size_t i = 0; i < found->count; i++) {
        const struct known *m = &found->known[i], *a = known_find(before, m->id), *b = known_find(after, m->id);
        if (!a && !b && m->id != 0)
            return complain(why, "message %u came back", m->id);
        if (known_find(found, m->id) != m)
            return complain(why, "message %u is there twice", m->id);
        if (m->id == 0)
            continue;
        if (a && a->uid && a->uid != m->uid)
            return complain(why, "message %u had UID %u, has %u", m->id, a->uid, m->uid);
        for (size_t k = 0; k < before->count; k++)
            if (before->known[k].uid == m->uid && before->known[k].id != m->id)
                return complain(why, "UID %u was message %u, is %u", m->uid, before->known[k].id, m->id);
        if (!(a && a->flags == m->flags) && !(b && b->flags == m->flags))
            return complain(why, "message %u has flags %u", m->id, m->flags);
    }
    for (size_t i = 0; i < before->count; i++)
        if (known_find(after, before->known[i].id) && !known_find(found, before->known[i].id))
            return complain(why, "message %u is lost", before->known[i].id);
    if (before->validity && before->count && found->count && found->validity != before->validity)
        return complain(why, "UIDVALIDITY was %u, is %u", before->validity, found->validity);
    return 0;
}

/* ---- the commands ---- */

struct step {
    char what[60];
    size_t end; /* of the record */
    struct snapshot after;
};

struct script {
    struct trace trace;
    struct step steps[STEPS + 1]; /* [0]: before the first */
    size_t count;
    unsigned next_id;
    struct folder *folder;
};

static void
append_one(struct script *s, unsigned id)
{
    struct folder_append append;
    struct arena *arena = arena_new();
    const char *name;
    char *text = text_of(id);
    assert_int_equal(folder_append_begin(s->folder, &append, &err), 0);
    assert_int_equal(folder_append_write(s->folder, &append, slice_from(text), &err), 0);
    assert_int_equal(folder_append_finish(s->folder, &append, id % 4, 0, 1795497611, arena, &name, &err), 0);
    arena_free(&arena);
    free(text);
}

static int
step_append(struct script *s, char *what)
{
    unsigned n = roll(3) ? 1 : 3;
    snprintf(what, TEXT, "append %u from message %u on", n, s->next_id);
    for (unsigned i = 0; i < n; i++)
        append_one(s, s->next_id++);
    assert_int_equal(folder_settle(s->folder, &err), 0);
    return 0;
}

static int
step_flags(struct script *s, char *what)
{
    if (folder_count(s->folder) == 0)
        return -1;
    struct folder_message *m = folder_at(s->folder, roll((unsigned)folder_count(s->folder)));
    static const unsigned all[] = {0, FLAG_SEEN, FLAG_SEEN | FLAG_ANSWERED | FLAG_FLAGGED, FLAG_DRAFT, FLAG_DELETED};
    unsigned flags = all[roll(5)];
    bool gone;
    snprintf(what, TEXT, "flags %u for UID %u", flags, m->uid);
    assert_int_equal(folder_set_flags(s->folder, m, flags, 0, &gone, &err), 0);
    assert_int_equal(folder_settle_flags(s->folder, &err), 0);
    return 0;
}

static int
step_expunge(struct script *s, char *what)
{
    size_t count = folder_count(s->folder);
    if (count < 3)
        return -1;
    unsigned n = 1 + roll(2);
    uint32_t first = folder_at(s->folder, roll(2) ? count - n : roll((unsigned)(count - n)))->uid;
    snprintf(what, TEXT, "expunge %u from UID %u on", n, first);
    for (size_t i = folder_lower_bound(s->folder, first), end = i + n; i < end; i++)
        assert_int_equal(folder_expunge(s->folder, folder_at(s->folder, i), &err), 0);
    assert_int_equal(folder_settle(s->folder, &err), 0);
    return 0;
}

static int
step_look(struct script *s, char *what)
{
    uint32_t moved;
    snprintf(what, TEXT, "%s", roll(2) ? "look" : "take new");
    assert_int_equal(folder_sync(s->folder, &err), 0);
    if (*what == 't')
        assert_int_equal(folder_take_new(s->folder, &moved, &err), 0);
    return 0;
}

static int
step_reopen(struct script *s, char *what)
{
    snprintf(what, TEXT, "open anew");
    folder_close(&s->folder);
    s->folder = folder_open(path, FOLDER_MBOX, &err);
    assert_non_null(s->folder);
    assert_int_equal(folder_sync(s->folder, &err), 0);
    return 0;
}

static const struct mbox_locking fcntl_only = {.kinds = MBOX_LOCK_FCNTL, .attempts = 20, .delay = SECONDS(1)};

static int
next_piece(void *ctx, struct slice *wire, struct err *why)
{
    struct slice *rest = ctx;
    (void)why;
    *wire = *rest;
    *rest = slice_make("", 0);
    return 0;
}

/* What another of our programs delivers; some messages bring a field of ours, with room in it. */
static int
step_deliver(struct script *s, char *what)
{
    unsigned id = s->next_id++;
    char *text = text_of(id);
    struct buf wire = {0};
    for (const char *at = text; *at; at++)
        buf_printf(&wire, "%s%c", *at == '\n' ? "\r" : "", *at);
    struct slice rest = buf_slice(&wire);
    struct letter letter = {.sender = "a@b.test", .arrival = 1795497611, .next = next_piece, .ctx = &rest};
    char head[200];
    snprintf(head, sizeof(head), "X-Keywords:%120s\n", "");
    letter.head = slice_from(id % 2 ? head : "");
    struct mbox mbox;
    struct store_fault fault;
    snprintf(what, TEXT, "deliver message %u", id);
    assert_int_equal(mbox_open(&mbox, path, MBOX_CREATE, &fcntl_only, &fault), 0);
    assert_int_equal(mbox_append(&mbox, &letter, LETTER_MBOX, 0, NULL, &fault), 0);
    mbox_close(&mbox);
    buf_release(&wire);
    free(text);
    return 0;
}

static void
note_step(struct script *s, const char *what, bool delivered)
{
    char why[TEXT];
    struct step *step = &s->steps[s->count];
    snprintf(step->what, sizeof(step->what), "%s", what);
    step->end = s->trace.count;
    if (delivered) {
        step->after = s->steps[s->count - 1].after;
        step->after.known[step->after.count++] = (struct known){.id = s->next_id - 1};
    } else if (take_snapshot(s->folder, &step->after, why) < 0) {
        fail_msg("%s: %s", what, why);
    }
    s->count++;
}

static void
run_script(struct script *s)
{
    static int (*const kinds[])(struct script *, char *) = {step_append,  step_append, step_flags,   step_flags,
                                                            step_expunge, step_look,   step_deliver, step_reopen};
    char what[TEXT];
    unlink(path);
    close(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    s->next_id = 1;
    s->folder = folder_open(path, FOLDER_MBOX, &err);
    assert_non_null(s->folder);
    assert_int_equal(folder_sync(s->folder, &err), 0);
    record_begin(&s->trace, path);
    note_step(s, "begin", false);
    while (s->count <= STEPS) {
        unsigned kind = s->count < 3 ? 0 : roll(sizeof(kinds) / sizeof(kinds[0]));
        if (kinds[kind](s, what) == 0)
            note_step(s, what, kinds[kind] == step_deliver);
    }
    record = NULL;
    folder_close(&s->folder);
}

/* ---- the states ---- */

/* What a cut is judged by. */
struct judge {
    const struct script *script;
    const struct snapshot *before, *after;
    const char *what; /* the command */
    size_t op;
    unsigned depth; /* 1: the repair was cut off */
    bool is_kill;
};

static void look_at_states(const struct trace *, struct judge *, const struct script *, unsigned sparse);

static void
add_foreign(void)
{
    char *text = text_of(0);
    FILE *f = fopen(state_path, "a");
    assert_non_null(f);
    fprintf(f, "From x Tue Nov 24 05:20:11 2026\n%s\n", text);
    assert_int_equal(fclose(f), 0);
    free(text);
}

static void
keep_evidence(const struct image *state)
{
    char name[300];
    snprintf(name, sizeof(name), "%s.damaged", directory);
    image_write_file(state, name);
}

/* Opens it as after a restart. */
static void
try_state(const struct image *state, const struct judge *judge, bool foreign, bool again)
{
    static struct snapshot found;
    struct trace *repair = calloc(1, sizeof(*repair));
    assert_non_null(repair);
    char why[TEXT];
    states++;
    image_write_file(state, state_path);
    if (foreign)
        add_foreign();
    if (!judge->is_kill)
        era++;
    record_begin(repair, state_path);
    if (!again)
        record = NULL;
    struct folder *folder = folder_open(state_path, FOLDER_MBOX, &err);
    assert_non_null(folder);
    int result = folder_sync(folder, &err);
    record = NULL;
    if (result < 0)
        (void)complain(why, "%s", err.text);
    else
        result = take_snapshot(folder, &found, why);
    folder_close(&folder);
    if (result == 0)
        result = compare(&found, judge->before, judge->after, why);
    if (result == 0 && foreign && !known_find(&found, 0))
        result = complain(why, "another program's message is lost");
    if (result < 0) {
        keep_evidence(state);
        fail_msg("cut%s in \"%s\" after change %zu%s%s: %s (%s.damaged is what was left)",
                 judge->is_kill ? " (kill)" : "", judge->what, judge->op, judge->depth ? ", and in the repair" : "",
                 foreign ? ", then a message of another program" : "", why, directory);
    }
    if (again && !foreign && repair->count > 0) {
        struct judge deeper = *judge;
        deeper.depth++;
        look_at_states(repair, &deeper, NULL, 7);
    }
    trace_release(repair);
    free(repair);
}

static bool seen[SEEN];

static bool
is_news(const struct image *state, const struct judge *judge)
{
    static const struct siphash_key none = {0};
    struct siphash_state sum;
    siphash_begin(&sum, &none);
    siphash_add(&sum, state->bytes, state->size);
    for (size_t i = 0; i < ATTRIBUTES; i++)
        if (state->attributes[i].is_set)
            siphash_add(&sum, state->attributes[i].value, state->attributes[i].len);
    siphash_add(&sum, &judge->before, sizeof(judge->before));
    siphash_add(&sum, &judge->after, sizeof(judge->after));
    siphash_add(&sum, &judge->is_kill, sizeof(judge->is_kill));
    bool *mark = &seen[siphash_end(&sum) % SEEN], news = !*mark;
    *mark = true;
    return news;
}

static void
try_choice(const struct window *w, size_t changes, enum choice choice, size_t special, const struct judge *judge)
{
    static struct image state[2]; /* for each depth */
    struct image *image = &state[judge->depth];
    make_state(w, changes, choice, special, image);
    if (is_news(image, judge))
        try_state(image, judge, roll(10) == 0, judge->depth == 0 && roll(12) == 0);
}

static void
try_cut(const struct window *w, struct judge *judge, unsigned sparse)
{
    judge->is_kill = false;
    for (size_t j = 0; j <= w->change_count; j++) {
        if (sparse > 1 && roll(sparse))
            continue;
        try_choice(w, j, OLDEST, 0, judge);
        try_choice(w, j, NEWEST, 0, judge);
        for (unsigned i = 0; i < RANDOM_STATES; i++)
            try_choice(w, j, ANY, 0, judge);
        for (size_t i = 0; i < w->version_count; i++) {
            if (roll(4) == 0)
                try_choice(w, j, ONE_OLD, w->versions[i].block, judge);
            if (roll(4) == 0)
                try_choice(w, j, ONE_NEW, w->versions[i].block, judge);
        }
    }
    if (judge->depth == 0) {
        judge->is_kill = true;
        try_choice(w, w->change_count, NEWEST, 0, judge);
    }
}

/* A cut after each change; script: whose commands these are (NULL: a repair's, and the judge is ready). */
static void
look_at_states(const struct trace *trace, struct judge *judge, const struct script *script, unsigned sparse)
{
    struct window *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    size_t step = 1;
    image_copy(&w->disk, &trace->start);
    image_copy(&w->memory, &trace->start);
    for (size_t i = 0; i < trace->count; i++) {
        window_add(w, &trace->ops[i]);
        if (script) {
            while (step < script->count && script->steps[step].end <= i)
                step++;
            if (step == script->count)
                break;
            bool is_done = script->steps[step].end == i + 1;
            judge->what = script->steps[step].what;
            judge->after = &script->steps[step].after;
            judge->before = is_done ? judge->after : &script->steps[step - 1].after;
        }
        if (judge->depth == 0)
            judge->op = i;
        try_cut(w, judge, sparse);
    }
    free(w->disk.bytes);
    free(w->memory.bytes);
    free(w->versions);
    free(w);
}

static void
test_no_cut_loses_or_damages_anything(void **state)
{
    const char *count = getenv("MBOX_CUTS"), *seed = getenv("MBOX_CUTS_SEED");
    unsigned long n = count ? strtoul(count, NULL, 10) : 3, first = seed ? strtoul(seed, NULL, 10) : 1;
    (void)state;
    close(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (setxattr(path, "user.postern.probe", "", 0, 0) < 0)
        skip();
    folder_configure_mbox(&fcntl_only, NULL);
    for (unsigned long i = first; i < first + n; i++) {
        struct script *script = calloc(1, sizeof(*script));
        assert_non_null(script);
        dice = 0x9e3779b97f4a7c15U * (i + 1);
        memset(seen, 0, sizeof(seen));
        run_script(script);
        struct judge judge = {.script = script};
        look_at_states(&script->trace, &judge, script, 1);
        trace_release(&script->trace);
        free(script);
        if (count)
            print_message("seed %lu: %lu states\n", i, states);
    }
    assert_true(states > 100 * n);
}

static int
set_up(void **state)
{
    (void)state;
    char name[] = "/var/tmp/test_mbox_cuts.XXXXXX"; /* on a disk: /tmp may be one without extended attributes */
    directory = strdup(mkdtemp(name));
    snprintf(path, sizeof(path), "%s/box", directory);
    snprintf(state_path, sizeof(state_path), "%s/state", directory);
    setenv("TZ", "UTC", 1);
    return 0;
}

static int
tear_down(void **state)
{
    char command[300];
    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    int result = system(command);
    free(directory);
    return result;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_cut_loses_or_damages_anything)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
