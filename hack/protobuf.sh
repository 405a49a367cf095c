#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/protobuf.sh
#
# Writes the Go code of every pkg/**/*.proto next to it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PATH=${NODEGADGET_CACHE:-$HOME/.cache/nodegadget}/bin:$PATH
mapfile -t protos < <(find pkg -name '*.proto' | LC_ALL=C sort)
if ((${#protos[@]} == 0)); then exit 0; fi
protoc -I . --go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative "${protos[@]}"
