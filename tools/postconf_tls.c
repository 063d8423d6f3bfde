/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/run/tls_about.h"
#include "tools/postconf.h"

int
postconf_tls(const char *mode)
{
    if (strcmp(mode, "compile-version") == 0) {
        puts(tls_compile_version());
    } else if (strcmp(mode, "run-version") == 0) {
        puts(tls_run_version());
    } else if (strcmp(mode, "public-key-algorithms") == 0) {
        puts("dsa\necdsa\nrsa");
    } else {
        log_warning("unknown 'postconf -T' mode: %s", mode);
        return 1;
    }
    return 0;
}
