#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/fuzz.sh DURATION COMMAND...
#
# Runs every fuzz target of the module for DURATION, through COMMAND, which
# gets the arguments of `go test`. Goes on after a failure; fails at the end.
# Interesting inputs are hardly made smaller, which would take all of the time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

duration=$1
shift
status=0 targets=()
list=$(go test -list '^Fuzz' ./...)
while read -r first second _; do
	case $first in
	Fuzz*) targets+=("$first") ;;
	ok)
		for target in "${targets[@]}"; do
			echo "fuzzing $second $target for $duration"
			"$@" -run '^$' -fuzz "^$target\$" -fuzztime "$duration" -fuzzminimizetime 10x "$second" || status=1
		done
		targets=()
		;;
	esac
done <<<"$list"
exit "$status"
