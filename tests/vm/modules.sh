#!/bin/bash
# modules.sh KERNEL DIR: builds gpio-sim (the button) and uleds (the light), which Debian's kernel has no modules of, from
# Debian's own source package into DIR/KERNEL/*.ko.
set -euo pipefail
kernel=${1:?usage: modules.sh KERNEL DIR} dir=${2:?usage: modules.sh KERNEL DIR}
cd "$(dirname "$0")/../.."
[ ! -e "$dir/$kernel/uleds.ko" ] || [ ! -e "$dir/$kernel/gpio-sim.ko" ] || exit 0
cross/deps.sh "linux-headers-$kernel" gcc make kmod >&2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo "modules for $kernel, once" >&2
apt-get -qq download linux-source-6.1
dpkg-deb --fsys-tarfile linux-source-6.1*.deb | tar -xOf - ./usr/src/linux-source-6.1.tar.xz |
    tar -xJf - --strip-components=1 linux-source-6.1/drivers/gpio/{gpio-sim.c,gpiolib.h} linux-source-6.1/kernel/irq/irq_sim.c \
        linux-source-6.1/drivers/leds/uleds.c
mkdir build
cp drivers/gpio/gpio-sim.c build/gpio-sim-main.c
cp drivers/gpio/gpiolib.h kernel/irq/irq_sim.c drivers/leds/uleds.c build/
# irq_to_desc() is not exported to modules; generic_handle_irq() is, and comes to the same handler.
sed -i 's/handle_simple_irq(irq_to_desc(irqnum));/generic_handle_irq(irqnum);/; /^EXPORT_SYMBOL_GPL(.*irq_domain_create_sim/d' build/irq_sim.c
printf 'obj-m += gpio-sim.o uleds.o\ngpio-sim-y := gpio-sim-main.o irq_sim.o\n' >build/Kbuild
make -s -C "/lib/modules/$kernel/build" M="$work/build" modules >&2
install -D -m 644 -t "$OLDPWD/${dir#"$OLDPWD"/}/$kernel" build/*.ko
