#!/bin/bash
# qemu.sh [amd64|arm64]: installs QEMU for such a machine, if it is not there. Debian 12's own (7.2) would take a newer
# qemu-utils away, so there it comes from backports, with lists of its own.
set -euo pipefail
case ${1:-amd64} in
amd64) program=qemu-system-x86_64 package=qemu-system-x86 ;;
arm64) program=qemu-system-aarch64 package=qemu-system-arm ;;
*) echo "usage: qemu.sh [amd64|arm64]" >&2; exit 2 ;;
esac
command -v $program >/dev/null && command -v qemu-img >/dev/null && exit 0
cd "$(dirname "$0")/../.."
if ! grep -q bookworm /etc/os-release; then
    exec cross/deps.sh $package qemu-utils ipxe-qemu
fi
. cross/mirrors.sh
apt=$PWD/target/vm/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial"
for suite in "$mirror bookworm" "$mirror bookworm-backports" "$security bookworm-security"; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $suite main"
done >"$apt/sources.list"
options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists"
    -o "Dir::Cache::archives=$apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
apt-get "${options[@]}" -qq update
apt-get "${options[@]}" -qy install -t bookworm-backports --no-install-recommends --no-remove qemu-utils $package ipxe-qemu
