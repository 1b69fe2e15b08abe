#!/bin/sh
# The sample report and the sample study of the documentation site, from the built-in shapes, into docs/.
# No network; an interrupted command, repeated, goes on.
#
#     recipes/samples.sh
set -eu
cd "$(dirname "$0")/.."
set -- --preset quick --data.source shapes --tracking.wandb off
.venv/bin/visavis run "$@" --out runs/sample-report
.venv/bin/visavis study cnn vit --seeds 3 "$@" --out runs/sample-study
cp runs/sample-report/report.html docs/sample-report.html
cp runs/sample-study/study.html docs/sample-study.html
