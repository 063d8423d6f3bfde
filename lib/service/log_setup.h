/* SPDX-License-Identifier: Apache-2.0 */
/* lib/service/log_setup.h: where the log of a daemon or a command goes, from main.cf. */
#ifndef LIB_SERVICE_LOG_SETUP_H
#define LIB_SERVICE_LOG_SETUP_H

#include "lib/base/err.h"
#include "lib/conf/conf.h"

/* Tag syslog_name/program; to postlogd if maillog_file is set (by its socket below the queue directory, which must be
 * the current one), else to the system log. An unreachable postlogd means the system log, too. */
int log_setup(const struct conf *, const char *program, struct err *) MUST_USE;

/* Before main.cf has been read: to the system log, tag "postfix/program". */
void log_setup_early(const char *program);

#endif
