#!/bin/bash
# contents.sh DEB: what is in the package, and what Debian's own tools say of it.
set -euo pipefail
deb=$(realpath "${1:?usage: contents.sh DEB}")
cd "$(dirname "$0")/../.."
fail() { echo "contents: $*" >&2; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

bytes=$(stat -c %s "$deb")
[ "$bytes" -le 8388608 ] || fail "$bytes bytes, more than 8 MiB"
dpkg-deb -x "$deb" "$dir/root"
dpkg-deb -e "$deb" "$dir/root/DEBIAN"

programs=$(cd "$dir/root" && find . -path './*bin/*' -type f)
[ "$programs" = ./usr/bin/sentrycam ] || fail "programs: $programs"
for file in usr/lib/systemd/system/sentrycam.service usr/lib/systemd/system/sentrycam-boot.service \
    usr/lib/sysusers.d/sentrycam.conf usr/lib/tmpfiles.d/sentrycam.conf usr/lib/udev/rules.d/90-sentrycam.rules \
    usr/share/polkit-1/rules.d/50-sentrycam.rules usr/share/man/man1/sentrycam.1.gz usr/share/man/man1/sentrycam-run.1.gz \
    usr/share/bash-completion/completions/sentrycam usr/share/zsh/vendor-completions/_sentrycam \
    usr/share/fish/vendor_completions.d/sentrycam.fish usr/share/doc/sentrycam/third-party.txt.gz; do
    [ -s "$dir/root/$file" ] || fail "$file is missing"
done
grep -qx /etc/sentrycam/sentrycam.toml "$dir/root/DEBIAN/conffiles" || fail "the configuration is no conffile"
for crate in ring rustls rusqlite tokio gstreamer; do
    zgrep -q "^$crate [0-9]" "$dir/root/usr/share/doc/sentrycam/third-party.txt.gz" || fail "no licence of $crate"
done
bash -n "$dir/root/usr/share/bash-completion/completions/sentrycam"
for page in "$dir"/root/usr/share/man/man1/*.gz; do
    said=$(zcat "$page" | LC_ALL=C.UTF-8 man --warnings -E UTF-8 -l -Tutf8 -Z - 2>&1 >/dev/null) || true
    [ -z "$said" ] || fail "$(basename "$page"): $said"
done

# The dependencies are written by hand; the libraries that the program is linked with must be among them.
if [ "$(dpkg-deb -f "$deb" Architecture)" = "$(dpkg --print-architecture)" ]; then
    mkdir -p "$dir/debian"
    printf 'Source: sentrycam\n\nPackage: sentrycam\nArchitecture: any\n' >"$dir/debian/control"
    found=$(cd "$dir" && dpkg-shlibdeps -O root/usr/bin/sentrycam 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
    depends=$(dpkg-deb -f "$deb" Depends)
    while read -r name version; do
        named=$(tr ',' '\n' <<<"$depends" | sed 's/^ *//; s/|.*//' | grep -E "^$name( |\$)") || fail "depends on $name, which is not named"
        # At least the version that it is linked for.
        want=$(sed -n 's/.*(>= \(.*\))/\1/p' <<<"$version")
        have=$(sed -n 's/.*(>= \(.*\)).*/\1/p' <<<"$named")
        [ -z "$want" ] || dpkg --compare-versions "${have:-0}" ge "$want" || fail "$name: needs >= $want, names >= ${have:-nothing}"
    done < <(tr ',' '\n' <<<"$found" | sed 's/^ *//')
fi
if grep -a -q -e "$HOME/\.cargo" -e "$PWD" "$dir/root/usr/bin/sentrycam"; then
    fail "the program knows where it was built"
fi

lintian=$(lintian --fail-on error --tag-display-limit 0 "$deb" 2>&1) || { echo "$lintian" >&2; fail "lintian finds errors"; }
echo "lintian: no errors, $(grep -c '^W:' <<<"$lintian" || true) warnings"
echo "contents: $(basename "$deb"), $bytes bytes, installed $(dpkg-deb -f "$deb" Installed-Size) KiB"
