#!/bin/sh
# The whole experiment on the built-in shapes: accuracy, localization, wall-clock time and peak
# memory (the last two from `time -v`). Each model is trained three times: 10 to 40 minutes on 2 CPU
# cores.
# Explains 50 images, as docs/results.md does; the preset has 40.
#   recipes/shapes.sh [OUT]
set -eu
cd "$(dirname "$0")/.."
make setup
/usr/bin/time -v .venv/bin/visavis run --data.source shapes --explain.images 50 \
    --explain.sweep-images 25 --out "${1:-runs/bench-shapes}"
