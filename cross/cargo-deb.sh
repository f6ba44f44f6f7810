#!/bin/sh
# Prints where cargo-deb is: an installed one of the pinned version, else one that is built into target/tools.
set -eu
version="cargo-deb 3.8.0"
if [ "$(cargo-deb --version 2>/dev/null)" = "$version" ]; then
    command -v cargo-deb
    exit 0
fi
root=target/tools/cargo-deb
if [ "$("$root/bin/cargo-deb" --version 2>/dev/null)" != "$version" ]; then
    echo "building $version, once" >&2
    cargo install -q cargo-deb --version "${version#* }" --locked --root "$root" >&2
fi
echo "$root/bin/cargo-deb"
