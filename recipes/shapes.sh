#!/bin/sh
# Table "Built-in shapes" of docs/benchmarks.md: about 8 minutes on 2 CPU cores.
set -eu
cd "$(dirname "$0")/.."
make setup
/usr/bin/time -v .venv/bin/visavis run --data.source shapes --out "${1:-runs/bench-shapes}"
