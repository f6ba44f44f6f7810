#!/bin/bash
# Runs the demo's programs; the camera comes by environment, so that its password is in no process list.
set -euo pipefail
bin=$1 footage=$2
[ -n "${SECONDS_TO_RUN:-}" ] || unset SECONDS_TO_RUN
[ -n "${CAMERA:-}" ] || unset CAMERA
exec "$bin/sentrycam-demo" --bin "$bin" --footage "$footage"
