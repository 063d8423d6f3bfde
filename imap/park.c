/* SPDX-License-Identifier: Apache-2.0 */
/* The state: numbers as 7 bits a byte, the lowest first. */
#include "imap/park.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imap/settings.h"
#include "lib/base/check.h"
#include "lib/base/log.h"
#include "lib/base/siphash.h"
#include "lib/run/loop.h"
#include "lib/service/user_process.h"

enum { STATE_VERSION = 1, UID_LIMIT = 1 << 24 };
enum { HAS_MAILBOX = 1, IS_IDLING = 2, IS_READ_ONLY = 4, HAS_UTF8 = 8, HAS_REV2 = 16, HAS_SAVED = 32, HAS_UID_ONLY = 64,
       HAS_CONDSTORE = 128, HAS_QRESYNC = 256 };

/* A directory that was changed so lately may change again without a new time. */
#define QUIET_TIME (50 * 1000)

/* ---- numbers ---- */

static void
put_number(struct buf *out, uint64_t n)
{
    for (; n > 127; n >>= 7)
        buf_append_byte(out, (char)(n | 128));
    buf_append_byte(out, (char)n);
}

static bool
take_number(struct slice *bytes, uint64_t most, uint64_t *n)
{
    *n = 0;
    for (unsigned shift = 0; bytes->len > 0 && shift < 63; shift += 7) {
        unsigned char byte = (unsigned char)*bytes->ptr;
        *bytes = slice_make(bytes->ptr + 1, bytes->len - 1);
        *n |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128))
            return *n <= most;
    }
    return false;
}

static int
bad_state(struct err *err)
{
    return err_set(err, ERR_SYNTAX, "the state of a parked session makes no sense");
}

/* ---- UIDs as ranges: a number of them, then for each the distance from the one before and its length ---- */

static void
put_uids(struct buf *out, const uint32_t *uids, size_t count)
{
    struct buf ranges = {0};
    size_t range_count = 0;
    uint32_t last = 0;
    for (size_t i = 0; i < count;) {
        size_t from = i;
        for (i++; i < count && uids[i] == uids[i - 1] + 1; i++)
            ;
        put_number(&ranges, uids[from] - last);
        put_number(&ranges, i - from);
        last = uids[i - 1];
        range_count++;
    }
    put_number(out, range_count);
    buf_append_slice(out, buf_slice(&ranges));
    buf_release(&ranges);
}

static int
take_uids(struct slice *bytes, uint32_t **uids, size_t *count, struct err *err)
{
    uint64_t ranges, distance, length, last = 0;
    size_t size = 0;
    *uids = NULL;
    *count = 0;
    if (!take_number(bytes, UID_LIMIT, &ranges))
        return bad_state(err);
    for (; ranges > 0; ranges--) {
        if (!take_number(bytes, UINT32_MAX, &distance) || !take_number(bytes, UID_LIMIT, &length) || distance == 0 ||
            length == 0 || last + distance + length - 1 > UINT32_MAX || *count + length > UID_LIMIT)
            return bad_state(err);
        if (*count + length > size) {
            size = *count + length + size / 2;
            *uids = realloc(*uids, size * sizeof(**uids));
            if (!*uids)
                fatal("out of memory");
        }
        last += distance;
        for (uint64_t i = 0; i < length; i++)
            (*uids)[(*count)++] = (uint32_t)(last + i);
        last += length - 1;
    }
    return 0;
}

/* ---- the view ---- */

static size_t
block_size(size_t count)
{
    return (count + PARK_BLOCKS - 1) / PARK_BLOCKS;
}

/* One of these messages with other flags has another sum, but for one case in 2^32. */
static uint32_t
sum_flags(const struct view *view, const struct folder *folder, size_t from, size_t to)
{
    static const struct siphash_key key = {0x706f737465726e, 0x7061726b};
    struct siphash_state sum;
    siphash_begin(&sum, &key);
    for (size_t i = from; i < to && i < view->count; i++) {
        const struct folder_message *message = folder_find(folder, view->uids[i]);
        uint32_t words[3] = {view->uids[i], message ? message->flags : UINT32_MAX, message ? message->keywords : 0};
        siphash_add(&sum, words, sizeof(words));
    }
    return (uint32_t)siphash_end(&sum);
}

