# Sourced: `mirror` and `security`, the Debian mirrors of this machine's own apt sources.
_uris=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true)
mirror=$(grep -m 1 '/debian/*$' <<<"$_uris" || true)
security=$(grep -m 1 'debian-security/*$' <<<"$_uris" || true)
if [ -z "$mirror" ]; then
    echo "no Debian mirror in this machine's apt sources" >&2
    exit 1
fi
