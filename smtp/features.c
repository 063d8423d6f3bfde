/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/features.h"

#include "lib/smtp/client_reply.h"

const char *const features_xforward[XFORWARD_COUNT] = {"NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"};

static unsigned
xforward_attributes(struct slice list)
{
    struct slice word;
    unsigned bits = 0;

    while (slice_word(&list, " ", &word))
        for (unsigned i = 0; i < XFORWARD_COUNT; i++)
            if (slice_equal_text_fold(word, features_xforward[i]))
                bits |= (unsigned)FEATURE_XFORWARD_FIRST << i;
    return bits;
}

static unsigned
feature_of(struct slice keyword)
{
    static const struct {
        const char *keyword;
        unsigned bit;
    } known[] = {
        {"PIPELINING", FEATURE_PIPELINING},
        {"SIZE", FEATURE_SIZE},
        {"8BITMIME", FEATURE_8BITMIME},
        {"DSN", FEATURE_DSN},
        {"STARTTLS", FEATURE_STARTTLS},
        {"SMTPUTF8", FEATURE_SMTPUTF8},
        {"ENHANCEDSTATUSCODES", FEATURE_ENHANCED},
        {"XFORWARD", FEATURE_XFORWARD},
    };

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (slice_equal_text_fold(keyword, known[i].keyword))
            return known[i].bit;
    return 0;
}

unsigned
features_parse(const char *reply_text, int64_t *size)
{
    unsigned features = 0;
    struct slice line, keyword, parameter;
    unsigned long long number;

    *size = 0;
    client_reply_next_line(&reply_text, &line); /* the greeting */
    while (client_reply_next_line(&reply_text, &line)) {
        if (!slice_word(&line, " ", &keyword))
            continue;
        unsigned feature = feature_of(keyword);
        features |= feature;
        if (feature == FEATURE_XFORWARD)
            features |= xforward_attributes(line);
        if (feature == FEATURE_SIZE && slice_word(&line, " ", &parameter) &&
            slice_to_u64(parameter, INT64_MAX, &number) == 0)
            *size = (int64_t)number;
    }
    return features;
}

unsigned
features_from_list(struct slice list)
{
    struct slice word;
    unsigned features = 0;

    while (slice_word(&list, ", \t\r\n", &word))
        features |= feature_of(word);
    return features;
}

bool
features_list_has(struct slice list, const char *keyword)
{
    struct slice word;

    while (slice_word(&list, ", \t\r\n", &word))
        if (slice_equal_text_fold(word, keyword))
            return true;
    return false;
}
