#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Compiles the test object for both byte orders.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=../../../../hack/versions.env
. ../../../../hack/versions.env

for target in bpfel bpfeb; do
	"clang-$LLVM" -O2 -g -Wall -Werror -target "$target" -mcpu=v3 \
		-idirafter "/usr/include/$(gcc -print-multiarch)" \
		"-ffile-prefix-map=$PWD=." -fdebug-compilation-dir=. \
		-c relocations.bpf.c -o "relocations.$target.o"
	"llvm-strip-$LLVM" -g "relocations.$target.o"
done
