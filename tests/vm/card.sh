#!/bin/bash
# card.sh IMAGE DIR FILES: a card for the test as an installer makes it, without loop devices and mounts: DIR/card.img is IMAGE
# on a card 2 GiB larger, with FILES/boot on its boot partition; DIR/{vmlinuz,initrd.img,cmdline.txt} are those of its boot partition,
# which a Raspberry Pi's firmware would load. What no card has: the test's hand (guest/control.sh), and what is in FILES/etc.
set -euo pipefail
usage="usage: card.sh IMAGE DIR FILES"
image=${1:?$usage} dir=${2:?$usage} files=${3:?$usage}
here=$(realpath "$(dirname "$0")")
card=$dir/card.img boot=$dir/card.img@@4M
root="$dir/card.img?offset=$((260 << 20))"

cp --sparse=always "$image" "$card"
truncate -s "+2G" "$card"
mcopy -i "$boot" "$files"/boot/* ::/
kernel=$(mtype -i "$boot" ::/config.txt | sed -n 's/^kernel=//p')
initrd=$(mtype -i "$boot" ::/config.txt | sed -n 's/^initramfs //p')
mcopy -n -i "$boot" "::/$kernel" "$dir/vmlinuz"
mcopy -n -i "$boot" "::/$initrd" "$dir/initrd.img"
mcopy -n -i "$boot" ::/cmdline.txt "$dir/cmdline.txt"
{
    echo "mkdir /usr/lib/vm"
    echo "cd /usr/lib/vm"
    echo "write $here/guest/control.sh control.sh"
    echo "sif control.sh mode 0100755"
    echo "cd /etc/systemd/system"
    echo "write $here/guest/vm-control.service vm-control.service"
    echo "cd multi-user.target.wants"
    echo "symlink vm-control.service ../vm-control.service"
    (cd "$files/etc" && find . -type f -printf '%P\n') | while read -r file; do
        echo "cd /etc/$(dirname "$file")"
        echo "rm $(basename "$file")"
        echo "write $files/etc/$file $(basename "$file")"
    done
} >"$dir/debugfs"
debugfs -w -f "$dir/debugfs" "$root" >"$dir/debugfs.log" 2>&1
# It goes on after an error and says so in words; that there was nothing to replace is none.
if grep -v -e '^debugfs' -e '^Allocated inode' -e '^rm: File not found' -e '^$' "$dir/debugfs.log"; then
    echo "card: the root could not be prepared" >&2
    exit 1
fi
