#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/foreground.sh COMMAND...
#
# Runs a command in a process group of its own, in the foreground of the
# terminal: Ctrl-C then ends the command alone, and a make that started it
# reports the command's exit status instead of "Interrupt".
set -euo pipefail
set -m
"$@"
