/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/gssapi.h"

#include "auth/mechanism.h"
#include "auth/source.h"

#ifdef HAVE_GSSAPI
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <krb5.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/mail/log_events.h"

/* The keys live in a keytab in memory: the file is root's. */
#define KEYS_IN_MEMORY "MEMORY:auth"

static gss_cred_id_t credential = GSS_C_NO_CREDENTIAL;

/* ---- the keys ---- */

static int
krb5_failure(krb5_context context, krb5_error_code code, const char *doing, struct err *err)
{
    const char *text = krb5_get_error_message(context, code);

    err_set(err, ERR_PERM, "GSSAPI: %s: %s", doing, text);
    krb5_free_error_message(context, text);
    return -1;
}

static krb5_error_code
copy_entries(krb5_context context, krb5_keytab from, krb5_keytab to)
{
    krb5_kt_cursor cursor;
    krb5_keytab_entry entry;
    krb5_error_code code = krb5_kt_start_seq_get(context, from, &cursor), result = 0;

    if (code)
        return code;
    while (result == 0 && (code = krb5_kt_next_entry(context, from, &entry, &cursor)) == 0) {
        result = krb5_kt_add_entry(context, to, &entry);
        krb5_free_keytab_entry_contents(context, &entry);
    }
    krb5_kt_end_seq_get(context, from, &cursor);
    return result ? result : code == KRB5_KT_END ? 0 : code;
}

/* What is in memory stays for as long as somebody has it open: we do, for good. */
static int
load_keys(krb5_context context, const char *keytab, struct err *err)
{
    krb5_keytab from = NULL, to;
    krb5_error_code code = *keytab ? krb5_kt_resolve(context, keytab, &from) : krb5_kt_default(context, &from);

    if (code == 0)
        code = krb5_kt_resolve(context, KEYS_IN_MEMORY, &to);
    if (code == 0)
        code = copy_entries(context, from, to);
    if (from)
        krb5_kt_close(context, from);
    return code ? krb5_failure(context, code, *keytab ? keytab : "the system's keytab", err) : 0;
}

/* What the library says of both its codes, in one line. */
static const char *
explain(struct arena *arena, OM_uint32 major, OM_uint32 minor)
{
    const struct {
        OM_uint32 code;
        int type;
    } codes[] = {{major, GSS_C_GSS_CODE}, {minor, GSS_C_MECH_CODE}};
    const char *text = "";

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        gss_buffer_desc piece = GSS_C_EMPTY_BUFFER;
        OM_uint32 more = 0, ignored;
        if (codes[i].code &&
            gss_display_status(&ignored, codes[i].code, codes[i].type, GSS_C_NO_OID, &more, &piece) == GSS_S_COMPLETE)
            text = arena_printf(arena, "%s%s%.*s", text, *text ? ": " : "", (int)piece.length, (char *)piece.value);
        gss_release_buffer(&ignored, &piece);
    }
    return text;
}

static int
acquire(struct err *err)
{
    gss_key_value_element_desc element = {"keytab", KEYS_IN_MEMORY};
    const gss_key_value_set_desc store = {1, &element};
    OM_uint32 minor, major = gss_acquire_cred_from(&minor, GSS_C_NO_NAME, GSS_C_INDEFINITE, GSS_C_NO_OID_SET,
                                                   GSS_C_ACCEPT, &store, &credential, NULL, NULL);

    if (!GSS_ERROR(major))
        return 0;
    struct arena *arena = arena_new();
    err_set(err, ERR_PERM, "GSSAPI: %s", explain(arena, major, minor));
    arena_free(&arena);
    return -1;
}

int
gssapi_prepare(const char *keytab, struct err *err)
{
    krb5_context context;

    /* The library would note the tickets that it has seen in a file, and we write none; TLS keeps others from repeating them. */
    setenv("KRB5RCACHENAME", "none:", 1);
    if (krb5_init_context(&context) != 0)
        return err_set(err, ERR_PERM, "GSSAPI: the Kerberos library has no configuration");
    int result = load_keys(context, keytab, err);
    if (result < 0)
        krb5_free_context(context);
    return result < 0 ? -1 : acquire(err); /* the context stays, for its keytab */
}

bool
gssapi_is_ready(void)
{
    return credential != GSS_C_NO_CREDENTIAL;
}

/* ---- the dialogue: RFC 4752, section 3.2 ---- */

struct dialogue {
    struct request *r;
    gss_ctx_id_t context;
    gss_name_t client;
    gss_buffer_desc in, out;
    OM_uint32 major, minor;
};

/* Work for a thread of the pool: no network, but arithmetic. */
static void
accept_token(void *arg)
{
    struct dialogue *d = arg;

    d->major = gss_accept_sec_context(&d->minor, &d->context, credential, &d->in, GSS_C_NO_CHANNEL_BINDINGS, &d->client,
                                      NULL, &d->out, NULL, NULL, NULL);
}

