#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/check-generated.sh
#
# Fails when generated files are not what `make generate` makes of the sources.
# Works on a copy in another directory, with the generated files removed first:
# so it changes nothing here, finds leftovers of sources that are gone, and
# proves that the output doesn't depend on the path.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
copy=$work/tree
mkdir "$copy"

# What git has or would add, less what was deleted here.
git ls-files -z --cached --others --exclude-standard | LC_ALL=C sort -zu |
	while IFS= read -r -d '' file; do
		if [[ -e $file ]]; then printf '%s\0' "$file"; fi
	done >"$work/list"
tar --null -T "$work/list" -cf - | tar -C "$copy" -xf -

# A second copy to compare with, as others may write here meanwhile.
cp -a "$copy" "$work/before"
find "$copy" \( -name '*.pb.go' -o -path '*/gadgets/*/gadget.*.o' -o -path '*/pkg/*/bpf/*.o' \
	-o -name 'zz_generated.*.go' -o -path '*/files/crds/*.yaml' \) -delete
make -C "$copy" --no-print-directory generate >&2
rm -rf "$copy/bin" "$copy/build"

if ! diff -rq "$work/before" "$copy" | sed "s#$work/before#committed#g; s#$work/tree#generated#g"; then
	echo 'generated files are not current: run make generate and commit the result'
	exit 1
fi
