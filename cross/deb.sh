#!/bin/bash
# deb.sh ARCH: builds target/deb/sentrycam_VERSION_ARCH.deb, the same bytes every time; ARCH is amd64, arm64 or armhf.
# Another architecture than this machine's is built in a sysroot (cross/sysroot.sh), without docker and without root.
# DEB_VERSION names another version than Cargo.toml's, for tests of upgrades; SKIP_BUILD=1 packs the binary that is there,
# QUICK=1 one that takes less time to build: for this machine with the dependencies of the tests, itself optimised, else
# hardly optimised; MANUAL names the program of examples/manual.rs where it is built already.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/targets.sh
arch=${1:?usage: deb.sh amd64|arm64|armhf}
target_of "$arch"
host=$(dpkg --print-architecture)
# The sources must not know where they were built.
export CARGO_TARGET_DIR=${DEB_TARGET_DIR:-$PWD/target/deb/${QUICK:+quick-}build}
out=target/deb
assets=$out/assets
mkdir -p "$assets"

cargo_deb=$(cross/cargo-deb.sh)

echo "manual, completions, licences" >&2
# The manual describes the command line, which is the same everywhere; the tests have built most of what it needs.
manual=${MANUAL:-target/debug/examples/manual}
[ -n "${MANUAL:-}" ] || (unset CARGO_TARGET_DIR && cargo build -q --locked --workspace --example manual)
rm -rf "${assets:?}"/*
"$manual" "$assets"
cross/licences.py "$triple" | gzip -9n >"$assets/third-party.txt.gz"

if [ -n "${QUICK:-}" ] && [ "$arch" != "$host" ]; then
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
elif [ -n "${QUICK:-}" ]; then
    echo "program for this machine, quickly" >&2
    (unset CARGO_TARGET_DIR && cargo build -q --locked --workspace --bin sentrycam --example manual \
        --config profile.dev.package.sentrycam.opt-level=2)
    program=$CARGO_TARGET_DIR/$triple/release/sentrycam
    install -D target/debug/sentrycam "$program"
    strip "$program"
    SKIP_BUILD=1
fi

reproducible
if [ -z "${SKIP_BUILD:-}" ]; then
    echo "program for $arch" >&2
    if [ "$arch" != "$host" ]; then
        . cross/cross-env.sh
    fi
    # ${CROSS_ARGS}: what this target needs besides, e.g. a standard library of its own.
    cargo build --release --locked -p sentrycam --bin sentrycam --target "$triple" ${CROSS_ARGS:-}
fi
"$cargo_deb" -q --no-build --no-strip --locked --offline -p sentrycam --target "$triple" --output "$out/" \
    ${DEB_VERSION:+--deb-version "$DEB_VERSION"}
