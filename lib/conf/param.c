/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf/param.h"

#include <string.h>

#include "lib/base/check.h"
#include "lib/conf/param_table.h"

/* Endings of transports' own parameters, and the row that each falls back to. */
static const struct family {
    const char *suffix, *fallback;
} families[] = {
    {"_delivery_slot_cost", "default_delivery_slot_cost"},
    {"_delivery_slot_discount", "default_delivery_slot_discount"},
    {"_delivery_slot_loan", "default_delivery_slot_loan"},
    {"_destination_concurrency_failed_cohort_limit", "default_destination_concurrency_failed_cohort_limit"},
    {"_destination_concurrency_limit", "default_destination_concurrency_limit"},
    {"_destination_concurrency_negative_feedback", "default_destination_concurrency_negative_feedback"},
    {"_destination_concurrency_positive_feedback", "default_destination_concurrency_positive_feedback"},
    {"_destination_rate_delay", "default_destination_rate_delay"},
    {"_destination_recipient_limit", "default_destination_recipient_limit"},
    {"_extra_recipient_limit", "default_extra_recipient_limit"},
    {"_initial_destination_concurrency", "initial_destination_concurrency"},
    {"_minimum_delivery_slots", "default_minimum_delivery_slots"},
    {"_recipient_limit", "default_recipient_limit"},
    {"_recipient_refill_delay", "default_recipient_refill_delay"},
    {"_recipient_refill_limit", "default_recipient_refill_limit"},
    {"_time_limit", "command_time_limit"},
    {"_transport_rate_delay", "default_transport_rate_delay"},
};

unsigned
param_count(void)
{
    return param_row_count;
}

struct param
param_at(unsigned index)
{
    check(index < param_row_count);
    const struct param_row *row = &param_rows[index];
    return (struct param){
        .name = param_texts + row->name,
        .text = param_texts + row->text,
        .choices = param_texts + row->choices,
        .reason = param_texts + row->reason,
        .kind = (enum param_kind)row->kind,
        .status = (enum param_status)row->status,
        .unit = row->unit,
        .low = row->low,
        .high = row->high,
    };
}

static int
compare(struct slice name, const char *row_name)
{
    size_t row_len = strlen(row_name);
    size_t common = name.len < row_len ? name.len : row_len;
    int order = common ? memcmp(name.ptr, row_name, common) : 0;
    if (order != 0)
        return order;
    return name.len < row_len ? -1 : name.len > row_len;
}

int
param_find(struct slice name)
{
    unsigned low = 0, high = param_row_count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        int order = compare(name, param_texts + param_rows[middle].name);
        if (order == 0)
            return (int)middle;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

/* The longest ending wins: "x_destination_recipient_limit" also ends in "_recipient_limit". */
const char *
param_family(struct slice name, size_t *transport_len)
{
    const struct family *best = NULL;
    size_t best_len = 0;
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        size_t len = strlen(families[i].suffix);
        if (name.len <= len || len <= best_len || memcmp(name.ptr + name.len - len, families[i].suffix, len) != 0)
            continue;
        best = &families[i];
        best_len = len;
    }
    if (!best)
        return NULL;
    *transport_len = name.len - best_len;
    return best->fallback;
}

const char *
param_family_suffix(unsigned index)
{
    return index < ARRAY_LEN(families) ? families[index].suffix : NULL;
}
