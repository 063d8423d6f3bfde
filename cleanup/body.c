/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/body.h"

#include "cleanup/check.h"
#include "cleanup/server.h"

static bool
is_wanted(const struct message *m)
{
    const struct cleanup_settings *s = &server.settings;
    bool strict = s->strict_8bitmime || s->strict_8bitmime_body || s->strict_7bit_headers ||
                  s->strict_mime_encoding_domain;

    if (strict && !s->disable_mime_input_processing && !(m->envelope->submit_flags & SUBMIT_INTERNAL))
        return true;
    if (!checks_want(m))
        return false;
    return checks_has(CHECK_BODY) ||
           (!s->disable_mime_input_processing && (checks_has(CHECK_MIME_HEADER) || checks_has(CHECK_NESTED_HEADER)));
}

static int may_wait
ask(void *ctx, enum check_kind kind, struct slice text, struct check_result *result)
{
    return check_text(ctx, kind, text, result);
}

static int
refuse(void *ctx, const char *why, struct slice what)
{
    return check_mime_error(ctx, why, what);
}

struct mime_walk *
body_walk_new(struct message *m)
{
    const struct cleanup_settings *s = &server.settings;
    bool foreign = !(m->envelope->submit_flags & SUBMIT_INTERNAL);
    struct mime_walk_rules *rules;

    if (!is_wanted(m))
        return NULL;
    rules = ARENA_NEW(m->arena, struct mime_walk_rules);
    *rules = (struct mime_walk_rules){.follows_structure = !s->disable_mime_input_processing,
                                      .strict_header = foreign && (s->strict_7bit_headers || s->strict_8bitmime),
                                      .strict_body = foreign && (s->strict_8bitmime || s->strict_8bitmime_body),
                                      .strict_domain = foreign && s->strict_mime_encoding_domain,
                                      .header_limit = (size_t)s->header_size_limit,
                                      .boundary_limit = (size_t)s->mime_boundary_length_limit,
                                      .line_limit = (size_t)s->line_length_limit,
                                      .nesting_limit = (unsigned)s->mime_nesting_limit,
                                      .body_limit = (uint64_t)s->body_checks_size_limit,
                                      .ask = ask,
                                      .refuse = refuse,
                                      .ctx = m};
    return mime_walk_new(m->arena, rules, m->content_type, m->content_encoding);
}
