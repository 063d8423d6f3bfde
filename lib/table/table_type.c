/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/table/table_type.h"

#include "lib/base/compiler.h"

#define TABLE_TYPE(name, ops) extern const struct table_ops ops;
#define TABLE_TYPE_MISSING(name, why)
#include "lib/table/table_types.def"
#undef TABLE_TYPE
#undef TABLE_TYPE_MISSING

static const struct table_ops *const types[] = {
#define TABLE_TYPE(name, ops) &ops,
#define TABLE_TYPE_MISSING(name, why)
#include "lib/table/table_types.def"
#undef TABLE_TYPE
#undef TABLE_TYPE_MISSING
};

const struct table_ops *
table_type_find(struct slice type)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (slice_equal_text(type, types[i]->type))
            return types[i];
    return NULL;
}

const struct table_ops *
table_type_at(unsigned index)
{
    return index < ARRAY_LEN(types) ? types[index] : NULL;
}
