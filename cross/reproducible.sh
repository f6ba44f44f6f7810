#!/bin/bash
# reproducible.sh ARCH: builds the package twice from nothing, the second time as a copy elsewhere with other build
# directories, and compares the bytes. ONCE=1 compares with the package that is there already; PACK_ONLY=1 compiles nothing
# and packs the binary that is there twice, which proves the packing alone.
set -euo pipefail
cd "$(dirname "$0")/.."
arch=${1:-$(dpkg --print-architecture)}
deb=$(cross/deb-name.sh "$arch")
if [ -z "${ONCE:-}${PACK_ONLY:-}" ] || [ ! -e "$deb" ]; then
    cross/deb.sh "$arch"
fi
copy=$(mktemp -d "${TMPDIR:-/var/tmp}/another-place.XXXXXX")
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -C "$copy" -xf -
mkdir -p "$copy/target/debug"
[ ! -e target/tools ] || cp -a target/tools "$copy/target/"
[ ! -e target/cross ] || ln -s "$PWD/target/cross" "$copy/target/cross"
if [ -n "${PACK_ONLY:-}" ]; then
    . cross/targets.sh
    target_of "$arch"
    export SKIP_BUILD=1
    install -D "target/deb/build/$triple/release/sentrycam" "$copy/elsewhere/$triple/release/sentrycam"
fi
# What writes the manual is built once: its own bytes are in no package.
export MANUAL=$PWD/target/debug/examples/manual
(cd "$copy" && DEB_TARGET_DIR=$copy/elsewhere TZ=Asia/Tokyo cross/deb.sh "$arch")
if cmp "$deb" "$copy/$deb"; then
    sha256sum "$deb"
    echo "reproducible: ${PACK_ONLY:+packed }twice, in two places, the same bytes"
else
    echo "reproducible: the two differ in:" >&2
    for part in x e; do
        dpkg-deb "-$part" "$deb" "$copy/one-$part"
        dpkg-deb "-$part" "$copy/$deb" "$copy/two-$part"
        diff -rq "$copy/one-$part" "$copy/two-$part" >&2 || true
    done
    exit 1
fi
