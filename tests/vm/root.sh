#!/bin/bash
# root.sh DEB: makes target/vm/{root.ext4,vmlinuz,initrd.img}, a Debian 12 machine with systemd and DEB installed, without loop
# devices and mounts. What takes minutes is kept: the root without DEB (base.tar), the modules. Needs root.
set -euo pipefail
deb=$(realpath "${1:?usage: root.sh DEB}")
cd "$(dirname "$0")/../.."
here=$PWD/tests/vm out=$PWD/target/vm
. cross/mirrors.sh
mkdir -p "$out"

# What the package needs is in the base already; what it only recommends, too: a reboot by command needs polkit.
packages=$(dpkg-deb -f "$deb" Depends | tr ',' '\n' | sed 's/|.*//; s/(.*//' | xargs | tr ' ' ','),\
linux-image-amd64,initramfs-tools,init,systemd,systemd-sysv,udev,dbus,polkitd,libpam-systemd,kmod,iproute2,procps,\
v4l-utils,sqlite3,e2fsprogs,eatmydata
lists="$here/root.sh $packages"
stamp=$(cksum <<<"$lists$(sed -n '/^base()/,/^}/p' "$here/root.sh")")

base() {
    mmdebstrap --format=tar --variant=minbase --mode=root --components=main --aptopt='Apt::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/gpu/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/net/ethernet/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/net/wireless/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/infiniband/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/scsi/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/sound/*' \
        --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"; printf "MODULES=list\nCOMPRESS=lz4\n" >"$1/etc/initramfs-tools/conf.d/vm"' \
        --essential-hook='printf "virtio_pci\nvirtio_blk\nvirtio_console\next4\ncrc32c_intel\n" >"$1/etc/initramfs-tools/modules"' \
        --include="$packages" --customize-hook='chroot "$1" passwd -d root' \
        bookworm "$1" "deb $mirror bookworm main" "deb $mirror bookworm-updates main" "deb $security bookworm-security main"
}

if [ ! -e "$out/base.tar" ] || [ "$(cat "$out/base.stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "making a Debian 12, once" >&2
    base "$out/base.tar.new" >"$out/base.log" 2>&1 || { tail -n 20 "$out/base.log" >&2; exit 1; }
    mv "$out/base.tar.new" "$out/base.tar"
    echo "$stamp" >"$out/base.stamp"
fi

stamp=$(cat "$out/base.stamp" "$deb" "$here"/root.sh "$here"/modules.sh "$here"/guest/* | sha256sum)
[ ! -e "$out/root.ext4" ] || [ "$(cat "$out/root.stamp" 2>/dev/null)" != "$stamp" ] || exit 0

echo "installing $(basename "$deb")" >&2
root=$out/root
rm -rf "$root" "$out/root.ext4"
mkdir "$root"
tar -C "$root" -xf "$out/base.tar"
cp "$deb" "$root/root/sentrycam.deb"
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
    dpkg -i /root/sentrycam.deb >"$out/install.log" 2>&1 || { tail -n 20 "$out/install.log" >&2; exit 1; }
rm "$root/root/sentrycam.deb"
# By the package: the root disk is thrown away after each run, and each would wait for it.
[ -s "$root/var/cache/sentrycam/gst-registry.bin" ] || { echo "GStreamer's list of plug-ins was not made" >&2; exit 1; }

kernel=$(basename "$(ls -d "$root"/lib/modules/*-amd64)")
"$here/modules.sh" "$kernel" "$out/modules"
install -D -m 644 -t "$root/lib/modules/$kernel/updates" "$out/modules/$kernel"/*.ko
depmod -b "$root" "$kernel"

install -D -m 755 -t "$root/usr/lib/vm" "$here"/guest/*.sh
install -m 644 -t "$root/etc/systemd/system" "$here"/guest/*.service
echo vm >"$root/etc/hostname"
echo "127.0.0.1 localhost vm" >"$root/etc/hosts"
echo 5e27c0a3d5f14b6f9d3c1b2a39485766 >"$root/etc/machine-id"
echo "/dev/vda / ext4 rw,errors=remount-ro 0 1" >"$root/etc/fstab"
printf '[Match]\nName=en*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >"$root/etc/systemd/network/10-vm.network"
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/vm.conf"
systemctl --root="$root" enable -q systemd-networkd vm-setup vm-control
systemctl --root="$root" mask -q apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
    systemd-timesyncd.service serial-getty@ttyS0.service getty@tty1.service systemd-networkd-wait-online.service

cp -L "$root/vmlinuz" "$root/initrd.img" "$out/"
mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 -d "$root" -L root "$out/root.ext4" $(($(du -sm "$root" | cut -f1) * 5 / 4 + 200))M
rm -rf "$root"
echo "$stamp" >"$out/root.stamp"
