/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/compiler.h"
#include "lib/mail/submit.h"

int
receive_overrides_parse(const char *list, unsigned *flags, bool *unlisted, struct err *err)
{
    static const struct {
        const char *name;
        unsigned flag;
    } words[] = {
        {"no_unknown_recipient_checks", 0},
        {"no_address_mappings", SUBMIT_NO_ADDRESS_MAPPINGS},
        {"no_header_body_checks", SUBMIT_NO_HEADER_CHECKS},
        {"no_milters", SUBMIT_NO_MILTERS},
    };
    struct slice rest = slice_from(list), word;

    while (slice_word(&rest, ", \t\r\n", &word)) {
        unsigned i = 0;

        while (i < ARRAY_LEN(words) && !slice_equal_text_fold(word, words[i].name))
            i++;
        if (i == ARRAY_LEN(words))
            return err_set(err, ERR_SYNTAX, "receive_override_options: unknown word: %.*s", SLICE_ARG(word));
        *flags |= words[i].flag;
        *unlisted = *unlisted || words[i].flag == 0;
    }
    return 0;
}

unsigned
smtputf8_autodetect(const char *classes, const char *class)
{
    struct slice rest = slice_from(classes), word;

    while (slice_word(&rest, ", \t\r\n", &word))
        if (slice_equal_text_fold(word, class) || slice_equal_text_fold(word, "all"))
            return SUBMIT_DETECT_UTF8;
    return 0;
}
