#!/bin/sh
# The experiments behind docs/results.md. The numbers are in explanations.json, cross_model.json and
# comparison.json, and in the reports. 10 to 40 minutes for shapes and 2 to 5 hours for CIFAR-10, on 2
# CPU cores.
#   recipes/results.sh [DATA_FOLDER]
# Without a folder CIFAR-10 is downloaded.
set -eu
cd "$(dirname "$0")/.."
make setup
.venv/bin/visavis run --data.source shapes --out runs/results-shapes
.venv/bin/visavis run --preset standard --seeds 2 --data.source cifar10 ${1:+--data.dir "$1"} \
    --out runs/results-standard
