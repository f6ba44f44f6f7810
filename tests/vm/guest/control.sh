#!/bin/sh
# Does what the test says over a virtio port. Says `ready BOOT` once; then each line is a shell script in base64, answered by
# a line with its exit code and, in base64, what it printed.
port=/dev/virtio-ports/control
until [ -c "$port" ]; do sleep 0.1; done
exec 3<>"$port"
echo "ready $(cat /proc/sys/kernel/random/boot_id)" >&3
while :; do
    while read -r line <&3; do
        echo "$line" | base64 -d >/run/vm-script
        sh /run/vm-script >/run/vm-output 2>&1 </dev/null
        rc=$?
        echo "$rc $(base64 -w 0 /run/vm-output)" >&3
    done
    # Nobody is at the other end.
    sleep 0.1
done
