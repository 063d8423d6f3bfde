/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/log.h: the log, in Postfix's format: "Nov 24 05:20:11 host postfix/smtpd[123]: text".
 *
 * One line for each event, whatever bytes are in it: control characters and bytes that are no UTF-8 become '?'. Lines
 * are gathered and go out together: log_flush() is called by the loop at the end of each turn, before anything is
 * written to other processes, so that the order of lines tells the order of events; also at exit, by panic() and
 * fatal(), and when 32 KiB have gathered.
 *
 * Where lines go: the system log (/dev/log, one datagram for each line), or a postlog socket (postlogd(8), for
 * maillog_file: many lines in one datagram, each ended by a newline, each with its time, host and tag), or a
 * descriptor (standard output or error, for commands and for tests). A destination that does not answer loses lines,
 * never the caller; lines that could not be sent are counted and the count is logged later.
 *
 * Not for threads of the pool. After fork() the child starts with nothing gathered and its own pid. */
#ifndef LIB_BASE_LOG_H
#define LIB_BASE_LOG_H

#include <stdbool.h>

#include "lib/base/compiler.h"

enum log_level { LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR, LOG_LEVEL_FATAL, LOG_LEVEL_PANIC };

/* Sets the tag ("postfix/smtpd"), kept as a copy. The default destination is standard error, where lines are
 * "program: text" without time, and go out at once. May be called again with another tag. */
void log_init(const char *tag);

/* The host's name in lines that carry one; the default is the system's, up to the first dot. Kept as a copy. */
void log_set_host(const char *host);

/* To the system log with this facility ("mail", "local0"...). The socket is opened at once, so a chroot may follow. */
void log_to_syslog(const char *facility);

/* To the postlog socket (a Unix datagram socket) at path. -1 with errno if it can't be reached. The descriptor is
 * opened at once, so a chroot may follow; if the other end goes away, lines go to the system log meanwhile, and path
 * (best relative to the queue directory, so that it means the same in a chroot) is tried again. */
int log_to_postlog(const char *path) MUST_USE;

/* To a descriptor that the caller keeps open; with time, host and tag if full, else "program: text". */
void log_to_fd(int fd, bool full);

/* One line each. warning: "warning: text", error: "error: text". Formats are like printf's; never end in a newline. */
void log_info(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_warning(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_error(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Only if log_verbose(): set by -v in master.cf or on the command line. */
void log_debug(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_set_verbose(int level);
int log_verbose(void);

/* A line of the given level, already formatted; what the others call. */
void log_line(enum log_level level, const char *text);

/* Sends what has gathered. A destination that takes no more for the moment leaves lines waiting, up to a limit. */
void log_flush(void);

/* Are lines waiting that the destination did not take? The loop then flushes again a little later. */
bool log_is_waiting(void);

/* The same, and gives a slow destination up to a second: before a process ends. Runs at exit by itself. */
void log_flush_all(void);

/* Lines that were lost so far because the destination did not take them. */
unsigned long log_lost(void);

#endif
