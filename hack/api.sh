#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/api.sh
#
# Writes what follows from the Go types of the API: how they are copied, and the
# definitions that the chart installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PATH=${NODEGADGET_CACHE:-$HOME/.cache/nodegadget}/bin:$PATH
controller-gen object:headerFile=hack/header.go.txt crd paths=./pkg/api/... \
	output:crd:dir=charts/nodegadget/files/crds
