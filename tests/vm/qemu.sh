#!/bin/bash
# qemu.sh: installs QEMU, if it is not there. Debian 12's own (7.2) would take a newer qemu-utils away, so there it comes from
# backports, with lists of its own.
set -euo pipefail
command -v qemu-system-x86_64 >/dev/null && command -v qemu-img >/dev/null && exit 0
cd "$(dirname "$0")/../.."
if ! grep -q bookworm /etc/os-release; then
    exec cross/deps.sh qemu-system-x86 qemu-utils
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
apt-get "${options[@]}" -qy install -t bookworm-backports --no-install-recommends --no-remove qemu-utils qemu-system-x86 ipxe-qemu
