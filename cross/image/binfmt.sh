#!/bin/sh
# binfmt.sh: makes this machine run programs for arm64, with qemu-user-static; does nothing where it does already. systemd has
# registered it where it is init; elsewhere (containers) that is done here, until the next boot. Needs root then.
set -eu
misc=/proc/sys/fs/binfmt_misc
[ "$(dpkg --print-architecture)" != arm64 ] || exit 0
[ -e "$misc/register" ] || mount -t binfmt_misc binfmt_misc "$misc" 2>/dev/null || {
    echo "binfmt: cannot mount binfmt_misc: run as root, with the kernel module binfmt_misc" >&2
    exit 1
}
grep -qs '^enabled' "$misc/qemu-aarch64" || grep '^:' /usr/lib/binfmt.d/qemu-aarch64.conf >"$misc/register"
# F: the interpreter is open already, a foreign root need not have it.
grep -qs '^flags:.*F' "$misc/qemu-aarch64" || {
    echo "binfmt: qemu-aarch64 is registered without the flag F; remove it (echo -1 >$misc/qemu-aarch64), try again" >&2
    exit 1
}
