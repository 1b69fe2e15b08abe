#!/bin/sh
# Two ViTs that differ in their patches alone, with the length of `quick`: an hour on 2 CPU cores.
#   recipes/two_vits.sh [DATA_FOLDER]
set -eu
cd "$(dirname "$0")/.."
make setup
[ $# -lt 1 ] || set -- --data.dir "$1"
.venv/bin/visavis run --models recipes/two_vits.py --first vit-4 --second vit-8 --preset quick \
    --data.source cifar10 "$@" --out runs/two-vits
