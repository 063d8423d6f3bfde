/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/fulltext.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/store/fulltext_file.h"

enum {
    TRIGRAMS = 1 << 24,
    TRIGRAM = 3,
    TOKEN = 6,               /* letters for a trigram: fulltext.h */
    MOST_TRIGRAMS = 1 << 18, /* of a message */
    MOST_WANTED = 24,        /* of what is looked for: more make no difference */
    KEPT_FOLDERS = 4,        /* whose lists of UIDs are in memory */
    COMMIT_AFTER = 2 << 20,  /* tokens in a transaction */
    HASH_SIZE = 4 << 20,     /* bytes of new tokens that FTS5 holds in memory */
    CACHE_SIZE = 2 << 10,    /* KiB of pages that SQLite holds */
    LEAST_DEAD = 1000, /* rows of messages that are gone; from then on, and if they are the most, the table goes */
    BITS = INDEX_RUN / 64,
    FORM_SIZE = 200
};

struct run {
    uint32_t number; /* UID / INDEX_RUN */
    bool is_changed;
    uint64_t bits[BITS];
    uint32_t identity[INDEX_RUN];
};

struct fulltext_run_bits {
    uint32_t number;
    uint64_t bits[BITS];
};

/* What is known of a folder. The latest used is the first. */
struct table {
    struct table *next;
    struct index_key key;
    sqlite3_int64 id; /* FTS5's table is "t" and this */
    sqlite3_int64 dead;
    bool is_dead_changed;
    struct run *runs;
    size_t count, size;
    sqlite3_stmt *insert;
};

struct fulltext {
    char *path;
    struct fulltext_file *file;
    sqlite3 *db; /* NULL: it failed */
    struct table *tables;
    bool in_transaction;
    size_t tokens; /* in the transaction */
    /* The message that is being added. */
    unsigned char *seen; /* a bit for each trigram that there can be */
    uint32_t *trigrams;
    size_t count;
    bool is_over;
};

/* ---- failures ---- */

static void
release_table(struct table *table)
{
    sqlite3_finalize(table->insert);
    free(table->runs);
    free(table);
}

static void
release_database(struct fulltext *ft, bool discard)
{
    while (ft->tables) {
        struct table *table = ft->tables;
        ft->tables = table->next;
        release_table(table);
    }
    if (ft->db)
        check(sqlite3_close(ft->db) == SQLITE_OK);
    ft->db = NULL;
    fulltext_file_close(&ft->file, discard);
}

static int
failed(struct fulltext *ft, const char *what)
{
    if (ft->db) {
        bool by_sqlite = sqlite3_errcode(ft->db) != SQLITE_OK;
        log_warning("%s: full-text index: %s%s%s; searches read all messages, and it is made anew", ft->path, what,
                    by_sqlite ? ": " : "", by_sqlite ? sqlite3_errmsg(ft->db) : "");
    }
    release_database(ft, true);
    return -1;
}

/* ---- SQL ---- */

static int run_sql(struct fulltext *, const char *fmt, ...) PRINTF_LIKE(2, 3);

static int
run_sql(struct fulltext *ft, const char *fmt, ...)
{
    char text[400];
    va_list args;
    if (!ft->db)
        return -1;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    check(len > 0 && (size_t)len < sizeof(text));
    return sqlite3_exec(ft->db, text, NULL, NULL, NULL) == SQLITE_OK ? 0 : failed(ft, text);
}

static sqlite3_stmt *
prepare(struct fulltext *ft, const char *text)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(ft->db, text, -1, &statement, NULL) == SQLITE_OK)
        return statement;
    failed(ft, text);
    return NULL;
}

/* Runs one that gives nothing, and lets it go. */
static int
finish(struct fulltext *ft, sqlite3_stmt *statement)
{
    int code = sqlite3_step(statement);
    sqlite3_finalize(statement);
    return code == SQLITE_DONE ? 0 : failed(ft, "write");
}

static int
begin(struct fulltext *ft)
{
    if (ft->in_transaction)
        return 0;
    ft->in_transaction = true;
    ft->tokens = 0;
    return run_sql(ft, "BEGIN");
}

/* ---- the tokenizer: text is tokens, one behind the other ---- */

/* A trigram, stirred, as letters of four bits each: FTS5's hash function makes long chains of short tokens that are alike (five times
 * the time), and letters need no quoting. */
