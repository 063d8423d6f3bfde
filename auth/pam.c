/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/pam.h"

#include "lib/base/compiler.h"

#ifdef HAVE_PAM
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Answers each question that is not to be shown with the password; anything else can't be answered here. */
static int
converse(int count, const struct pam_message **messages, struct pam_response **answers, void *ctx)
{
    const struct pam_work *work = ctx;
    struct pam_response *all = calloc((size_t)(count > 0 ? count : 1), sizeof *all);

    if (!all)
        return PAM_BUF_ERR;
    for (int i = 0; i < count; i++)
        if (messages[i]->msg_style == PAM_PROMPT_ECHO_OFF)
            all[i].resp = strdup(work->password);
    *answers = all;
    return PAM_SUCCESS;
}

static enum pam_result
judge(int code)
{
    switch (code) {
    case PAM_SUCCESS: return PAM_RESULT_YES;
    case PAM_AUTH_ERR:
    case PAM_USER_UNKNOWN:
    case PAM_MAXTRIES:
    case PAM_ACCT_EXPIRED:
    case PAM_NEW_AUTHTOK_REQD:
    case PAM_CRED_EXPIRED:
    case PAM_PERM_DENIED: return PAM_RESULT_NO;
    default: return PAM_RESULT_FAILED;
    }
}

void
pam_check(void *arg)
{
    struct pam_work *work = arg;
    struct pam_conv conversation = {.conv = converse, .appdata_ptr = work};
    pam_handle_t *handle = NULL;

    int code = pam_start(work->service, work->user, &conversation, &handle);
    if (code == PAM_SUCCESS && work->client[0])
        code = pam_set_item(handle, PAM_RHOST, work->client);
    if (code == PAM_SUCCESS)
        code = pam_authenticate(handle, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    if (code == PAM_SUCCESS)
        code = pam_acct_mgmt(handle, PAM_SILENT);
    work->result = judge(code);
    if (work->result == PAM_RESULT_FAILED)
        snprintf(work->text, sizeof work->text, "%s", handle ? pam_strerror(handle, code) : "can't begin");
    if (handle)
        pam_end(handle, code);
}

#else

#include <stdio.h>

void
pam_check(void *arg)
{
    struct pam_work *work = arg;

    work->result = PAM_RESULT_FAILED;
    snprintf(work->text, sizeof work->text, "this program was built without PAM");
}

#endif