void
park_encode_view(const struct view *view, const struct folder *folder, struct buf *out)
{
    size_t step = block_size(view->count);
    put_number(out, view->recent_from);
    put_uids(out, view->uids, view->count);
    for (size_t i = 0; i < view->count; i += step) {
        uint32_t sum = sum_flags(view, folder, i, i + step);
        buf_append(out, &sum, sizeof(sum));
    }
}

int
park_decode_view(struct view *view, const struct folder *folder, struct slice *bytes, struct err *err)
{
    uint64_t recent;
    *view = (struct view){
        .uid_validity = folder_uid_validity(folder), .change = folder_change(folder), .restored = true};
    if (!take_number(bytes, UINT32_MAX, &recent) || take_uids(bytes, &view->uids, &view->count, err) < 0)
        return bad_state(err);
    view->size = view->count;
    view->recent_from = (uint32_t)recent;
    size_t step = block_size(view->count);
    for (size_t i = 0; i < view->count; i += step) {
        uint32_t sum;
        if (bytes->len < sizeof(sum))
            return bad_state(err);
        memcpy(&sum, bytes->ptr, sizeof(sum));
        *bytes = slice_make(bytes->ptr + sizeof(sum), bytes->len - sizeof(sum));
        if (sum == sum_flags(view, folder, i, i + step))
            continue;
        for (size_t n = i; n < i + step && n < view->count; n++)
            view_doubt(view, view->uids[n]);
    }
    return 0;
}

/* ---- parking ---- */

static bool
session_is_parkable(const struct session *s)
{
    return settings.park_time > 0 && !s->cannot_park && !s->compressed && !s->done && !s->stopping &&
           stream_buffered(s->stream) == 0;
}

static void
encode_state(const struct session *s, bool idling, usec_t due, struct buf *out)
{
    unsigned flags = (s->selected ? HAS_MAILBOX : 0) | (idling ? IS_IDLING : 0) | (s->read_only ? IS_READ_ONLY : 0) |
                     (s->utf8 ? HAS_UTF8 : 0) | (s->rev2 ? HAS_REV2 : 0) | (s->saved_count > 0 ? HAS_SAVED : 0) |
                     (s->uid_only ? HAS_UID_ONLY : 0) | (s->condstore ? HAS_CONDSTORE : 0) |
                     (s->qresync ? HAS_QRESYNC : 0);
    put_number(out, STATE_VERSION);
    put_number(out, flags);
    put_number(out, (uint64_t)due);
    put_number(out, s->bytes_out);
    if (!s->selected)
        return;
    put_number(out, strlen(s->selected->name));
    buf_append_text(out, s->selected->name);
    put_number(out, folder_uid_validity(s->selected->folder));
    park_encode_view(&s->view, s->selected->folder, out);
    if (s->saved_count > 0)
        put_uids(out, s->saved, s->saved_count);
}

/* Opens what is to be watched. False: it can't be, or something changed just now; or (an open directory tells nobody of its end) the
 * mailbox was removed, and the session ends. */
static bool
open_watches(struct session *s, struct user_parking *parking)
{
    static const char *const names[] = {"cur", "new"};
    const int64_t second = 1000000000;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct stat st;
        int fd = openat(folder_fd(s->selected->folder), names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && errno == ENOENT) {
            struct err err;
            err_set(&err, ERR_PERM, "mailbox %s was removed", s->selected->name);
            session_lose_mailbox(s, &err);
        }
        if (fd < 0)
            return false;
        parking->watches[parking->watch_count++] = fd;
        if (fstat(fd, &st) < 0)
            return false;
        parking->changed[i] = st.st_mtim.tv_sec * second + st.st_mtim.tv_nsec;
        if (parking->changed[i] < 0 || loop_now_wall() * 1000 - parking->changed[i] < QUIET_TIME * 1000)
            return false;
    }
    return true;
}

