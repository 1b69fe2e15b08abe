#!/bin/sh
# Whole experiments on CIFAR-10: accuracy, training seconds, wall-clock time and peak memory (the
# last two from `time -v`). On 2 CPU cores: quick 15 minutes to an hour, standard one to four hours,
# best a night.
#   recipes/cifar10.sh quick|standard|best [DATA_FOLDER]
# Without a folder CIFAR-10 is downloaded.
set -eu
cd "$(dirname "$0")/.."
make setup
preset=$1
[ $# -lt 2 ] || set -- "$preset" --data.dir "$2"
shift
/usr/bin/time -v .venv/bin/visavis run --preset "$preset" --data.source cifar10 "$@" \
    --out "runs/bench-$preset"
