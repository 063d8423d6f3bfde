/* SPDX-License-Identifier: Apache-2.0 */
/* A ticket is base64 of its fields, '.', and base64 of their HMAC. Fields are divided by NUL, so that no text can run into the
 * next. */
#include "lib/mail/auth_ticket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/run/crypto.h"

/* ---- the key ---- */

/* Another process may make it at the same time: whoever links it first wins. */
static int
make_key(const char *path, struct err *err)
{
    unsigned char key[AUTH_KEY_SIZE];
    char fresh[1024 + 16];

    if (snprintf(fresh, sizeof fresh, "%s.%d", path, (int)getpid()) >= (int)sizeof fresh)
        return err_set(err, ERR_PERM, "%s: name too long", path);
    crypto_random(key, sizeof key);
    unlink(fresh);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, "%s", fresh);
    bool written = write(fd, key, sizeof key) == (ssize_t)sizeof key && fsync(fd) == 0;
    crypto_wipe(key, sizeof key);
    if (close(fd) < 0 || !written || (link(fresh, path) < 0 && errno != EEXIST)) {
        err_errno(err, "%s", path);
        unlink(fresh);
        return -1;
    }
    unlink(fresh);
    return 0;
}

int
auth_key_load(const char *data_directory, bool create, unsigned char key[AUTH_KEY_SIZE], struct err *err)
{
    char path[1024];
    struct stat st;

    if (snprintf(path, sizeof path, "%s/auth_key", data_directory) >= (int)sizeof path)
        return err_set(err, ERR_PERM, "%s: name too long", data_directory);
    if (create && access(path, F_OK) < 0 && make_key(path, err) < 0)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_errno(err, "%s", path);
    int result = 0;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
        result = err_set(err, ERR_PERM, "%s: must be a file that belongs to and is readable by this user alone", path);
    else if (read(fd, key, AUTH_KEY_SIZE) != AUTH_KEY_SIZE)
        result = err_set(err, ERR_PERM, "%s: too short", path);
    close(fd);
    return result;
}

/* ---- tickets ---- */

const char *
auth_ticket_make(struct arena *arena, const struct auth_ticket *ticket, const unsigned char key[AUTH_KEY_SIZE])
{
    const char *const texts[] = {ticket->user, ticket->service, ticket->home, ticket->mail};
    unsigned char mac[CRYPTO_SHA256_SIZE], nonce[12];
    struct buf fields = {0}, out = {0};

    buf_printf(&fields, "1%c%lu%c%lu%c%lld%c", 0, (unsigned long)ticket->uid, 0, (unsigned long)ticket->gid, 0,
               (long long)ticket->expires, 0);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        buf_append(&fields, texts[i], strlen(texts[i]) + 1);
    crypto_random(nonce, sizeof nonce);
    crypto_base64_encode(slice_make(nonce, sizeof nonce), &fields);
    crypto_hmac_sha256(slice_make(key, AUTH_KEY_SIZE), buf_slice(&fields), mac);
    crypto_base64_encode(buf_slice(&fields), &out);
    buf_append_byte(&out, '.');
    crypto_base64_encode(slice_make(mac, sizeof mac), &out);
    const char *text = arena_strdup(arena, buf_text(&out));
    buf_release(&fields);
    buf_release(&out);
    return text;
}

/* Checks the signature; *fields gets what is signed. */
static bool
open_ticket(const char *text, const unsigned char key[AUTH_KEY_SIZE], struct buf *fields)
{
    unsigned char mac[CRYPTO_SHA256_SIZE];
    struct slice rest = slice_from(text), first;
    struct buf signature = {0};

    bool good = slice_cut(&rest, '.', &first) && crypto_base64_decode(first, fields) == 0 &&
                crypto_base64_decode(rest, &signature) == 0 && signature.len == sizeof mac;
    if (good) {
        crypto_hmac_sha256(slice_make(key, AUTH_KEY_SIZE), buf_slice(fields), mac);
        good = crypto_equal(mac, signature.ptr, sizeof mac);
    }
    buf_release(&signature);
    return good;
}

static bool
take_number(struct slice *rest, unsigned long long most, unsigned long long *number)
{
    struct slice field;

    return slice_cut(rest, '\0', &field) && slice_to_u64(field, most, number) == 0;
}

static bool
take_text(struct arena *arena, struct slice *rest, const char **text)
{
    struct slice field;

    if (!slice_cut(rest, '\0', &field))
        return false;
    *text = arena_strndup(arena, field.ptr, field.len);
    return true;
}

static bool
read_fields(struct arena *arena, struct slice rest, struct auth_ticket *ticket)
{
    unsigned long long version, uid, gid, expires;

    if (!take_number(&rest, 1, &version) || version != 1 || !take_number(&rest, UINT_MAX - 1, &uid) ||
        !take_number(&rest, UINT_MAX - 1, &gid) || !take_number(&rest, INT64_MAX, &expires) ||
        !take_text(arena, &rest, &ticket->user) || !take_text(arena, &rest, &ticket->service) ||
        !take_text(arena, &rest, &ticket->home) || !take_text(arena, &rest, &ticket->mail))
        return false;
    ticket->nonce = arena_strndup(arena, rest.ptr, rest.len);
    ticket->uid = (uid_t)uid;
    ticket->gid = (gid_t)gid;
    ticket->expires = (usec_t)expires;
    return true;
}

int
auth_ticket_verify(struct arena *arena, const char *text, const unsigned char key[AUTH_KEY_SIZE], usec_t now,
                   struct auth_ticket *ticket, struct err *err)
{
    struct buf fields = {0};
    int result = 0;

    if (!open_ticket(text, key, &fields) || !read_fields(arena, buf_slice(&fields), ticket))
        result = err_set(err, ERR_PERM, "this ticket is not from our authentication server");
    else if (now >= ticket->expires || ticket->expires - now > 2 * AUTH_TICKET_LIFE)
        result = err_set(err, ERR_PERM, "this ticket has expired");
    else if (ticket->uid == 0)
        result = err_set(err, ERR_PERM, "no session for the superuser");
    buf_release(&fields);
    return result;
}
