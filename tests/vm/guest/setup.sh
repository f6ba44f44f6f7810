#!/bin/sh
# Before the agent starts: the state's disk (/dev/vdc), if there is one, and what the test brings (/dev/vdb, setup.sh on it).
set -eu
if [ -b /dev/vdc ]; then
    mount -o noatime /dev/vdc /var/lib/sentrycam
fi
if [ -b /dev/vdb ]; then
    mkdir -p /payload
    mount -o ro /dev/vdb /payload
    sh /payload/setup.sh
fi
