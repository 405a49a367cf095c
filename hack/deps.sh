#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: hack/deps.sh GROUP...
#
# Installs what the named groups (build, generate, lint, kernels, test, image,
# bench, e2e, e2e-mixed) need and this machine lacks, at the versions of
# hack/versions.env, and says what it installs. Silent when everything is there.
# Debian packages need root; Go tools go to the cache ($NODEGADGET_CACHE, default
# ~/.cache/nodegadget).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/versions.env
. hack/versions.env

cache=${NODEGADGET_CACHE:-$HOME/.cache/nodegadget}

say() { echo "deps: $*" >&2; }
die() { say "$*"; exit 1; }

# exact holds packages whose output is committed; debs those that only have to
# be there, whatever their version; tools the Go programs.
exact=() debs=() tools=()
for group in "$@"; do
	case $group in
	build) exact+=("$DEB_CLANG" "$DEB_LLVM" "$DEB_LIBBPF") ;;
	generate)
		exact+=("$DEB_CLANG" "$DEB_LLVM" "$DEB_LIBBPF" "$DEB_PROTOC")
		debs+=("$DEB_PROTOBUF")
		tools+=("$GO_PROTOC_GEN_GO" "$GO_PROTOC_GEN_GO_GRPC" "$GO_CONTROLLER_GEN")
		;;
	lint)
		exact+=("$DEB_CLANG_FORMAT")
		tools+=("$GO_GOFUMPT" "$GO_GOLANGCI_LINT")
		;;
	kernels)
		debs+=("$DEB_QEMU_X86" "$DEB_QEMU_ARM" "$DEB_BUSYBOX"
			"$DEB_ZSTD" "$DEB_XZ" "$DEB_LZ4")
		# For the kernel that is built.
		debs+=("$DEB_FLEX" "$DEB_BISON" "$DEB_BC" "$DEB_LIBELF" "$DEB_DWARVES")
		;;
	test) debs+=("$DEB_BPFTOOL" "$DEB_DWARVES" "$DEB_XZ") ;;
	image) debs+=("$DEB_BUILDAH" "$DEB_MMDEBSTRAP") ;;
	bench) debs+=("$DEB_LIBBPF_TOOLS" "$DEB_BPFTRACE" "$DEB_BPFTOOL" "$DEB_XZ") ;;
	e2e | e2e-mixed)
		if [[ $group == e2e ]]; then tools+=("$GO_HELM"); fi
		debs+=("$DEB_ETCD" "$DEB_CNI" "$DEB_IPTABLES" "$DEB_IPROUTE" "$DEB_BUSYBOX")
		# Docker's containerd.io has both, and can't stand beside Debian's.
		if ! command -v containerd >/dev/null; then debs+=("$DEB_CONTAINERD" "$DEB_RUNC"); fi
		# Virtual machines, and their disks.
		if [[ $group == e2e-mixed ]]; then debs+=("$DEB_QEMU_X86" "$DEB_E2FSPROGS" "$DEB_MOUNT"); fi
		;;
	*) die "unknown group $group: want build, generate, lint, kernels, test, image, bench, e2e or e2e-mixed" ;;
	esac
done

