#!/bin/sh
# Training seconds on a CUDA GPU: the CNN to 90 % and the ViT to 85 % test accuracy, in bf16 and in
# fp16, each after one warm-up training. A few minutes on a data-centre card.
#   recipes/gpu.sh [DATA_FOLDER] [FLAGS OF `visavis train`]
# Without a folder CIFAR-10 is downloaded. Prints one line per training, and the card. A training
# counts if its test accuracy reaches the target; its seconds are those of all epochs, as defined in
# docs/methods.md. runs/gpu is overwritten.
set -eu
cd "$(dirname "$0")/.."
make setup
folder=${1:-}
[ $# -eq 0 ] || shift
rm -rf runs/gpu
for precision in bf16 fp16; do
    for name in cnn vit; do
        for round in warm-up measured; do
            out="runs/gpu/$precision/$round/$name"
            .venv/bin/visavis train "$name" --train.device cuda --train.precision "$precision" \
                --data.source cifar10 ${folder:+--data.dir "$folder"} --tracking.wandb off "$@" \
                --out "$out"
            .venv/bin/visavis evaluate "$out" --device cuda ${folder:+--data.dir "$folder"}
        done
    done
done
.venv/bin/python - <<'PY'
import json
from pathlib import Path

for folder in sorted(Path("runs/gpu").glob("*/measured/*")):
    training = json.loads((folder / "training.json").read_text())
    accuracy = json.loads((folder / "evaluation.json").read_text())["accuracy"]
    target = {"cnn": 0.90, "vit": 0.85}[folder.name]
    print(
        f"{folder.name} {folder.parts[2]}: {100 * accuracy:.1f} % (target {100 * target:.0f} %), "
        f"{training['train_seconds']:.1f} s, {training['images_per_second']:.0f} images/s"
    )
PY
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
