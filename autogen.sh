#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make ./configure and Makefile.in from configure.ac and Makefile.am. Builds are then made out of tree:
#   ./autogen.sh && mkdir -p build/dev && cd build/dev && ../../configure && make
set -eu
cd "$(dirname "$0")"
exec autoreconf --install --force --warnings=all,no-portability "$@"
