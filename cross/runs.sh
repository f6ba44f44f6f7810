#!/bin/bash
# runs.sh DEB: runs the program of another architecture's package here, under qemu-user in the sysroot it was linked in: it
# starts, and takes the configuration that is shipped.
set -euo pipefail
deb=$(realpath "${1:?usage: runs.sh DEB}")
cd "$(dirname "$0")/.."
. cross/targets.sh
arch=$(dpkg-deb -f "$deb" Architecture)
target_of "$arch"
cross/deps.sh qemu-user-static
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
dpkg-deb -x "$deb" "$dir"
run() { "qemu-${gnu%%-*}-static" -L "target/cross/sysroot-$arch" "$dir/usr/bin/sentrycam" "$@"; }
run --version
run --config "$dir/etc/sentrycam/sentrycam.toml" check-config
echo "runs: $(basename "$deb"), $(stat -c %s "$deb") bytes, under qemu-${gnu%%-*}"
