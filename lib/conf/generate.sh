#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# generate.sh AWK SOURCE_DIR READER...: makes, in the current directory's lib/conf, all that comes from params.def. A file
# whose content stays the same keeps its time, so that a new row compiles again only what reads it.
set -eu
awk=$1; source=$2; shift 2
out=lib/conf
mkdir -p "$out"
rows=$out/params.sorted.$$
trap 'rm -f "$rows" "$out"/*.new.$$' EXIT
grep -v '^#' "$source/lib/conf/params.def" | LC_ALL=C sort >"$rows"

make_file() { # FILE awk-assignments...
    file=$1; shift
    "$awk" -f "$source/lib/conf/params.awk" "$@" "$rows" >"$file.new.$$"
    if cmp -s "$file" "$file.new.$$"; then rm "$file.new.$$"; else mv "$file.new.$$" "$file"; fi
}

make_file "$out/param_table.c" -v mode=table
make_file "$out/param_help.c" -v mode=help -v "texts=$source/lib/conf/params.text"
make_file "$out/parameters.inc" -v mode=page -v "texts=$source/lib/conf/params.text"
for reader; do
    make_file "$out/settings_$reader.h" -v mode=header -v "reader=$reader"
    make_file "$out/settings_$reader.c" -v mode=source -v "reader=$reader"
done
