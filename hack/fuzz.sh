#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/fuzz.sh COUNTx|DURATION COMMAND...
#
# Runs every fuzz target of the module so many times (20000x) or so long (20s),
# through COMMAND, which gets the arguments of `go test`. Goes on after a
# failure; fails at the end. A count is the better choice: Go before 1.27 now
# and then fails at the end of a duration with "context deadline exceeded"
# (go.dev/issue/75804). Interesting inputs are hardly made smaller, which would
# take all of the time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

amount=$1
shift
status=0 targets=()
list=$(go test -list '^Fuzz' ./...)
while read -r first second _; do
	case $first in
	Fuzz*) targets+=("$first") ;;
	ok)
		for target in "${targets[@]}"; do
			echo "fuzzing $second $target for $amount"
			"$@" -run '^$' -fuzz "^$target\$" -fuzztime "$amount" -fuzzminimizetime 10x "$second" || status=1
		done
		targets=()
		;;
	esac
done <<<"$list"
exit "$status"