static void
put_token(uint32_t trigram, char *out)
{
    uint32_t stirred = trigram * 0x9e3779b1U & (TRIGRAMS - 1); /* an odd factor: no two become one */
    for (unsigned i = 0; i < TOKEN; i++)
        out[i] = (char)('a' + (stirred >> (4 * i) & 15));
}

static int
tokenizer_create(void *ctx, const char **args, int count, Fts5Tokenizer **out)
{
    static char nothing;
    (void)ctx;
    (void)args;
    (void)count;
    *out = (Fts5Tokenizer *)(void *)&nothing;
    return SQLITE_OK;
}

static void
tokenizer_delete(Fts5Tokenizer *tokenizer)
{
    (void)tokenizer;
}

static int
tokenizer_run(Fts5Tokenizer *tokenizer, void *ctx, int flags, const char *text, int len,
              int (*take)(void *, int, const char *, int, int, int))
{
    int code = SQLITE_OK;
    (void)tokenizer;
    (void)flags;
    for (int at = 0; code == SQLITE_OK && at + TOKEN <= len; at += TOKEN)
        code = take(ctx, 0, text + at, TOKEN, at, at + TOKEN);
    return code;
}

static int
add_tokenizer(struct fulltext *ft)
{
    static fts5_tokenizer tokenizer = {tokenizer_create, tokenizer_delete, tokenizer_run};
    fts5_api *api = NULL;
    sqlite3_stmt *statement = prepare(ft, "SELECT fts5(?1)");
    if (!statement)
        return -1;
    sqlite3_bind_pointer(statement, 1, &api, "fts5_api_ptr", NULL);
    int code = sqlite3_step(statement);
    sqlite3_finalize(statement);
    if (code != SQLITE_ROW || !api || api->xCreateTokenizer(api, "trigrams", NULL, &tokenizer, NULL) != SQLITE_OK)
        return failed(ft, "FTS5");
    return 0;
}

/* ---- opening ---- */

/* 1: the file's is the same; 0: there is none, or another. */
static int
has_form(struct fulltext *ft, const char *form)
{
    bool same = false;
    sqlite3_stmt *statement = prepare(ft, "SELECT count(*) FROM sqlite_schema");
    if (!statement)
        return -1;
    int code = sqlite3_step(statement);
    bool is_empty = code == SQLITE_ROW && sqlite3_column_int(statement, 0) == 0;
    sqlite3_finalize(statement);
    if (code != SQLITE_ROW)
        return failed(ft, "read");
    if (is_empty)
        return 0;
    statement = prepare(ft, "SELECT form FROM about");
    if (!statement)
        return -1;
    code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        same = strcmp((const char *)sqlite3_column_text(statement, 0), form) == 0;
    sqlite3_finalize(statement);
    if (code == SQLITE_ROW && same)
        return 1;
    return failed(ft, "it was made in another way");
}

static int
make_tables(struct fulltext *ft, const char *form)
{
    check(strlen(form) < FORM_SIZE && !strchr(form, '\''));
    return begin(ft) == 0 && run_sql(ft, "CREATE TABLE about (form TEXT)") == 0 &&
                   run_sql(ft, "INSERT INTO about VALUES ('%s')", form) == 0 &&
                   run_sql(ft, "CREATE TABLE folder (id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB UNIQUE NOT NULL, "
                               "dead INTEGER NOT NULL)") == 0 &&
                   run_sql(ft, "CREATE TABLE run (folder INTEGER, number INTEGER, bits BLOB NOT NULL, identity BLOB "
                               "NOT NULL, PRIMARY KEY (folder, number)) WITHOUT ROWID") == 0
               ? 0
               : -1;
}

static int
open_database(struct fulltext *ft, const char *form, struct err *err)
{
    ft->file = fulltext_file_open(ft->path, err);
    if (!ft->file || fulltext_file_database(ft->file, &ft->db, err) < 0)
        return -1;
    int found = -1;
    if (run_sql(ft,
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; "
                "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-%d; PRAGMA trusted_schema=OFF",
                CACHE_SIZE) == 0 &&
        add_tokenizer(ft) == 0)
        found = has_form(ft, form);
    if (found == 0)
        found = make_tables(ft, form) < 0 ? -1 : 1;
    return found < 0 ? err_set(err, ERR_IO, "%s: full-text index: failed", ft->path) : 0;
}

