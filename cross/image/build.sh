#!/bin/bash
# build.sh DEB: makes target/image/sentrycam_VERSION_arm64.img, .img.xz and its .sha256 of the arm64 package DEB: an SD card for
# Raspberry Pi 3, 4, 400, CM3, CM4 and Zero 2 W, with a FAT boot partition and an ext4 root of Debian 12, without loop devices
# and mounts. Needs root. XZ=0 leaves the compression out.
set -euo pipefail
umask 022
deb=$(realpath "${1:?usage: build.sh DEB}")
[ "$(dpkg-deb -f "$deb" Architecture)" = arm64 ] || { echo "image: $deb is no package for arm64" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "image: a root file system is made as root: sudo $0 $1" >&2; exit 1; }
cd "$(dirname "$0")/../.."
here=$PWD/cross/image out=$PWD/target/image
image=$out/$(basename "$deb" .deb).img
mkdir -p "$out"
cross/deps.sh mmdebstrap arch-test qemu-user-static debian-archive-keyring mtools dosfstools e2fsprogs fdisk xz-utils
cross/image/binfmt.sh
cross/image/root.sh "$deb" "$out/base.tar"

stamp=$(cat "$out/base.tar.stamp" "$deb" cross/image/build.sh cross/image/readme.txt <(find cross/image/files -type f | sort | xargs cat) | sha256sum)
step() { echo "image: $* ($((SECONDS - started)) s)" >&2; }
started=$SECONDS
root=$out/root
# With /proc and /dev, which end with the command: the mounts are its own.
in_root() {
    unshare -m sh -c 'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$@"' in_root \
        "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}
logged() { "$@" >>"$out/build.log" 2>&1 || { tail -n 20 "$out/build.log" >&2; exit 1; }; }

make_image() {
    step "unpacking the root"
    rm -rf "$root"
    mkdir "$root"
    : >"$out/build.log"
    tar -C "$root" --numeric-owner -xf "$out/base.tar"

    step "installing $(basename "$deb")"
    cp "$deb" "$root/root/sentrycam.deb"
    logged in_root dpkg -i /root/sentrycam.deb
    rm "$root/root/sentrycam.deb"
    # GStreamer's list of plug-ins, which takes a slow card long to make.
    in_root install -d -m 700 -o sentrycam -g sentrycam /var/cache/sentrycam
    in_root GST_REGISTRY=/var/cache/sentrycam/gst-registry.bin GST_REGISTRY_FORK=no \
        setpriv --reuid sentrycam --regid sentrycam --init-groups /usr/bin/sentrycam probe rtsp://127.0.0.1:1/none >>"$out/build.log" 2>&1 || true
    [ -s "$root/var/cache/sentrycam/gst-registry.bin" ] || { echo "image: GStreamer's list of plug-ins was not made" >&2; exit 1; }

    step "first start and settings"
    cp -r --no-preserve=ownership,mode,timestamps "$here/files/." "$root/"
    find "$here/files" -type f -printf '%P\n' | while read -r file; do
        case $file in usr/lib/sentrycam-image/*) mode=755 ;; *) mode=644 ;; esac
        chown 0:0 "$root/$file"
        chmod "$mode" "$root/$file"
    done
    sed -i '/^force-unsafe-io$/d' "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
    echo sentrycam >"$root/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 sentrycam\n::1 localhost\n' >"$root/etc/hosts"
    ln -sfn ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
    # Each box makes its own at its first start.
    : >"$root/etc/machine-id"
    rm -f "$root"/etc/ssh/ssh_host_*_key* "$root"/var/lib/systemd/random-seed "$root"/var/lib/dbus/machine-id
    in_root passwd -q -l root
    systemctl --root="$root" enable -q systemd-networkd systemd-resolved systemd-timesyncd ssh \
        sentrycam-grow sentrycam-network sentrycam-host-keys
    systemctl --root="$root" disable -q wpa_supplicant
    local wlan=$root/etc/systemd/system/sys-subsystem-net-devices-wlan0.device.wants
    mkdir -p "$wlan"
    ln -s /lib/systemd/system/wpa_supplicant@.service "$wlan/wpa_supplicant@wlan0.service"
    # Updates are the owner's decision (docs/install.md); what writes the card by the clock is off.
    systemctl --root="$root" mask -q apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer

    # The same card for all boards: no CMA of its own (a Pi 4 may not start with it), the root by its label.
    sed -i -e '/^#\{0,1\}\(CMA\|ROOTPART\|CONSOLES\)=/d' "$root/etc/default/raspi-firmware"
    printf 'CMA=0\nROOTPART=LABEL=RASPIROOT\nCONSOLES="ttyS1,115200 tty0"\n' >>"$root/etc/default/raspi-firmware"
    logged in_root DEB_MAINT_PARAMS=configure /etc/kernel/postinst.d/z50-raspi-firmware
    for file in bootcode.bin start4.elf fixup4.dat start.elf config.txt cmdline.txt bcm2711-rpi-4-b.dtb bcm2837-rpi-3-b.dtb; do
        [ -s "$root/boot/firmware/$file" ] || { echo "image: the boot partition has no $file" >&2; exit 1; }
    done
    install -m 644 "$here/readme.txt" "$root/boot/firmware/sentrycam-readme.txt"

    step "boot partition, 256 MiB"
    rm -f "$out"/boot.vfat "$out"/root.ext4 "$image" "$image".*
    truncate -s 256M "$out/boot.vfat"
    mkfs.vfat -F 32 -n RASPIFIRM "$out/boot.vfat" >/dev/null
    mcopy -s -i "$out/boot.vfat" "$root"/boot/firmware/* ::/
    find "$root/boot/firmware" -mindepth 1 -delete

    size=$(($(du -sm "$root" | cut -f1) * 115 / 100 + 200))
    step "root partition, $size MiB"
    mkfs.ext4 -q -F -L RASPIROOT -E lazy_itable_init=0,lazy_journal_init=0 -d "$root" "$out/root.ext4" "${size}M"
    e2fsck -fn "$out/root.ext4" >/dev/null 2>&1 || { echo "image: the root file system is not sound" >&2; exit 1; }
    rm -rf "$root"

    # Both begin at a multiple of 4 MiB, as cards erase.
    truncate -s $(((4 + 256 + size) * 1048576)) "$image"
    sfdisk -q "$image" <<TABLE
label: dos
4MiB,256MiB,c,*
260MiB,${size}MiB,83
TABLE
    dd if="$out/boot.vfat" of="$image" bs=1M seek=4 conv=notrunc,sparse status=none
    dd if="$out/root.ext4" of="$image" bs=1M seek=260 conv=notrunc,sparse status=none
    rm "$out/boot.vfat" "$out/root.ext4"
    echo "$stamp" >"$image.stamp"
}

if [ ! -e "$image" ] || [ "$(cat "$image.stamp" 2>/dev/null)" != "$stamp" ]; then
    make_image
fi
if [ "${XZ:-1}" = 0 ]; then
    step "done: $image, $(($(stat -c %s "$image") / 1048576)) MiB"
    exit 0
fi
if [ ! -e "$image.xz" ]; then
    step "compressing, some minutes"
    xz -T0 -c "$image" >"$image.xz.new"
    mv "$image.xz.new" "$image.xz"
    (cd "$out" && sha256sum "$(basename "$image").xz" >"$image.xz.sha256")
fi
step "done: $image.xz, $(($(stat -c %s "$image.xz") / 1048576)) MiB, on a card $(($(stat -c %s "$image") / 1048576)) MiB"
