/* SPDX-License-Identifier: Apache-2.0 */
/* A maildirsize file: sums never wrap, and what was read well can be written and read again. */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/base/check.h"
#include "lib/store/maildir.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct maildir_quota quota, again;
    char text[200];

    if (maildir_quota_parse(slice_make(bytes, len), &quota) < 0)
        return 0;
    check(quota.bytes >= 0 && quota.count >= 0 && quota.bytes_limit >= 0 && quota.count_limit >= 0);
    snprintf(text, sizeof text, "%" PRId64 "S,%" PRId64 "C\n%" PRId64 " %" PRId64 "\n", quota.bytes_limit,
             quota.count_limit, quota.bytes, quota.count);
    check(maildir_quota_parse(slice_from(text), &again) == 0);
    check(again.bytes == quota.bytes && again.count == quota.count && again.bytes_limit == quota.bytes_limit &&
          again.count_limit == quota.count_limit);
    return 0;
}
