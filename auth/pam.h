/* SPDX-License-Identifier: Apache-2.0 */
/* auth/pam.h: asks PAM; blocks, so it is work for a thread of the pool. */
#ifndef AUTH_PAM_H
#define AUTH_PAM_H

enum pam_result { PAM_RESULT_FAILED, PAM_RESULT_YES, PAM_RESULT_NO };

struct pam_work {
    const char *service, *user, *password, *client;
    enum pam_result result;
    char text[128]; /* why it failed */
};

void pam_check(void *work);

#endif
