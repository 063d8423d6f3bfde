/* SPDX-License-Identifier: Apache-2.0 */
/* lib/run/tls_about.h: which TLS library this is: for postconf -T. */
#ifndef LIB_RUN_TLS_ABOUT_H
#define LIB_RUN_TLS_ABOUT_H

const char *tls_compile_version(void); /* "OpenSSL 3.0.11 19 Sep 2023": its headers' */
const char *tls_run_version(void);     /* the library's itself */

#endif
