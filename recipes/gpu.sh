#!/bin/sh
# Training seconds of `standard` on a GPU: each model twice, for the first training warms the
# compiler's cache. Remove runs/gpu-* before another call.
#   recipes/gpu.sh [DATA_FOLDER]
set -eu
cd "$(dirname "$0")/.."
make setup
for round in warm-up measured; do
    for name in cnn vit; do
        .venv/bin/visavis train "$name" --train.device cuda --train.compile on \
            --data.source cifar10 ${1:+--data.dir "$1"} --tracking.wandb off --out "runs/gpu-$round/$name"
        .venv/bin/visavis evaluate "runs/gpu-$round/$name" ${1:+--data.dir "$1"}
    done
done
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
