/* SPDX-License-Identifier: Apache-2.0 */
/* resolver/hosts_file.h: /etc/hosts, read once at the start. */
#ifndef RESOLVER_HOSTS_FILE_H
#define RESOLVER_HOSTS_FILE_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/slice.h"
#include "lib/mail/messages.h"

struct hosts_file;

/* A file that can't be read counts as empty. Lives in the arena. */
struct hosts_file *hosts_file_load(struct arena *, const char *path);

/* The same from its text. */
struct hosts_file *hosts_file_parse(struct arena *, struct slice text);

/* Adds A and AAAA records of the name to the answer; were there any? */
bool hosts_file_addresses(const struct hosts_file *, struct arena *, const char *name, struct msg_dns_answer *);

#endif
