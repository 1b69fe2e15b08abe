#!/bin/sh
# The numbers of docs/results.md: they stand in the experiments' explanations.json, cross_model.json
# and comparison.json, and in their reports.
#   recipes/results.sh [DATA_FOLDER]
# Without a folder CIFAR-10 is fetched.
set -eu
cd "$(dirname "$0")/.."
make setup
.venv/bin/visavis run --data.source shapes --out runs/results-shapes
.venv/bin/visavis run --preset standard --seeds 2 --data.source cifar10 ${1:+--data.dir "$1"} \
    --out runs/results-standard
