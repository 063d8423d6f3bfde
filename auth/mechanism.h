/* SPDX-License-Identifier: Apache-2.0 */
/* auth/mechanism.h: the SASL mechanisms (mechanisms.def). */
#ifndef AUTH_MECHANISM_H
#define AUTH_MECHANISM_H

#include "auth/request.h"

struct mechanism {
    const char *name;
    const char *properties; /* for the line MECH, each behind a tab */
    enum verdict (*run)(struct request *);
};

/* NULL: there is none, or it can't work with the sources that are configured. */
const struct mechanism *mechanism_find(const struct server *, const char *name);

/* Is it in auth_mechanisms? */
bool mechanism_is_wanted(const struct server *, const char *name);

/* Those that work, from index 0; NULL at the end. */
const struct mechanism *mechanism_next(const struct server *, unsigned *index);

#define MECHANISM(name, run, properties, needs) enum verdict may_wait run(struct request *);
#include "auth/mechanisms.def"
#undef MECHANISM

#endif
