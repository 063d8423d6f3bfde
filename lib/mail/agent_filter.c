/* SPDX-License-Identifier: Apache-2.0 */
/* default_delivery_status_filter and its kin: tables that are asked "status text" and answer with another. */
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/text.h"
#include "lib/mail/agent.h"

const struct maps *
delivery_filter_new(struct arena *arena, const struct conf *conf, const char *parameter, const char *text,
                    struct err *err)
{
    return maps_new(arena, conf, parameter, text, TABLE_FOLD_FIXED, err);
}

/* "4.1.1": how long it is; 0: there is none at the start. */
static size_t
code_length(const char *text)
{
    size_t len = strspn(text, "0123456789."), dots = 0;

    if (len < 5 || len > 9 || !strchr("245", text[0]) || text[1] != '.' || text[len - 1] == '.' || strstr(text, ".."))
        return 0;
    for (size_t i = 0; i < len; i++)
        dots += text[i] == '.';
    return dots == 2 ? len : 0;
}

/* A success stays one, and a failure a failure, for now or for good. */
static bool
take_answer(struct delivery *d, const char *answer, struct delivery_status *status)
{
    size_t len = code_length(answer);
    const char *text = answer + len + strspn(answer + len, " \t");

    if (len == 0 || text == answer + len || !*text || (answer[0] == '2') != (status->dsn[0] == '2'))
        return false;
    if (answer[0] != status->dsn[0]) {
        status->result = answer[0] == '4' ? DELIVERED_DEFERRED : DELIVERED_BOUNCED;
        status->action = NULL;
    }
    status->dsn = arena_strndup(d->arena, answer, len);
    status->reason = arena_strdup(d->arena, text);
    return true;
}

struct delivery_status
delivery_filter_ask(const struct maps *maps, struct delivery *d, const struct delivery_status *given)
{
    struct delivery_status status = *given;
    const char *text = arena_printf(d->arena, "%s %s", given->dsn, given->reason ? given->reason : ""), *answer;
    struct err err;

    if (maps_find(maps, d->arena, slice_from(text), &answer, &err) < 0)
        log_warning("%s: delivery status filter: %s", d->request->queue_id, err.text);
    else if (answer && !take_answer(d, answer, &status))
        log_warning("%s: delivery status filter: \"%s\" became \"%s\", which is no status of its kind",
                    d->request->queue_id, text, answer);
    return status;
}
