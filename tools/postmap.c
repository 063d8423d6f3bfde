/* SPDX-License-Identifier: Apache-2.0 */
/* postmap: makes, asks and changes look-up tables; see postmap(1). */
#include "lib/base/log.h"
#include "tools/map_command.h"

int
main(int argc, char **argv)
{
    log_init("postmap");
    return map_main(argc, argv, &map_kind_postmap, "bc:d:fFhijmnNopq:rsuUvw",
                    "usage: postmap [-bfFhijmnNoprsuUvw] [-c config_dir] [-d key] [-q key] [map_type:]file...");
}
