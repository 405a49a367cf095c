#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/lint.sh
#
# Runs every check of the sources and reports all that fail, not just the first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/versions.env
. hack/versions.env

PATH=${NODEGADGET_CACHE:-$HOME/.cache/nodegadget}/bin:$PATH

# files lists what git has or would add that matches the patterns.
files() {
	local file
	git ls-files --cached --others --exclude-standard -- "$@" | LC_ALL=C sort -u |
		while IFS= read -r file; do
			if [[ -e $file ]]; then printf '%s\n' "$file"; fi
		done
}

gofumpt_clean() {
	local list
	list=$(gofumpt -l .)
	if [[ -n $list ]]; then
		echo "not formatted, run make fmt:"
		echo "$list"
		return 1
	fi
}

c_format() {
	local list
	mapfile -t list < <(files '*.c' '*.h')
	if ((${#list[@]})); then "clang-format-$LLVM" --dry-run -Werror "${list[@]}"; fi
}

shell_syntax() {
	local file status=0
	while IFS= read -r file; do
		if ! bash -n "$file"; then status=1; fi
		if ! grep -q '^set -euo pipefail$' "$file"; then
			echo "$file: has no line 'set -euo pipefail'"
			status=1
		fi
	done < <(files '*.sh' .ci/run)
	return "$status"
}

# licences wants an SPDX line in the first lines of every source file.
licences() {
	local file want status=0
	while IFS= read -r file; do
		case $file in
		gadgets/*.c | gadgets/*.h) want=GPL-2.0 ;;
		*) want=Apache-2.0 ;;
		esac
		if ! head -n 5 "$file" | grep -q "SPDX-License-Identifier: .*$want"; then
			echo "$file: has no SPDX-License-Identifier with $want"
			status=1
		fi
	done < <(files '*.go' '*.proto' '*.sh' 'gadgets/*.c' 'gadgets/*.h' Makefile .ci/run Dockerfile |
		grep -v '\.pb\.go$')
	return "$status"
}

failed=()
check() {
	local name=$1
	shift
	echo "lint: $name"
	if ! "$@"; then failed+=("$name"); fi
}

check golangci-lint golangci-lint run ./...
check gofumpt gofumpt_clean
check 'go.mod is tidy' go mod tidy -diff
check clang-format c_format
check 'shell scripts' shell_syntax
check licences licences
check 'generated files are current' hack/check-generated.sh

if ((${#failed[@]})); then
	printf 'lint: failed: %s\n' "${failed[@]}"
	exit 1
fi