# installed fills have[package] with the installed version.
declare -A have=()
installed() {
	local name version status
	have=()
	while read -r name version status; do
		if [[ $status == installed ]]; then have[$name]=$version; fi
	done < <(dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
}

# install_debs gets the packages given as name=version. A pin that the archive
# no longer holds is replaced by the newest version of the same package.
install_debs() {
	local pin wanted=()
	if ((EUID != 0)); then
		die "missing packages, and this is not root; run: apt-get install --no-install-recommends $*"
	fi
	# One at a time, also under make -j.
	mkdir -p "$cache"
	exec 9>"$cache/deps.lock"
	flock 9
	say "updating the package index"
	apt-get -qq -o DPkg::Lock::Timeout=300 update >&2
	for pin in "$@"; do
		# A here-string, so that grep -q cannot end apt-cache with SIGPIPE.
		if grep -qF " ${pin#*=} " <<<"$(apt-cache madison "${pin%%=*}")"; then
			wanted+=("$pin")
			continue
		fi
		say "NOTICE: $pin is no longer in the archive; taking the newest ${pin%%=*} instead." \
			"Update hack/versions.env."
		wanted+=("${pin%%=*}")
	done
	say "installing ${wanted[*]}"
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
		install --no-install-recommends "${wanted[@]}" >&2
	exec 9>&-
}

check_debs() {
	local pin name missing=()
	local -A seen=()
	if ! command -v dpkg-query >/dev/null; then
		check_commands
		return
	fi
	installed "${exact[@]%%=*}" "${debs[@]%%=*}"
	for pin in "${exact[@]}" "${debs[@]}"; do
		name=${pin%%=*}
		if [[ -z ${have[$name]-} && -z ${seen[$name]-} ]]; then missing+=("$pin"); fi
		seen[$name]=1
	done
	if ((${#missing[@]})); then
		install_debs "${missing[@]}"
		installed "${exact[@]%%=*}"
	fi
	for pin in "${exact[@]}"; do
		name=${pin%%=*}
		if [[ -n ${have[$name]-} && ${have[$name]} != "${pin#*=}" ]]; then
			say "NOTICE: $name is ${have[$name]}, pinned is ${pin#*=}: generated files may differ"
		fi
	done
}

# check_commands stands in for package checks on other distributions: it can
# say what is missing and leaves installing to the reader.
check_commands() {
	local pin missing=()
	for pin in "${exact[@]}" "${debs[@]}"; do
		case ${pin%%=*} in
		clang-[0-9]* | clang-format-*) command -v "${pin%%=*}" >/dev/null ;;
		llvm-*) command -v "llvm-strip-$LLVM" >/dev/null ;;
		libbpf-dev) [[ -e /usr/include/bpf/bpf_helpers.h ]] ;;
		protobuf-compiler) command -v protoc >/dev/null ;;
		libprotobuf-dev) [[ -e /usr/include/google/protobuf/any.proto ]] ;;
		qemu-system-x86) command -v qemu-system-x86_64 >/dev/null ;;
		qemu-system-arm) command -v qemu-system-aarch64 >/dev/null ;;
		busybox-static) command -v busybox >/dev/null ;;
		xz-utils) command -v xz >/dev/null ;;
		libelf-dev) [[ -e /usr/include/libelf.h ]] ;;
		dwarves) command -v pahole >/dev/null ;;
		libbpf-tools) command -v opensnoop >/dev/null ;;
		etcd-server) command -v etcd >/dev/null ;;
		containernetworking-plugins) [[ -e /usr/lib/cni/bridge || -e /opt/cni/bin/bridge || -e /usr/libexec/cni/bridge ]] ;;
		iproute2) command -v ip >/dev/null ;;
		e2fsprogs) command -v mkfs.ext4 >/dev/null ;;
		*) command -v "${pin%%=*}" >/dev/null ;;
		esac || missing+=("$pin")
	done
	if ((${#missing[@]})); then
		die "missing, and this is not Debian; install the equivalents of: ${missing[*]}"
	fi
}

# check_tools compares each tool's own build information with its pin.
check_tools() {
	local tool name info
	for tool in "${tools[@]}"; do
		name=${tool%@*} name=${name##*/}
		if [[ -x $cache/bin/$name ]]; then
			info=$(go version -m "$cache/bin/$name" 2>/dev/null || true)
			if [[ $info == *$'\tpath\t'"${tool%@*}"$'\n'* && $info == *$'\t'"${tool##*@}"$'\t'* ]]; then
				continue
			fi
		fi
		say "installing $tool to $cache/bin"
		mkdir -p "$cache/bin"
		(cd "$cache" && GOFLAGS='' GOWORK=off CGO_ENABLED=0 GOBIN=$cache/bin go install "$tool") >&2
	done
}

if ((${#exact[@]} + ${#debs[@]})); then check_debs; fi
if ((${#tools[@]})); then check_tools; fi
