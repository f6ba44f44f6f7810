#!/bin/bash
# root.sh DEB TAR: a Debian 12 for arm64 with kernel, Raspberry Pi firmware and everything that DEB depends on or recommends,
# without DEB itself, as TAR. Takes 10 to 30 minutes under emulation, once: made again only when what is asked for changes.
# Needs root, mmdebstrap and qemu-user-static.
set -euo pipefail
deb=$(realpath "${1:?usage: root.sh DEB TAR}") tar=${2:?usage: root.sh DEB TAR}
cd "$(dirname "$0")/../.."
. cross/mirrors.sh
words() { dpkg-deb -f "$deb" "$1" | tr ',' '\n' | sed 's/|.*//; s/(.*//' | xargs | tr ' ' ','; }
# Wi-Fi needs its firmware, the supplicant and the rules of the country; ssh is off until it is given a key.
packages=$(words Depends),$(words Recommends),\
linux-image-arm64,initramfs-tools,zstd,raspi-firmware,firmware-brcm80211,wireless-regdb,init,udev,kmod,\
dbus,systemd-timesyncd,systemd-resolved,wpasupplicant,openssl,openssh-server,iproute2,iputils-ping,procps,less,\
fdisk,e2fsprogs,dosfstools,util-linux,v4l-utils,tzdata
stamp=$(cksum <<<"$packages$(sed -n '/^make_root()/,/^}/p' cross/image/root.sh; cat cross/image/files/etc/fstab)")
[ ! -e "$tar" ] || [ "$(cat "$tar.stamp" 2>/dev/null)" != "$stamp" ] || exit 0

make_root() {
    # Licences stay (doc/*/copyright); kernel modules of hardware that no Raspberry Pi has go.
    mmdebstrap --format=tar --architectures=arm64 --variant=minbase --mode=root --components=main,non-free-firmware \
        --aptopt='Apt::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt='path-include=/usr/share/doc/sentrycam/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/gpu/drm/amd/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/gpu/drm/nouveau/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/gpu/drm/radeon/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/infiniband/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/net/ethernet/mellanox/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/net/ethernet/chelsio/*' \
        --essential-hook='mkdir -p "$1/boot/firmware"' --essential-hook='copy-in cross/image/files/etc/fstab /etc' \
        --include="$packages" "${repositories[@]}"
}
repositories=(bookworm "$tar.new" "deb $mirror bookworm main non-free-firmware" "deb $mirror bookworm-updates main non-free-firmware"
    "deb ${security:?no security mirror in the apt sources} bookworm-security main non-free-firmware")
echo "image: a Debian 12 for arm64, once (10 to 30 minutes; progress in $tar.log)" >&2
make_root >"$tar.log" 2>&1 || { tail -n 20 "$tar.log" >&2; exit 1; }
mv "$tar.new" "$tar"
echo "$stamp" >"$tar.stamp"
