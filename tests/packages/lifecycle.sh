#!/bin/bash
# lifecycle.sh SUITE OLD_DEB DEB: the package's life in a clean Debian: the old version is installed and records, is upgraded
# with its database full of records, removed, installed again and purged. Needs root and mmdebstrap; the machine's own packages
# are left alone.
set -euo pipefail
suite=${1:?usage: lifecycle.sh SUITE OLD_DEB DEB} old=$(realpath "$2") new=$(realpath "$3")
cd "$(dirname "$0")/../.."
root=$PWD/target/packages/$suite
pid=

fail() { echo "lifecycle ($suite): $*" >&2; exit 1; }
step() { echo "== $suite: $*" >&2; }
in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
cleanup() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    for mount in proc dev; do umount "$root/$mount" 2>/dev/null || true; done
}
trap cleanup EXIT

# wait_for SECONDS WHAT COMMAND…
wait_for() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || { tail -n 20 "$root/run/agent.log" >&2; fail "not in time: $what"; }
        read -rt 0.2 <> <(:) || true
    done
}

# As the unit would start it.
start() {
    install -d -m 700 -o "$(stat -c %u "$root/var/lib/sentrycam")" "$root/run/sentrycam"
    chroot --userspec=sentrycam:sentrycam "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/var/lib/sentrycam \
        GST_REGISTRY=/var/cache/sentrycam/gst-registry.bin GST_REGISTRY_FORK=no SENTRYCAM_LOG=info \
        /usr/bin/sentrycam run >>"$root/run/agent.log" 2>&1 &
    pid=$!
    wait_for 60 "the camera is up" camera_is_up
}
camera_is_up() { in_root sentrycam status --json | grep -q '"state": "up"'; }
stop() {
    kill -TERM "$pid"
    wait "$pid" || fail "the agent did not end in order"
    pid=
}
# How many rows the agent has of this: events, or records that wait for the cloud.
events() { in_root sentrycam events --json --limit 10000 | grep -c '"id"' || true; }
records() { in_root sentrycam outbox ls --json --limit 10000 | grep -c '"id"' || true; }
more_events() { [ "$(events)" -gt "$1" ]; }
# Links point into the root, not here.
exists() { [ -e "$root/$1" ] || [ -L "$root/$1" ] || fail "$1 is missing $2"; }
gone() { { [ ! -e "$root/$1" ] && [ ! -L "$root/$1" ]; } || fail "$1 is still there $2"; }
mode() { [ "$(in_root stat -c '%a %U:%G' "/$1")" = "$2" ] || fail "$1 is $(in_root stat -c '%a %U:%G' "/$1"), not $2"; }

tests/packages/root.sh "$suite" "$root"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
cp "$old" "$root/root/old.deb"
cp "$new" "$root/root/new.deb"

step "install $(dpkg-deb -f "$old" Version)"
in_root apt-get install -qqy --no-install-recommends /root/old.deb >"$root/run/apt.log" 2>&1 || { tail -n 30 "$root/run/apt.log" >&2; fail "it cannot be installed"; }
in_root sentrycam --version
in_root sentrycam check-config
mode etc/sentrycam "750 root:sentrycam"
mode etc/sentrycam/sentrycam.toml "640 root:sentrycam"
mode etc/sentrycam/secrets "700 root:root"
mode var/lib/sentrycam "700 sentrycam:sentrycam"
mode var/cache/sentrycam "700 sentrycam:sentrycam"
[ "$(in_root stat -c %U /var/cache/sentrycam/gst-registry.bin)" = sentrycam ] || fail "GStreamer's list of plug-ins is not prepared"
for group in gpio input render; do in_root getent group "$group" >/dev/null || fail "no group $group"; done
exists etc/systemd/system/multi-user.target.wants/sentrycam.service "after install"
exists etc/systemd/system/multi-user.target.wants/sentrycam-boot.service "after install"
# What the program needs of GStreamer is there: no recommended package was installed.
in_root systemd-analyze verify --man=no sentrycam.service sentrycam-boot.service 2>&1 | { grep sentrycam && fail "systemd finds faults"; } || true

step "record"
cat >"$root/etc/sentrycam/sentrycam.toml" <<'TOML'
[spool]
dir = "/srv/clips"
min_free = "1 MiB"
[cloud]
api_base = "https://cloud.invalid"
heartbeat = "5 s"
announce = false
[[camera]]
id = "door"
test = true
[camera.recording]
pre_roll = "1 s"
post_roll = "1 s"
max_event = "10 s"
TOML
in_root install -d -m 700 -o sentrycam -g sentrycam /srv/clips /var/lib/sentrycam/credentials
echo photo >"$root/srv/clips/holiday.jpg"
start
wait_for 60 "an event" more_events 0
stop
clip_count() { find "$root/srv/clips/door" -name '*.mp4' | wc -l; }
[ "$(clip_count)" -gt 0 ] || fail "no clip"
# Full: as many records as an outage of days makes.
tests/packages/fill.py "$root/var/lib/sentrycam/sentrycam.db" 5000
before_events=$(events) before_records=$(records) before_clips=$(clip_count)
step "upgrade to $(dpkg-deb -f "$new" Version) with $before_events events, $before_records records, $before_clips clips"
in_root apt-get install -qqy --no-install-recommends /root/new.deb >"$root/run/apt.log" 2>&1 </dev/null || { tail -n 30 "$root/run/apt.log" >&2; fail "it cannot be upgraded"; }
grep -q 'id = "door"' "$root/etc/sentrycam/sentrycam.toml" || fail "the upgrade took the configuration"
mode etc/sentrycam/sentrycam.toml "640 root:sentrycam"
in_root sentrycam db check || fail "the database is not sound after the upgrade"
start
wait_for 60 "new events after the upgrade" more_events "$before_events"
stop
[ "$(events)" -gt "$before_events" ] && [ "$(records)" -ge "$before_records" ] && [ "$(clip_count)" -ge "$before_clips" ] || fail "the upgrade lost something"

step "remove"
echo secret >"$root/var/lib/sentrycam/credentials/current.json"
in_root apt-get remove -qqy sentrycam >"$root/run/apt.log" 2>&1
gone usr/bin/sentrycam "after remove"
for kept in etc/sentrycam/sentrycam.toml var/lib/sentrycam/sentrycam.db var/lib/sentrycam/credentials/current.json srv/clips/door; do
    exists "$kept" "after remove"
done

step "install again"
rm "$root/var/lib/sentrycam/credentials/current.json"
in_root apt-get install -qqy --no-install-recommends /root/new.deb >"$root/run/apt.log" 2>&1 </dev/null
exists etc/systemd/system/multi-user.target.wants/sentrycam.service "after the second install"
gone etc/systemd/system/sentrycam.service "masked after the second install"
[ "$(events)" -gt "$before_events" ] || fail "events are gone after remove and install"

step "purge"
echo secret >"$root/var/lib/sentrycam/credentials/current.json"
echo password >"$root/etc/sentrycam/secrets/door"
in_root apt-get purge -qqy sentrycam >"$root/run/apt.log" 2>&1
for left in etc/sentrycam var/lib/sentrycam var/cache/sentrycam srv/clips/door usr/lib/sentrycam; do
    gone "$left" "after purge"
done
exists srv/clips/holiday.jpg "though it is not the agent's"
left=$(find "$root/etc" "$root/usr" "$root/var/lib" -name '*sentrycam*' ! -path '*/apt/*' | sed "s|^$root||")
[ -z "$left" ] || fail "left behind: $left"
echo "lifecycle ($suite): installed, upgraded with $before_records records, removed, installed, purged"
