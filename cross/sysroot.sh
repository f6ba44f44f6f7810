#!/bin/bash
# sysroot.sh ARCH: the headers and libraries of Debian 12 for arm64 or armhf, in target/cross/sysroot-ARCH. Packages are
# unpacked only: nothing foreign runs, this machine's packages stay as they are. Needs mmdebstrap; made once.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/mirrors.sh
arch=${1:?usage: sysroot.sh arm64|armhf}
dir=$PWD/target/cross/sysroot-$arch
[ ! -e "$dir/.complete" ] || exit 0
rm -rf "$dir"
mkdir -p "$(dirname "$dir")"
echo "sysroot for $arch, once (about 1 GB)" >&2
# The armhf index of the security suite is not always whole on mirrors; a sysroot needs no fixes that change no interface.
mmdebstrap --architectures="$arch" --variant=extract --skip=check/qemu --aptopt='Apt::Install-Recommends "false"' \
    --include=libc6-dev,libgcc-12-dev,libgstreamer1.0-dev,libgstreamer-plugins-base1.0-dev \
    bookworm "$dir" "deb $mirror bookworm main" "deb $mirror bookworm-updates main" >&2
# Absolute links point into this machine; they are made relative to the sysroot.
find "$dir" -type l -lname '/*' | while read -r link; do
    to=$(readlink "$link")
    [ ! -e "$dir$to" ] || ln -sfn "$(realpath -m --relative-to="$(dirname "$link")" "$dir$to")" "$link"
done
touch "$dir/.complete"
