#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/image.sh TAG ARGS...
#
# Builds the Dockerfile with the first of buildah, podman and docker. Files in
# the image get the time of the last commit, so that the commit decides its bytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tag=$1
shift
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
for builder in buildah podman docker; do
	if ! command -v "$builder" >/dev/null; then continue; fi
	args=(--tag "$tag" --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" "$@" .)
	case $builder in
	docker) exec docker build "${args[@]}" ;;
	*) exec "$builder" build --timestamp "$SOURCE_DATE_EPOCH" "${args[@]}" ;;
	esac
done
echo 'image: needs buildah, podman or docker; on Debian: apt-get install buildah' >&2
exit 1
