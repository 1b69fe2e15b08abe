#!/bin/sh
# Whole experiments on CIFAR-10; table "quick" of docs/benchmarks.md. Those of standard and best are
# of trainings alone, whose commands stand there.
#   recipes/cifar10.sh quick    [DATA_FOLDER]
#   recipes/cifar10.sh standard [DATA_FOLDER]
#   recipes/cifar10.sh best     [DATA_FOLDER]
# Without a folder CIFAR-10 is fetched. Wall-clock and peak memory are told by time -v at the end.
set -eu
cd "$(dirname "$0")/.."
make setup
preset=$1
[ $# -lt 2 ] || set -- "$preset" --data.dir "$2"
shift
/usr/bin/time -v .venv/bin/visavis run --preset "$preset" --data.source cifar10 "$@" \
    --out "runs/bench-$preset"
