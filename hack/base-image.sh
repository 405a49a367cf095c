#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/base-image.sh
#
# Makes the image that `make image` compiles in where golang's can't be pulled:
# Debian packages, and this machine's Go. Prints its name, which is what
# --build-arg GOLANG takes. Its file system is kept below $NODEGADGET_CACHE; the
# name has the hash of all it was made from, so that it is made once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/versions.env
. hack/versions.env

readonly suite=bookworm # of the packages in hack/versions.env
cache=${NODEGADGET_CACHE:-$HOME/.cache/nodegadget}/images
goroot=$(go env GOROOT)

say() { echo "base-image: $*" >&2; }

# The names only: hack/deps.sh, which the build runs, says where versions differ.
packages=ca-certificates,git,gcc,libc6-dev,make
for pin in "$DEB_CLANG" "$DEB_LLVM" "$DEB_LIBBPF"; do packages+=,${pin%%=*}; done

key=$(
	{
		cat hack/base-image.sh "$goroot/VERSION"
		echo "$packages $(go env GOHOSTARCH)"
	} | sha256sum
)
name=localhost/nodegadget-golang:${key:0:12}
tar=$cache/${name##*:}.tar

# sources are this machine's own mirrors, as far as they have the suite. Without
# any, mmdebstrap takes Debian's.
sources() {
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	if ! command -v apt-get >/dev/null; then return; fi
	# shellcheck disable=SC2016
	apt-get indextargets --format "deb [signed-by=$keyring]"' $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' | grep -E "/debian(-security)?/ $suite(-[a-z]+)? main$" || true
}

# make_tar writes what the image holds. Documents and the toolchain's own tests
# are half of it, and nothing reads them.
make_tar() {
	local mirrors tmp
	if ! command -v mmdebstrap >/dev/null; then
		say 'needs mmdebstrap; on Debian: apt-get install mmdebstrap'
		exit 1
	fi
	mkdir -p "$cache"
	tmp=$(mktemp -d "$cache/.base-XXXXXX")
	# shellcheck disable=SC2064
	trap "rm -rf '$tmp'" EXIT
	mirrors=$(sources)
	say "making $name of Debian packages and $(go env GOVERSION); this takes some minutes, once"
	mkdir "$tmp/go"
	cp -r "$goroot"/{VERSION,go.env,bin,lib,pkg,src} "$tmp/go/"
	find "$tmp/go/src" -name testdata -type d -prune -exec rm -r {} +
	mmdebstrap --quiet --variant=minbase --include="$packages" \
		--aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--customize-hook="copy-in '$tmp/go' /usr/local" \
		"$suite" "$tmp/root.tar" ${mirrors:+"$mirrors"} >&2
	# Those of earlier keys are not asked for again.
	rm -f "$cache"/*.tar
	mv "$tmp/root.tar" "$tar"
}

readonly path=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# import_tar puts the file system into the store of the first builder, the same
# one that hack/image.sh takes.
import_tar() {
	local container
	case $1 in
	buildah)
		container=$(buildah from scratch)
		buildah add --quiet "$container" "$tar" / >/dev/null
		buildah config --env "PATH=$path" --env GOTOOLCHAIN=local "$container"
		buildah commit --quiet --rm "$container" "$name" >/dev/null
		;;
	*) "$1" import --change "ENV PATH=$path" --change "ENV GOTOOLCHAIN=local" "$tar" "$name" >/dev/null ;;
	esac
}

# has says whether a builder's store has the image.
has() {
	case $1 in
	buildah) buildah inspect --type image "$name" ;;
	*) "$1" image inspect "$name" ;;
	esac >/dev/null 2>&1
}

for builder in buildah podman docker; do
	if ! command -v "$builder" >/dev/null; then continue; fi
	# Two at once would make it twice.
	mkdir -p "$cache"
	exec 9>"$cache/.lock"
	flock 9
	if ! has "$builder"; then
		if [[ ! -e $tar ]]; then make_tar; fi
		import_tar "$builder"
	fi
	echo "$name"
	exit
done
echo 'base-image: needs buildah, podman or docker; on Debian: apt-get install buildah' >&2
exit 1
