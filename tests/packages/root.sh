#!/bin/bash
# root.sh SUITE DIR: a clean Debian (bookworm, trixie) in DIR, from this machine's own mirrors, kept as DIR.tar for the next
# time. Everything that the package depends on is downloaded already, and nothing of it installed. Needs root, mmdebstrap.
set -euo pipefail
suite=${1:?usage: root.sh SUITE DIR} dir=${2:?usage: root.sh SUITE DIR}
cd "$(dirname "$0")/../.."
. cross/mirrors.sh
rm -rf "$dir"
mkdir -p "$dir"
if [ ! -e "$dir.tar" ]; then
    echo "making a clean $suite, once" >&2
    depends=$(python3 - <<'PY'
import tomllib
deb = tomllib.load(open("Cargo.toml", "rb"))["package"]["metadata"]["deb"]
print(" ".join(d.split("|")[0].split()[0] for d in (deb["depends"]).split(",")))
PY
)
    mmdebstrap --format=tar --variant=minbase --mode=root --aptopt='Apt::Install-Recommends "false"' \
        --include=init,systemd,dbus,ca-certificates --skip=cleanup/apt \
        --customize-hook="chroot \"\$1\" apt-get install -qqy --download-only $depends" \
        "$suite" "$dir.tar.new" "deb $mirror $suite main" >&2
    mv "$dir.tar.new" "$dir.tar"
fi
tar -C "$dir" -xf "$dir.tar"
