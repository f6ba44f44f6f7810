#!/bin/sh
# Makes DIR/pedestrians.mp4 from public footage: Debian's package opencv-doc has vtest.avi (PETS 2009, pedestrians seen
# by a surveillance camera). 14 s of stillness, 8 s forward, 8 s backward: quiet and busy, and it loops without a seam.
set -eu
dir=${1:?usage: footage.sh DIR}
mkdir -p "$dir"
out=$dir/pedestrians.mp4
[ -s "$out" ] && exit 0
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get download -q opencv-doc >/dev/null 2>&1 && dpkg -x opencv-doc_*.deb .) || {
    echo "footage: the package opencv-doc cannot be had; the demo shows a test scene instead" >&2
    exit 0
}
avi=$(find "$work" -name 'vtest.avi*' | head -n 1)
case $avi in *.gz) gunzip "$avi"; avi=${avi%.gz} ;; esac
ffmpeg -nostdin -v error -y -i "$avi" -filter_complex \
    "[0:v]trim=0:8,setpts=PTS-STARTPTS,fps=15,split=3[a][b][c];[b]reverse[r];[c]trim=end_frame=1,loop=loop=209:size=1,setpts=N/15/TB[still];[still][a][r]concat=n=3:v=1[v]" \
    -map "[v]" -c:v libx264 -preset veryfast -crf 23 -g 30 -bf 0 -pix_fmt yuv420p "$work/out.mp4"
mv "$work/out.mp4" "$out"
