#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/image-bundle.sh ARCH ARCHIVE OUT
#
# Runs while the image is built: makes the bundle for one architecture (amd64 or
# arm64). An empty ARCHIVE stands for a clone of $BTFHUB_URL at $BTFHUB_REF.
# $BTFGEN_ARGS are more arguments of `btfgen build`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

archive=$2 out=$3
case $1 in
amd64) arch=x86_64 ;;
arm64) arch=arm64 ;;
*) echo "image-bundle: architecture $1: want amd64 or arm64" >&2; exit 1 ;;
esac

if [[ -z $(ls -A "$archive") ]]; then
	archive=$(mktemp -d)
	# No layer may keep the clone, which is far larger than the image.
	trap 'rm -rf "$archive"' EXIT
	echo "image-bundle: cloning $BTFHUB_URL at $BTFHUB_REF" >&2
	# One architecture's files of one commit, not gigabytes of history.
	git init --quiet "$archive"
	git -C "$archive" remote add origin "$BTFHUB_URL"
	git -C "$archive" sparse-checkout set --no-cone "/*/*/$arch/"
	if ! git -C "$archive" fetch --quiet --depth 1 --filter=blob:none origin "$BTFHUB_REF" ||
		! git -C "$archive" checkout --quiet FETCH_HEAD; then
		echo "image-bundle: there is no archive: give one with --build-context btfhub=DIR," \
			"or leave the bundle out with --build-arg ENABLE_BTFGEN=false" >&2
		exit 1
	fi
fi

go build -trimpath -buildvcs=false -o /usr/local/bin/btfgen ./cmd/btfgen
status=0
# shellcheck disable=SC2086
btfgen build --archive "$archive" --arch "$arch" --cache /root/.cache/btfgen --out "$out" ${BTFGEN_ARGS-} \
	gadgets/*/gadget."$arch".o pkg/container/bpf/tracker."$arch".o || status=$?
# 3 says that broken entries were named and skipped.
if ((status != 3)); then exit "$status"; fi
