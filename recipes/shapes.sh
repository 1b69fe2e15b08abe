#!/bin/sh
# Table "Built-in shapes" of docs/benchmarks.md: about 7 minutes on 2 CPU cores, setting up included.
set -eu
cd "$(dirname "$0")/.."
make setup
/usr/bin/time -v .venv/bin/visavis run --data.source shapes --out "${1:-runs/bench-shapes}"
