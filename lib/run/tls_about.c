/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/run/tls_about.h"

#include <openssl/crypto.h>
#include <openssl/opensslv.h>

const char *
tls_compile_version(void)
{
    return OPENSSL_VERSION_TEXT;
}

const char *
tls_run_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}
