#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/guest-types.sh DIR
#
# Makes what tests need in guests whose kernel shows no types: DIR/btf.bundle
# with the types of all kernels of the corpus, and in DIR/foreign types of two
# kernels under their names, which other kernels must refuse.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=$1
corpus=${NODEGADGET_CACHE:-$HOME/.cache/nodegadget}/corpus
rm -rf "$dir"
mkdir -p "$dir/foreign"
bin/btfgen build --quiet --strict --archive "$corpus" --out "$dir/btf.bundle" \
	gadgets/*/gadget.*.o pkg/container/bpf/tracker.*.o
for pattern in bullseye/x86_64/5.10.0-*-cloud-amd64 13/x86_64/6.12.*-cloud-amd64; do
	# shellcheck disable=SC2206 # a pattern
	found=("$corpus"/debian/$pattern.btf.tar.xz)
	kernel=$(basename "${found[-1]}" .btf.tar.xz)
	bin/btfgen inspect "$dir/btf.bundle" --kernel "$kernel" --extract "$dir/foreign/$kernel.btf" >/dev/null
done
