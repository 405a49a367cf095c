#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/bpfcc.sh SOURCE OBJECT
#
# Compiles a gadget. The architecture is in the object's name: gadget.x86_64.o
# or gadget.arm64.o. The same sources give the same bytes in any directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/versions.env
. hack/versions.env

source=$1 object=$2
case $object in
*.x86_64.o) arch=x86 ;;
*.arm64.o) arch=arm64 ;;
*) echo "bpfcc: $object: want a name ending in .x86_64.o or .arm64.o" >&2; exit 1 ;;
esac

# Paths end up in the line information that the verifier prints, so they are
# relative. No option may name this directory (-ffile-prefix-map=$PWD=.): then two
# symbols change places in one directory in three. The multiarch directory has asm/types.h, alike on every machine.
# v3 of the instruction set (32-bit registers and jumps) is in Linux 5.1.
tmp=$object.tmp.$$
trap 'rm -f "$tmp"' EXIT
"clang-$LLVM" -O2 -g -Wall -Werror \
	-target bpf -mcpu=v3 "-D__TARGET_ARCH_$arch" \
	-Igadgets/include -idirafter "/usr/include/$(gcc -print-multiarch)" \
	-fdebug-compilation-dir=. \
	-c "$source" -o "$tmp"
# Drops DWARF and keeps BTF.
"llvm-strip-$LLVM" -g "$tmp"
mv "$tmp" "$object"
