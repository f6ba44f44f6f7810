#!/bin/bash
# readme.sh SUITE [COMMAND…]: the README's two commands, or these, in a clean Debian (bookworm, trixie) that has nothing but make,
# git and this machine's Rust. Needs root, mmdebstrap, and half an hour; what it starts ends with it (a process namespace).
set -euo pipefail
suite=${1:?usage: readme.sh SUITE [COMMAND…]}
shift
[ $# -gt 0 ] || set -- "make demo SECONDS=60" "make test"
cd "$(dirname "$0")/../.."
. cross/mirrors.sh
root=$PWD/target/packages/readme-$suite
rust=$(rustc --print sysroot)
cleanup() { rm -rf --one-file-system "$root"; }
trap cleanup EXIT
cleanup
mkdir -p "$root"

echo "== $suite: a clean root" >&2
mmdebstrap --variant=minbase --mode=root --aptopt='Apt::Install-Recommends "false"' --include=make,git,ca-certificates \
    --skip=cleanup/apt "$suite" "$root" "deb $mirror $suite main" "deb $mirror $suite-updates main" "deb $security $suite-security main" >&2
mkdir "$root/rust"
cp -a "$rust"/{bin,lib} "$root/rust/"
# The authorities that this machine trusts: its mirrors may have one of their own.
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
git clone -q --no-local . "$root/root/sentrycam"

# $1 is the root, the rest are commands.
# shellcheck disable=SC2016 # expanded by the inner shell
inner='set -eu
root=$1
shift
for dir in dev sys; do mount --rbind "/$dir" "$root/$dir"; done
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev/shm"
for command in "$@"; do
    echo "== $command" >&2
    began=$(date +%s)
    chroot "$root" /usr/bin/env -i HOME=/root PATH=/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
        sh -c "cd /root/sentrycam && $command"
    echo "== $command: ok after $(($(date +%s) - began)) s" >&2
done'
unshare --mount --pid --fork --kill-child --propagation private bash -c "$inner" bash "$root" "$@"
echo "readme ($suite): $* passed in a clean root"