static bool may_wait
give_away(struct session *s, struct user_parking *parking, bool idling, usec_t due)
{
    struct msg_session message = *s->from;
    struct buf state = {0};
    struct err err;
    if (session_sync(s, idling, &err) < 0 || stream_flush(s->stream, &err) < 0 || stream_has_input(s->stream))
        return false;
    message.tag = idling ? s->tag : "";
    parking->tells_new = idling && s->selected && !s->qresync && !s->uid_only;
    parking->known = (uint32_t)s->view.count;
    parking->recent = (uint32_t)view_count_recent(&s->view);
    parking->new_is_recent = view_is_recent(&s->view, UINT32_MAX - 1);
    encode_state(s, idling, due, &state);
    parking->state = buf_slice(&state);
    parking->fd = stream_fd(s->stream);
    parking->due = due;
    if (state.len > USER_STATE_LIMIT || user_process_park(parking, &message, &err) < 0)
        s->cannot_park = true;
    buf_release(&state);
    return !s->cannot_park;
}

bool
session_park(struct session *s, bool idling, usec_t due)
{
    struct user_parking parking = {0};
    if (!session_is_parkable(s))
        return false;
    stream_set_deadline(s->stream, loop_now() + SECONDS(10));
    /* A session that is not told changes need not be woken by them. */
    if (!idling || !s->selected || open_watches(s, &parking))
        s->parked = give_away(s, &parking, idling, due);
    for (unsigned i = 0; i < parking.watch_count; i++)
        close(parking.watches[i]);
    if (s->parked)
        s->done = true;
    return s->parked;
}

/* ---- and back ---- */

static int
take_mailbox(struct session *s, struct slice *state, unsigned flags, struct err *err)
{
    uint64_t length, validity;
    if (!take_number(state, MAILBOX_NAME_LIMIT, &length) || state->len < length)
        return bad_state(err);
    const char *name = arena_strndup(s->arena, state->ptr, length);
    *state = slice_make(state->ptr + length, state->len - length);
    if (!take_number(state, UINT32_MAX, &validity))
        return bad_state(err);
    s->selected = mailbox_open(s->mailboxes, name, err);
    if (!s->selected)
        return -1;
    if (folder_uid_validity(s->selected->folder) != validity)
        return err_set(err, ERR_PERM, "the mailbox is another now");
    if (park_decode_view(&s->view, s->selected->folder, state, err) < 0)
        return -1;
    s->view.uid_only = s->uid_only;
    s->view.condstore = s->condstore;
    s->view.qresync = s->qresync;
    return flags & HAS_SAVED ? take_uids(state, &s->saved, &s->saved_count, err) : 0;
}

int
session_unpark(struct session *s, struct slice state, struct user_told told, struct park_resumed *resumed,
               struct err *err)
{
    uint64_t version, flags, due;
    if (!take_number(&state, STATE_VERSION, &version) || version != STATE_VERSION ||
        !take_number(&state, UINT32_MAX, &flags) || !take_number(&state, INT64_MAX, &due) ||
        !take_number(&state, UINT64_MAX, &s->bytes_out))
        return bad_state(err);
    s->read_only = flags & IS_READ_ONLY;
    s->utf8 = s->in.utf8 = flags & HAS_UTF8;
    s->rev2 = flags & HAS_REV2;
    s->uid_only = flags & HAS_UID_ONLY;
    s->condstore = flags & HAS_CONDSTORE;
    s->qresync = flags & HAS_QRESYNC;
    s->resumed = true;
    s->bytes_out += told.bytes;
    *resumed = (struct park_resumed){.idling = flags & IS_IDLING, .due = (usec_t)due};
    if ((flags & HAS_MAILBOX) && take_mailbox(s, &state, (unsigned)flags, err) < 0)
        return -1;
    s->view.told = told.messages;
    return 0;
}

size_t
park_news(uint32_t messages, uint32_t recent, char text[USER_NEWS_LIMIT])
{
    return (size_t)snprintf(text, USER_NEWS_LIMIT, "* %u EXISTS\r\n* %u RECENT\r\n", messages, recent);
}