struct fulltext *
fulltext_open(const char *directory, const char *form, struct err *err)
{
    struct fulltext *ft = calloc(1, sizeof(*ft));
    if (!ft)
        fatal("out of memory");
    ft->path = text_copy(directory);
    if (open_database(ft, form, err) == 0)
        return ft;
    if (ft->file) /* one that was damaged, or made in another way: once more, from nothing */
        release_database(ft, true);
    else if (err->kind == ERR_TEMP)
        goto out;
    ft->in_transaction = false;
    if (open_database(ft, form, err) == 0)
        return ft;
out:
    release_database(ft, ft->file != NULL);
    free(ft->path);
    free(ft);
    return NULL;
}

void
fulltext_close(struct fulltext **pointer)
{
    struct fulltext *ft = *pointer;
    if (!ft)
        return;
    fulltext_flush(ft);
    release_database(ft, false);
    free(ft->seen);
    free(ft->trigrams);
    free(ft->path);
    free(ft);
    *pointer = NULL;
}

bool
fulltext_is_usable(const struct fulltext *ft)
{
    return ft->db != NULL;
}

bool
fulltext_exists(const char *directory)
{
    return fulltext_file_exists(directory);
}

/* ---- which UIDs are indexed ---- */

static int
write_runs(struct fulltext *ft, struct table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        struct run *run = &table->runs[i];
        if (!run->is_changed)
            continue;
        sqlite3_stmt *statement;
        if (begin(ft) < 0 || !(statement = prepare(ft, "INSERT OR REPLACE INTO run VALUES (?1, ?2, ?3, ?4)")))
            return -1;
        sqlite3_bind_int64(statement, 1, table->id);
        sqlite3_bind_int64(statement, 2, run->number);
        sqlite3_bind_blob(statement, 3, run->bits, sizeof(run->bits), SQLITE_STATIC);
        sqlite3_bind_blob(statement, 4, run->identity, sizeof(run->identity), SQLITE_STATIC);
        if (finish(ft, statement) < 0)
            return -1;
        run->is_changed = false;
    }
    if (!table->is_dead_changed)
        return 0;
    table->is_dead_changed = false;
    return begin(ft) == 0 ? run_sql(ft, "UPDATE folder SET dead = %lld WHERE id = %lld", (long long)table->dead,
                                    (long long)table->id)
                          : -1;
}

static struct run *
add_run(struct table *table, uint32_t number)
{
    if (table->count == table->size) {
        table->size = table->size ? 2 * table->size : 8;
        table->runs = realloc(table->runs, table->size * sizeof(*table->runs));
        if (!table->runs)
            fatal("out of memory");
    }
    struct run *run = &table->runs[table->count++];
    *run = (struct run){.number = number};
    return run;
}

/* In the order of the numbers. */
static int
load_runs(struct fulltext *ft, struct table *table)
{
    int code;
    bool good = true;
    sqlite3_stmt *statement = prepare(ft, "SELECT number, bits, identity FROM run WHERE folder = ?1 ORDER BY number");
    if (!statement)
        return -1;
    sqlite3_bind_int64(statement, 1, table->id);
    while ((code = sqlite3_step(statement)) == SQLITE_ROW && good) {
        struct run *run = add_run(table, (uint32_t)sqlite3_column_int64(statement, 0));
        const void *bits = sqlite3_column_blob(statement, 1), *identity = sqlite3_column_blob(statement, 2);
        good = sqlite3_column_bytes(statement, 1) == sizeof(run->bits) &&
               sqlite3_column_bytes(statement, 2) == sizeof(run->identity) && bits && identity;
        if (good) {
            memcpy(run->bits, bits, sizeof(run->bits));
            memcpy(run->identity, identity, sizeof(run->identity));
        }
    }
    sqlite3_finalize(statement);
    return good && code == SQLITE_DONE ? 0 : failed(ft, "read");
}

/* 1: there; 0: not; -1: failed */
static int
load_table(struct fulltext *ft, const struct index_key *key, struct table *table)
{
    sqlite3_stmt *statement = prepare(ft, "SELECT id, dead FROM folder WHERE key = ?1");
    if (!statement)
        return -1;
    sqlite3_bind_blob(statement, 1, key->bytes, INDEX_KEY, SQLITE_STATIC);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        table->id = sqlite3_column_int64(statement, 0);
        table->dead = sqlite3_column_int64(statement, 1);
    }
    sqlite3_finalize(statement);
    if (code == SQLITE_ROW)
        return load_runs(ft, table) < 0 ? -1 : 1;
    return code == SQLITE_DONE ? 0 : failed(ft, "read");
}

