#!/bin/sh
# deb-name.sh ARCH: prints where deb.sh puts the package.
set -eu
cd "$(dirname "$0")/.."
version=${DEB_VERSION:-$(sed -n '1s/.*(\(.*\)).*/\1/p' cross/debian/changelog)}
echo "target/deb/sentrycam_${version}_${1:?usage: deb-name.sh ARCH}.deb"
