#!/bin/sh
# Make edge_runtime/samples/street.mp4: 24 s of OpenCV's vtest.avi (people crossing a campus road), from Debian's
# package opencv-doc, main section. Needs apt, dpkg-deb and ffmpeg with libx264.
set -eu
out=$(cd "$(dirname "$0")/.." && pwd)/edge_runtime/samples/street.mp4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download opencv-doc
dpkg-deb --fsys-tarfile opencv-doc_*.deb | tar x ./usr/share/doc/opencv-doc/examples/data/vtest.avi
ffmpeg -loglevel error -y -ss 36 -t 24 -i usr/share/doc/opencv-doc/examples/data/vtest.avi -an \
    -vf scale=640:-2 -c:v libx264 -preset veryslow -crf 30 -g 50 -pix_fmt yuv420p -map_metadata -1 \
    -fflags +bitexact -flags:v +bitexact -movflags +faststart "$out"
ls -l "$out"