/* Contentless, without sizes, and without places in the text: of each trigram the rows that have it. */
static int
make_table(struct fulltext *ft, const struct index_key *key, struct table *table)
{
    sqlite3_stmt *statement;
    if (begin(ft) < 0 || !(statement = prepare(ft, "INSERT INTO folder (key, dead) VALUES (?1, 0)")))
        return -1;
    sqlite3_bind_blob(statement, 1, key->bytes, INDEX_KEY, SQLITE_STATIC);
    if (finish(ft, statement) < 0)
        return -1;
    table->id = sqlite3_last_insert_rowid(ft->db);
    long long id = (long long)table->id;
    if (run_sql(ft,
                "CREATE VIRTUAL TABLE t%lld USING fts5(x, content='', columnsize=0, detail=none, tokenize='trigrams')",
                id) < 0)
        return -1;
    return run_sql(ft, "INSERT INTO t%lld (t%lld, rank) VALUES ('hashsize', %d)", id, id, HASH_SIZE);
}

static int
prepare_insert(struct fulltext *ft, struct table *table)
{
    char text[80];
    snprintf(text, sizeof(text), "INSERT INTO t%lld (rowid, x) VALUES (?1, ?2)", (long long)table->id);
    table->insert = prepare(ft, text);
    return table->insert ? 0 : -1;
}

/* The one that was not used for the longest time is written, and goes. */
static int
drop_last(struct fulltext *ft)
{
    unsigned count = 0;
    struct table **at = &ft->tables;
    while (*at && (*at)->next) {
        at = &(*at)->next;
        count++;
    }
    if (count < KEPT_FOLDERS)
        return 0;
    struct table *last = *at;
    if (write_runs(ft, last) < 0)
        return -1;
    *at = NULL;
    release_table(last);
    return 0;
}

/* NULL: there is none (and make is false), or the index failed. */
static struct table *
find_table(struct fulltext *ft, const struct index_key *key, bool make)
{
    for (struct table **at = &ft->tables; *at; at = &(*at)->next) {
        struct table *table = *at;
        if (memcmp(&table->key, key, sizeof(*key)) != 0)
            continue;
        *at = table->next;
        table->next = ft->tables;
        ft->tables = table;
        return table;
    }
    struct table *table = calloc(1, sizeof(*table));
    if (!table)
        fatal("out of memory");
    table->key = *key;
    int found = load_table(ft, key, table);
    if (found == 0 && make)
        found = make_table(ft, key, table) < 0 ? -1 : 1;
    if (found <= 0 || drop_last(ft) < 0) {
        release_table(table);
        return NULL;
    }
    table->next = ft->tables;
    ft->tables = table;
    return table;
}

static void
forget(struct fulltext *ft, const struct index_key *key)
{
    struct table *table = find_table(ft, key, false);
    if (!table)
        return;
    long long id = (long long)table->id;
    ft->tables = table->next; /* find_table() has made it the first */
    release_table(table);
    if (begin(ft) == 0 && run_sql(ft, "DROP TABLE t%lld", id) == 0 &&
        run_sql(ft, "DELETE FROM run WHERE folder = %lld", id) == 0)
        (void)run_sql(ft, "DELETE FROM folder WHERE id = %lld", id);
}

void
fulltext_forget(struct fulltext *ft, const struct index_key *key)
{
    if (!ft->db)
        return;
    forget(ft, key);
    fulltext_flush(ft);
}

static unsigned
count_bits(const uint64_t bits[BITS])
{
    unsigned count = 0;
    for (unsigned i = 0; i < BITS; i++)
        count += (unsigned)__builtin_popcountll(bits[i]);
    return count;
}

static bool
has_bit(const uint64_t bits[BITS], uint32_t uid)
{
    return bits[uid % INDEX_RUN / 64] >> (uid % 64) & 1;
}

/* Takes out of the run what the folder has not, or another message has now. */
static void
compare_run(struct folder *folder, struct table *table, struct run *run)
{
    uint32_t now[INDEX_RUN];
    unsigned before = count_bits(run->bits);
    if (before == 0)
        return;
    folder_identify(folder, run->number, now);
    for (uint32_t i = 0; i < INDEX_RUN; i++)
        if (has_bit(run->bits, i) && (now[i] == 0 || now[i] != run->identity[i]))
            run->bits[i / 64] &= ~(UINT64_C(1) << (i % 64));
    unsigned gone = before - count_bits(run->bits);
    table->dead += gone;
    run->is_changed = run->is_changed || gone > 0;
    table->is_dead_changed = table->is_dead_changed || gone > 0;
}

