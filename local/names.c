/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "lib/base/text.h"
#include "lib/conf/expand.h"
#include "lib/mail/addr.h"
#include "local/local.h"

struct source {
    struct arena *arena;
    const struct step *step;
    const struct rights *rights;
    const char *filter;
    bool extended;
};

static const char *
raw_value(struct source *s, struct slice name)
{
    const struct step *step = s->step;

    if (slice_equal_text(name, "user"))
        return step->user;
    if (slice_equal_text(name, "home"))
        return s->rights->home;
    if (slice_equal_text(name, "shell"))
        return s->rights->shell;
    if (slice_equal_text(name, "recipient"))
        return addr_quote(s->arena, step->address);
    if (slice_equal_text(name, "domain"))
        return step->domain;
    if (slice_equal_text(name, "local"))
        return step->local;
    if (slice_equal_text(name, "extension") && step->extension) {
        s->extended = true;
        return step->extension;
    }
    if (slice_equal_text(name, "recipient_delimiter") && *local.s.recipient_delimiter)
        return arena_strndup(s->arena, step->extension ? &step->delimiter : local.s.recipient_delimiter, 1);
    return "";
}

static int
value(void *ctx, struct slice name, struct slice *out, struct err *err)
{
    struct source *s = ctx;
    char *copy = arena_strdup(s->arena, raw_value(s, name));

    (void)err;
    /* The home directory is the administrator's word, not a sender's. */
    if (!slice_equal_text(name, "home") && !slice_equal_text(name, "shell"))
        for (char *at = copy; *at; at++)
            if (!strchr(s->filter, *at))
                *at = '_';
    *out = slice_from(copy);
    return 0;
}

/* From behind "${" or "$(" to behind its end. */
static const char *
group_end(const char *at)
{
    unsigned depth = 1;

    for (; *at && depth > 0; at++) {
        if (*at == '{' || *at == '(')
            depth++;
        else if (*at == '}' || *at == ')')
            depth--;
    }
    return at;
}

/* Is $extension in it, and not as a condition? Then the text means nothing where there is none. */
static bool
needs_extension(const char *text)
{
    static const char word[] = "extension";
    enum { LENGTH = sizeof word - 1 };

    while ((text = strchr(text, '$')) != NULL) {
        const char *name = ++text;

        if (*name == '{' || *name == '(')
            name++;
        if (strncmp(name, word, LENGTH) == 0 && (name > text ? strchr("})", name[LENGTH]) != NULL && name[LENGTH]
                                                             : !text_is_alnum(name[LENGTH]) && name[LENGTH] != '_'))
            return true;
        text = name > text ? group_end(name) : name;
    }
    return false;
}

int
names_expand(struct arena *arena, const struct step *step, const struct rights *rights, const char *text,
             const char *filter, const char **result, bool *extended, struct err *err)
{
    struct source source = {.arena = arena, .step = step, .rights = rights, .filter = filter};
    const struct expand_source expand = {.value = value, .ctx = &source, .final = true};
    struct buf out = {0};

    *result = "";
    if (!step->extension && needs_extension(text)) {
        if (extended)
            *extended = false;
        return 0;
    }
    if (expand_text(&expand, slice_from(text), &out, err) < 0) {
        buf_release(&out);
        return -1;
    }
    *result = arena_strdup(arena, buf_text(&out));
    buf_release(&out);
    if (extended)
        *extended = source.extended;
    return 0;
}
