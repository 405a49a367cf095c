#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: build.sh SOURCE WORK OUT
#
# Builds a kernel without BTF from a tar of Linux (Debian's linux-source package)
# in the empty directory WORK, which needs 4 GB, and leaves in OUT:
#
#	vmlinux   what qemu boots, without debug information
#	btf       its types, made from DWARF by pahole: what this kernel does not have
#	release   as uname -r prints it
#	config    the whole configuration
#
# The options are the *.config files beside this script, on top of allnoconfig.
# Standard output is progress, standard error a log.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$1 work=$2 out=$3

# The same source gives the same kernel, whoever builds it, wherever and when.
export KBUILD_BUILD_TIMESTAMP='1970-01-01 00:00:00 UTC' KBUILD_BUILD_VERSION=1
export KBUILD_BUILD_USER=nodegadget KBUILD_BUILD_HOST=nodegadget LC_ALL=C

run() { make -s -j"$(nproc)" KCFLAGS="-fdebug-prefix-map=$PWD=." "$@"; }

# check_config fails unless every line of the fragments is in .config; an option
# that is to be off may also be unknown there.
check_config() {
	local line name missing=0
	while read -r line; do
		case $line in
		CONFIG_*) if grep -qxF -- "$line" .config; then continue; fi ;;
		'# CONFIG_'*' is not set')
			name=${line#\# } name=${name%% *}
			if ! grep -q "^$name=" .config; then continue; fi
			;;
		*) continue ;;
		esac
		echo "not honoured: $line"
		missing=1
	done < <(cat "$here"/*.config)
	return "$missing"
}

echo 'unpacking the source'
tar -xf "$source" -C "$work" --strip-components=1
cd "$work"

echo 'configuring'
run allnoconfig >&2
scripts/kconfig/merge_config.sh -m .config "$here"/*.config >&2
run olddefconfig >&2
check_config

echo 'compiling, 10 to 20 minutes on two cores'
run vmlinux >&2
run kernelrelease >"$out/release"

echo 'taking the types out'
pahole --btf_encode_detached="$out/btf" vmlinux
chmod 644 "$out/btf"
strip --strip-all -o "$out/vmlinux" vmlinux
cp .config "$out/config"