void
fulltext_known(struct fulltext *ft, struct folder *folder, struct arena *arena, struct fulltext_known *known)
{
    *known = (struct fulltext_known){0};
    struct index_key key = folder_key(folder);
    struct table *table = ft->db ? find_table(ft, &key, false) : NULL;
    if (!table)
        return;
    sqlite3_int64 live = 0;
    for (size_t i = 0; i < table->count; i++) {
        compare_run(folder, table, &table->runs[i]);
        live += count_bits(table->runs[i].bits);
    }
    if (table->dead > LEAST_DEAD && table->dead > live) { /* FTS5 can't take a row out whose text is gone */
        forget(ft, &key);
        return;
    }
    known->runs = arena_array(arena, table->count + 1, sizeof(*known->runs));
    known->count = table->count;
    for (size_t i = 0; i < table->count; i++) {
        known->runs[i].number = table->runs[i].number;
        memcpy(known->runs[i].bits, table->runs[i].bits, sizeof(known->runs[i].bits));
    }
}

bool
fulltext_has(struct fulltext *ft, struct folder *folder, uint32_t uid)
{
    struct index_key key = folder_key(folder);
    const struct table *table = ft->db ? find_table(ft, &key, false) : NULL;
    for (size_t i = 0; table && i < table->count; i++)
        if (table->runs[i].number == uid / INDEX_RUN)
            return has_bit(table->runs[i].bits, uid);
    return false;
}

bool
fulltext_is_known(const struct fulltext_known *known, uint32_t uid)
{
    size_t low = 0, high = known->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (known->runs[middle].number < uid / INDEX_RUN)
            low = middle + 1;
        else
            high = middle;
    }
    return low < known->count && known->runs[low].number == uid / INDEX_RUN && has_bit(known->runs[low].bits, uid);
}

/* ---- trigrams ---- */

/* Trigrams with control characters (line ends too) are not kept: nobody looks for them, and there are many. */
static bool
is_control(unsigned char byte)
{
    return byte < 32 || byte == 127;
}

static bool
is_kept(const unsigned char *at)
{
    for (unsigned i = 0; i < TRIGRAM; i++)
        if (is_control(at[i]))
            return false;
    return true;
}

/* All trigrams of the text as FTS5 wants them, some left out if there are many; false: none. */
static bool
put_wanted(struct slice text, struct buf *out)
{
    unsigned count = 0;
    size_t step = 1 + text.len / MOST_WANTED;
    for (size_t i = 0; i + TRIGRAM <= text.len && count < MOST_WANTED; i += step) {
        const unsigned char *at = (const unsigned char *)text.ptr + i;
        char token[TOKEN];
        if (!is_kept(at))
            continue;
        put_token((uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2], token);
        buf_append_text(out, count++ ? " AND " : "");
        buf_append(out, token, TOKEN);
    }
    return count > 0;
}

static int
collect(struct fulltext *ft, sqlite3_stmt *statement, struct buf *rows)
{
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        uint32_t uid = (uint32_t)sqlite3_column_int64(statement, 0);
        buf_append(rows, &uid, sizeof(uid));
    }
    sqlite3_finalize(statement);
    return code == SQLITE_DONE ? 0 : failed(ft, "search");
}

bool
fulltext_find(struct fulltext *ft, struct folder *folder, struct slice text, struct arena *arena, uint32_t **uids,
              size_t *count)
{
    char query[100];
    struct buf wanted = {0}, rows = {0};
    struct index_key key = folder_key(folder);
    struct table *table = ft->db ? find_table(ft, &key, false) : NULL;
    sqlite3_stmt *statement = NULL;
    if (!table || !put_wanted(text, &wanted))
        goto out;
    snprintf(query, sizeof(query), "SELECT rowid FROM t%lld WHERE t%lld MATCH ?1 ORDER BY rowid", (long long)table->id,
             (long long)table->id);
    statement = prepare(ft, query);
    if (!statement)
        goto out;
    sqlite3_bind_text(statement, 1, wanted.ptr, (int)wanted.len, SQLITE_STATIC);
    if (collect(ft, statement, &rows) < 0)
        statement = NULL;
out:
    if (statement) {
        *count = rows.len / sizeof(**uids);
        *uids = arena_array(arena, *count + 1, sizeof(**uids));
        if (*count > 0)
            memcpy(*uids, rows.ptr, rows.len);
    }
    buf_release(&wanted);
    buf_release(&rows);
    return statement != NULL;
}

