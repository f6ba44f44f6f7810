#!/bin/sh
# Motion detection beside OpenCV and motion: motion.sh SENTRYCAM [DIR] [more of compare.py's options].
# Without DIR: public footage with drawn bodies (tests/bench/motion/footage.py). Python packages go into target/motion-venv.
set -eu
bin=${1:?usage: motion.sh SENTRYCAM [DIR] [OPTION…]}
shift
here=$(dirname "$0")/motion
dir=
case ${1:-} in -*|'') ;; *) dir=$1; shift ;; esac
venv=target/motion-venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import cv2, numpy' 2>/dev/null || "$venv/bin/pip" install -q -r "$here/requirements.txt"
if [ -z "$dir" ]; then
    dir=target/footage/motion
    "$venv/bin/python" "$here/footage.py" target/footage/pedestrians.mp4 "$dir"
fi
set -- --sentrycam "$bin" --footage "$dir" --work "target/footage/stress-$(echo "$dir" | tr -c 'a-zA-Z0-9\n' _)" --json target/bench/motion.json "$@"
exec "$venv/bin/python" -B "$here/compare.py" "$@"
