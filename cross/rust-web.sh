#!/bin/bash
# rust-web.sh: a Rust that can build for arm64 and armhf, in target/cross/rust-web: Debian's rustc-web and cargo-web of the
# security suite, its standard library for arm64, and its sources for armhf. Unpacked only, this machine's packages stay as
# they are. Where rustup brings the target's standard library, that is used instead (cross/cross-env.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/mirrors.sh
dir=$PWD/target/cross/rust-web
[ ! -e "$dir/.complete" ] || exit 0
rm -rf "$dir"
apt=$dir/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$dir/debs"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
for line in "$mirror bookworm" "$mirror bookworm-updates" "${security:?no security mirror in the apt sources} bookworm-security"; do
    echo "deb [signed-by=$keyring arch=amd64,arm64] $line main"
done >"$apt/sources.list"
options=(-o APT::Architectures::=amd64 -o APT::Architectures::=arm64 -o "Dir::Etc::sourcelist=$apt/sources.list"
    -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists" -o "Dir::Cache::archives=$apt/archives"
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
echo "Rust of Debian for foreign targets, once" >&2
apt-get "${options[@]}" -qq update
version=$(apt-cache "${options[@]}" policy rustc-web | sed -n 's/ *Candidate: //p')
minor=$(cut -d. -f1,2 <<<"$version")
# rustc-web's own libraries, as its dependencies name them.
libraries=$(apt-cache "${options[@]}" show "rustc-web=$version" "cargo-web=$version" "libstd-rust-web-$minor=$version" |
    sed -n 's/^Depends: //p' | tr ',' '\n' | sed 's/^ *//; s/[ (:|].*//' | grep -E '^lib(llvm|z3|git2|ssh2|http-parser|mbed)' | sort -u)
extra=$(for l in $libraries; do apt-cache "${options[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts \
    --no-breaks --no-replaces --no-enhances "$l"; done | grep -E '^lib(z3|git2|ssh2|http-parser|mbed|llvm)' | sed 's/:.*//' | sort -u)
cd "$dir/debs"
# shellcheck disable=SC2086 # a list of words
apt-get "${options[@]}" -qq download "rustc-web=$version" "cargo-web=$version" "libstd-rust-web-dev=$version" \
    "libstd-rust-web-$minor=$version" "libstd-rust-web-dev:arm64=$version" "libstd-rust-web-$minor:arm64=$version" \
    "rust-web-src=$version" $libraries $extra
for deb in *.deb; do
    dpkg-deb -x "$deb" "$dir"
done
cd "$dir"
rm -rf "$dir/debs" "$apt"
for program in rustc cargo; do
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$dir/usr/lib/x86_64-linux-gnu" "$dir/usr/bin/$program" >"$dir/$program"
    chmod +x "$dir/$program"
done
"$dir/rustc" --version >&2
touch "$dir/.complete"
