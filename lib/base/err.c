/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/text.h"

static void err_format(struct err *e, const char *fmt, va_list args) PRINTF_LIKE(2, 0);

static void
err_format(struct err *e, const char *fmt, va_list args)
{
    vsnprintf(e->text, sizeof(e->text), fmt, args);
    text_printable(e->text, strlen(e->text), '?', true);
}

int
err_set(struct err *e, enum err_kind kind, const char *fmt, ...)
{
    va_list args;
    if (!e)
        return -1;
    e->kind = kind;
    e->code = 0;
    va_start(args, fmt);
    err_format(e, fmt, args);
    va_end(args);
    return -1;
}

static enum err_kind
kind_of_errno(int code)
{
    switch (code) {
    case ETIMEDOUT: return ERR_TIMEOUT;
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ESHUTDOWN: return ERR_CLOSED;
    default: return ERR_IO;
    }
}

int
err_errno(struct err *e, const char *fmt, ...)
{
    int code = errno;
    va_list args;
    if (!e)
        return -1;
    e->kind = kind_of_errno(code);
    e->code = e->kind == ERR_IO ? code : 0;
    va_start(args, fmt);
    err_format(e, fmt, args);
    va_end(args);
    char why[80];
    size_t len = strlen(e->text);
    snprintf(e->text + len, sizeof(e->text) - len, "%s%s", len ? ": " : "", strerror_r(code, why, sizeof(why)));
    errno = code;
    return -1;
}

int
err_context(struct err *e, const char *fmt, ...)
{
    char before[sizeof(e->text)];
    va_list args;
    if (!e)
        return -1;
    memcpy(before, e->text, sizeof(before));
    va_start(args, fmt);
    err_format(e, fmt, args);
    va_end(args);
    size_t len = strlen(e->text);
    snprintf(e->text + len, sizeof(e->text) - len, ": %s", before);
    return -1;
}
