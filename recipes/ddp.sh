#!/bin/sh
# Throughput of two processes with one thread each, which train one model together (DDP over gloo),
# against one process with two threads and the same batches: about 4 minutes on 2 cores.
#   recipes/ddp.sh [ROUNDS] [FLAGS OF `visavis train`]
# Models of `quick` on the built-in shapes, one epoch of full images in float32, alternating. Prints
# images/s of each training, and the ratio of the best ones. runs/ddp is overwritten.
set -eu
cd "$(dirname "$0")/.."
make setup
rounds=${1:-2}
[ $# -eq 0 ] || shift
rm -rf runs/ddp
for name in cnn vit; do
    for round in $(seq "$rounds"); do
        for processes in 1 2; do
            OMP_NUM_THREADS=$((2 / processes)) .venv/bin/python -m torch.distributed.run \
                --standalone --nproc-per-node="$processes" -m visavis train "$name" \
                --preset quick --data.source shapes --data.validation-fraction 0.5 \
                --train.device cpu --train.precision float32 \
                --"$name".optim.epochs 1 --"$name".optim.crop 0 --tracking.wandb off "$@" \
                --train.devices "$processes" --out "runs/ddp/$name/$processes/$round"
        done
    done
done
.venv/bin/python - <<'PY'
import json
from pathlib import Path

for name in ("cnn", "vit"):
    found = {
        processes: [
            json.loads(path.read_text())["images_per_second"]
            for path in sorted(Path(f"runs/ddp/{name}/{processes}").glob("*/training.json"))
        ]
        for processes in (1, 2)
    }
    for processes, speeds in found.items():
        print(f"{name}, {processes} process(es):", *(f"{speed:.0f} images/s" for speed in speeds))
    print(f"{name}: ratio {max(found[2]) / max(found[1]):.2f}")
PY
