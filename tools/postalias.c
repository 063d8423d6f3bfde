/* SPDX-License-Identifier: Apache-2.0 */
/* postalias: makes, asks and changes tables of aliases; see postalias(1). */
#include "lib/base/log.h"
#include "tools/map_command.h"

int
main(int argc, char **argv)
{
    log_init("postalias");
    return map_main(argc, argv, &map_kind_aliases, "c:d:fijnNopq:rsuvw",
                    "usage: postalias [-Nfijnoprsuvw] [-c config_dir] [-d key] [-q key] [map_type:]file...");
}