/* ---- adding ---- */

void
fulltext_add_begin(struct fulltext *ft)
{
    if (!ft->seen &&
        (!(ft->seen = calloc(1, TRIGRAMS / 8)) || !(ft->trigrams = calloc(MOST_TRIGRAMS, sizeof(*ft->trigrams)))))
        fatal("out of memory");
    ft->count = 0;
    ft->is_over = false;
}

void
fulltext_add_piece(struct fulltext *ft, struct slice folded)
{
    const unsigned char *at = (const unsigned char *)folded.ptr;
    uint32_t trigram = 0;
    unsigned good = 0; /* bytes behind each other that are kept */
    for (size_t i = 0; i < folded.len && !ft->is_over; i++) {
        good = is_control(at[i]) ? 0 : good + 1;
        trigram = (trigram << 8 | at[i]) & (TRIGRAMS - 1);
        if (good < TRIGRAM || (ft->seen[trigram / 8] >> (trigram % 8) & 1))
            continue;
        if (ft->count == MOST_TRIGRAMS) {
            ft->is_over = true;
            break;
        }
        ft->seen[trigram / 8] |= (unsigned char)(1 << (trigram % 8));
        ft->trigrams[ft->count++] = trigram;
    }
}

static int
insert(struct fulltext *ft, struct table *table, uint32_t uid)
{
    struct buf text = {0};
    char *out = buf_reserve(&text, ft->count * TOKEN + 1);
    for (size_t i = 0; i < ft->count; i++)
        put_token(ft->trigrams[i], out + i * TOKEN);
    int code = SQLITE_ERROR;
    if (begin(ft) == 0 && (table->insert || prepare_insert(ft, table) == 0)) {
        sqlite3_bind_int64(table->insert, 1, uid);
        sqlite3_bind_text(table->insert, 2, out, (int)(ft->count * TOKEN), SQLITE_STATIC);
        code = sqlite3_step(table->insert);
        sqlite3_reset(table->insert);
        sqlite3_clear_bindings(table->insert);
        if (code != SQLITE_DONE)
            failed(ft, "write");
    }
    buf_release(&text);
    return code == SQLITE_DONE ? 0 : -1;
}

static void
add_to_run(struct table *table, uint32_t uid, uint32_t identity)
{
    size_t at = 0;
    while (at < table->count && table->runs[at].number < uid / INDEX_RUN)
        at++;
    if (at == table->count || table->runs[at].number != uid / INDEX_RUN) {
        (void)add_run(table, uid / INDEX_RUN);
        memmove(table->runs + at + 1, table->runs + at, (table->count - 1 - at) * sizeof(*table->runs));
        table->runs[at] = (struct run){.number = uid / INDEX_RUN};
    }
    struct run *run = &table->runs[at];
    run->bits[uid % INDEX_RUN / 64] |= UINT64_C(1) << (uid % 64);
    run->identity[uid % INDEX_RUN] = identity;
    run->is_changed = true;
}

void
fulltext_add_end(struct fulltext *ft, struct folder *folder, uint32_t uid)
{
    uint32_t now[INDEX_RUN];
    for (size_t i = 0; i < ft->count; i++)
        ft->seen[ft->trigrams[i] / 8] = 0;
    if (!ft->db || ft->is_over)
        return;
    folder_identify(folder, uid / INDEX_RUN, now);
    struct index_key key = folder_key(folder);
    struct table *table = now[uid % INDEX_RUN] ? find_table(ft, &key, true) : NULL;
    if (!table || insert(ft, table, uid) < 0)
        return;
    add_to_run(table, uid, now[uid % INDEX_RUN]);
    ft->tokens += ft->count;
    if (ft->tokens >= COMMIT_AFTER && write_runs(ft, table) == 0 && run_sql(ft, "COMMIT") == 0)
        ft->in_transaction = false;
}

void
fulltext_flush(struct fulltext *ft)
{
    struct err err;
    for (struct table *table = ft->tables; ft->db && table; table = table->next)
        if (write_runs(ft, table) < 0)
            return;
    if (ft->db && ft->in_transaction && run_sql(ft, "COMMIT") < 0)
        return;
    ft->in_transaction = false;
    if (ft->db && fulltext_file_settle(ft->file, &err) < 0)
        failed(ft, err.text);
    if (ft->db)
        sqlite3_db_release_memory(ft->db);
    free(ft->seen);
    free(ft->trigrams);
    ft->seen = NULL;
    ft->trigrams = NULL;
}
