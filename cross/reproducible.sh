#!/bin/bash
# reproducible.sh ARCH: builds the package twice from nothing, the second time as a copy elsewhere with other build
# directories, and compares the bytes. ONCE=1 compares with the package that is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
arch=${1:-$(dpkg --print-architecture)}
deb=$(cross/deb-name.sh "$arch")
[ -n "${ONCE:-}" ] && [ -e "$deb" ] || cross/deb.sh "$arch"
copy=$(mktemp -d "${TMPDIR:-/var/tmp}/another-place.XXXXXX")
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -C "$copy" -xf -
mkdir -p "$copy/target/debug"
[ ! -e target/tools ] || cp -a target/tools "$copy/target/"
[ ! -e target/cross ] || ln -s "$PWD/target/cross" "$copy/target/cross"
(cd "$copy" && DEB_TARGET_DIR=$copy/elsewhere TZ=Asia/Tokyo cross/deb.sh "$arch")
if cmp "$deb" "$copy/$deb"; then
    sha256sum "$deb"
    echo "reproducible: two builds in two places made the same bytes"
else
    echo "reproducible: the two differ in:" >&2
    for part in x e; do
        dpkg-deb "-$part" "$deb" "$copy/one-$part"
        dpkg-deb "-$part" "$copy/$deb" "$copy/two-$part"
        diff -rq "$copy/one-$part" "$copy/two-$part" >&2 || true
    done
    exit 1
fi
