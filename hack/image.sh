#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/image.sh TAG ARGS...
#
# Builds the Dockerfile with the first of buildah, podman and docker. ARGS are
# arguments of its build command that all three have, such as --target btfgen,
# --platform linux/arm64, --build-context btfhub=DIR, --build-arg NAME=VALUE.
# With several platforms the tag is that of a manifest list.
#
# Files in the image get the time of the last commit, so that the commit decides
# its bytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tag=$1
shift
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
args=(--build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH"
	--build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || true)")

# Modules come from where this machine gets them, and those that it has needn't
# be fetched again. BuildKit has no such mount.
proxy=$(go env GOPROXY 2>/dev/null || true)
modules=$(go env GOMODCACHE 2>/dev/null || true)/cache/download
mounts=()
if [[ -d $modules ]]; then
	mounts=(--volume "$modules:/modules:ro" --build-arg "GOPROXY=file:///modules${proxy:+,$proxy}")
fi

case $(uname -m) in
aarch64 | arm64) native=linux/arm64 ;;
*) native=linux/amd64 ;;
esac

name=(--tag "$tag")
if [[ "$* " =~ --platform[=\ ][^\ ]*, ]]; then name=(--manifest "$tag"); fi

for builder in buildah podman docker; do
	if ! command -v "$builder" >/dev/null; then continue; fi
	case $builder in
	docker)
		# The old builder knows neither mounts nor build contexts.
		export DOCKER_BUILDKIT=1
		exec docker build --tag "$tag" "${args[@]}" ${proxy:+--build-arg "GOPROXY=$proxy"} "$@" .
		;;
	buildah)
		# Without a container runtime buildah can still change the root.
		if ! command -v crun >/dev/null && ! command -v runc >/dev/null; then
			export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}
		fi
		;;
	esac
	exec "$builder" build "${name[@]}" --timestamp "$SOURCE_DATE_EPOCH" "${mounts[@]}" \
		--build-arg "NATIVE=$native" "${args[@]}" "$@" .
done
echo 'image: needs buildah, podman or docker; on Debian: apt-get install buildah' >&2
exit 1
