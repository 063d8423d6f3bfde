/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/pix.h"

#include <string.h>

#include "lib/mail/log_events.h"

bool
pix_is_masked(const char *reply_text)
{
    return strchr(reply_text, '*') && reply_text[strspn(reply_text, "20 *\t\n")] == '\0';
}

int
pix_parse(struct slice list, unsigned *workarounds, struct err *err)
{
    struct slice word;

    *workarounds = 0;
    while (slice_word(&list, ", \t\r\n", &word)) {
        if (slice_equal_text_fold(word, "disable_esmtp"))
            *workarounds |= PIX_DISABLE_ESMTP;
        else if (slice_equal_text_fold(word, "delay_dotcrlf"))
            *workarounds |= PIX_DELAY_DOTCRLF;
        else
            return err_set(err, ERR_SYNTAX, "unknown PIX workaround: %.*s", SLICE_ARG(word));
    }
    return 0;
}

int may_wait
pix_find(struct session *s, struct arena *arena, const struct client_reply *greeting,
         const struct session_target *target, struct err *err)
{
    const struct smtp_settings *set = &s->client->set;
    const char *list = set->smtp_pix_workarounds, *value = NULL;
    char address[INET6_ADDRSTRLEN] = "";

    if (s->addr.any.sa_family == AF_UNIX || !pix_is_masked(greeting->text) ||
        target->age < set->smtp_pix_workaround_threshold_time)
        return 0;
    net_addr_format(&s->addr, address, sizeof address);
    if (maps_find(s->client->pix_maps, arena, slice_from(address), &value, err) < 0)
        return -1;
    if (value)
        list = value;
    if (pix_parse(slice_from(list), &s->workarounds, err) < 0)
        return -1;
    if (s->workarounds)
        log_pix(list, s->relay);
    return 0;
}
