/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/idna.h"

#include <string.h>

#include <unicode/uidna.h>

#include "lib/base/text.h"

enum { NAME_SIZE = 256 };

static UIDNA *idna;

int
idna_prepare(bool as_2003, struct err *err)
{
    uint32_t how = as_2003 ? UIDNA_DEFAULT : UIDNA_NONTRANSITIONAL_TO_ASCII | UIDNA_NONTRANSITIONAL_TO_UNICODE;
    UErrorCode code = U_ZERO_ERROR;
    struct arena *arena = arena_new();

    idna = uidna_openUTS46(UIDNA_CHECK_BIDI | UIDNA_USE_STD3_RULES | how, &code);
    if (U_FAILURE(code)) {
        arena_free(&arena);
        return err_set(err, ERR_TEMP, "international domain names: %s", u_errorName(code));
    }
    idna_to_ascii(arena, "\303\274"); /* what the library loads when it is first used, it loads now */
    arena_free(&arena);
    return 0;
}

const char *
idna_to_ascii(struct arena *arena, const char *name)
{
    UIDNAInfo info = UIDNA_INFO_INITIALIZER;
    UErrorCode code = U_ZERO_ERROR;
    char ascii[NAME_SIZE];
    int32_t len;

    if (!text_has_8bit(slice_from(name)))
        return name;
    if (!text_is_utf8(slice_from(name)))
        return NULL;
    len = uidna_nameToASCII_UTF8(idna, name, (int32_t)strlen(name), ascii, (int32_t)sizeof ascii, &info, &code);
    if (U_FAILURE(code) || info.errors || len >= (int32_t)sizeof ascii)
        return NULL;
    return arena_strndup(arena, ascii, (size_t)len);
}
