/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/store/fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/text.h"

static void fill(struct store_fault *, const char *dsn, const char *fmt, va_list args) PRINTF_LIKE(3, 0);
static void
fill(struct store_fault *f, const char *dsn, const char *fmt, va_list args)
{
    snprintf(f->dsn, sizeof f->dsn, "%s", dsn);
    vsnprintf(f->text, sizeof f->text, fmt, args);
    text_printable(f->text, strlen(f->text), '?', true);
}

int
fault_set(struct store_fault *f, const char *dsn, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fill(f, dsn, fmt, args);
    va_end(args);
    f->code = 0;
    return -1;
}

static const char *
status_of(int code, const char *dsn)
{
    switch (code) {
    case EAGAIN:
    case EINTR:
    case ESTALE:
    case EBUSY:
    case ETIMEDOUT: return "4.2.0";
    case EDQUOT: return "4.2.2";
    case EFBIG: return "5.2.2";
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EIO:
    case EROFS: return "4.3.0";
    case ENOSPC: return "4.3.1";
    default: return dsn;
    }
}

int
fault_errno(struct store_fault *f, const char *dsn, const char *fmt, ...)
{
    int code = errno;
    va_list args;
    size_t len;

    va_start(args, fmt);
    fill(f, status_of(code, dsn), fmt, args);
    va_end(args);
    f->code = code;
    len = strlen(f->text);
    snprintf(f->text + len, sizeof f->text - len, "%s%s", len ? ": " : "", strerror(code));
    return -1;
}