static gss_buffer_desc
buffer_of(struct slice text)
{
    return (gss_buffer_desc){.length = text.len, .value = (void *)(uintptr_t)text.ptr};
}

/* What the library made goes to the client, if there is something; its answer is read. */
static int may_wait
tell(struct dialogue *d)
{
    OM_uint32 ignored;
    int result = request_challenge(d->r, slice_make(d->out.value, d->out.length));

    gss_release_buffer(&ignored, &d->out);
    return result;
}

static enum verdict
refused(struct dialogue *d)
{
    log_ticket_refused(explain(d->r->arena, d->major, d->minor));
    return VERDICT_FAILED;
}

static enum verdict may_wait
establish(struct dialogue *d)
{
    if (request_initial(d->r) < 0)
        return VERDICT_GONE;
    do {
        d->in = buffer_of(buf_slice(&d->r->response));
        task_run_blocking(accept_token, d);
        if (GSS_ERROR(d->major))
            return refused(d);
        if ((d->major == GSS_S_CONTINUE_NEEDED || d->out.length > 0) && tell(d) < 0)
            return VERDICT_GONE;
    } while (d->major == GSS_S_CONTINUE_NEEDED);
    return VERDICT_OK;
}

/* We offer no protection of what follows, and no other layer may be chosen: there is TLS for that. */
static enum verdict may_wait
agree_on_layer(struct dialogue *d, struct slice *authorize)
{
    static const char offer[] = {1, 0, 0, 0};
    gss_buffer_desc plain = buffer_of(slice_make(offer, sizeof offer));
    OM_uint32 ignored;

    d->major = gss_wrap(&d->minor, d->context, 0, GSS_C_QOP_DEFAULT, &plain, NULL, &d->out);
    if (GSS_ERROR(d->major))
        return refused(d);
    if (tell(d) < 0)
        return VERDICT_GONE;
    d->in = buffer_of(buf_slice(&d->r->response));
    d->major = gss_unwrap(&d->minor, d->context, &d->in, &plain, NULL, NULL);
    if (GSS_ERROR(d->major))
        return refused(d);
    struct slice answer = arena_slice(d->r->arena, slice_make(plain.value, plain.length));
    gss_release_buffer(&ignored, &plain);
    if (answer.len < sizeof offer || answer.ptr[0] != 1)
        return VERDICT_FAILED;
    *authorize = slice_make(answer.ptr + sizeof offer, answer.len - sizeof offer);
    return VERDICT_OK;
}

/* Who has a name on this host by the rules in krb5.conf (auth_to_local; by default: of the own realm) is that user; others are nobody. */
static enum verdict may_wait
find_user(struct dialogue *d, struct slice authorize)
{
    gss_buffer_desc local = GSS_C_EMPTY_BUFFER, principal = GSS_C_EMPTY_BUFFER;
    OM_uint32 ignored;
    enum verdict verdict = VERDICT_FAILED;

    d->major = gss_localname(&d->minor, d->client, GSS_C_NO_OID, &local);
    if (!GSS_ERROR(d->major))
        d->major = gss_display_name(&d->minor, d->client, &principal, NULL);
    if (GSS_ERROR(d->major)) {
        verdict = refused(d);
    } else if (source_set_user(d->r, slice_make(local.value, local.length))) {
        bool himself = authorize.len == 0 || slice_equal_text_fold(authorize, d->r->user) ||
                       slice_equal(authorize, slice_make(local.value, local.length)) ||
                       slice_equal(authorize, slice_make(principal.value, principal.length));
        verdict = himself ? VERDICT_OK : VERDICT_FAILED; /* nobody acts for somebody else */
    }
    gss_release_buffer(&ignored, &local);
    gss_release_buffer(&ignored, &principal);
    return verdict;
}

enum verdict may_wait
mechanism_gssapi(struct request *r)
{
    struct dialogue d = {.r = r, .context = GSS_C_NO_CONTEXT, .client = GSS_C_NO_NAME};
    struct slice authorize = {0};
    OM_uint32 ignored;

    enum verdict verdict = establish(&d);
    if (verdict == VERDICT_OK)
        verdict = agree_on_layer(&d, &authorize);
    if (verdict == VERDICT_OK)
        verdict = find_user(&d, authorize);
    if (d.context != GSS_C_NO_CONTEXT)
        gss_delete_sec_context(&ignored, &d.context, GSS_C_NO_BUFFER);
    if (d.client != GSS_C_NO_NAME)
        gss_release_name(&ignored, &d.client);
    gss_release_buffer(&ignored, &d.out);
    return verdict;
}

#else

int
gssapi_prepare(const char *keytab, struct err *err)
{
    (void)keytab;
    return err_set(err, ERR_PERM, "GSSAPI: this program was built without it");
}

bool
gssapi_is_ready(void)
{
    return false;
}

enum verdict may_wait
mechanism_gssapi(struct request *r)
{
    (void)r;
    return VERDICT_FAILED;
}

#endif
