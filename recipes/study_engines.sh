#!/bin/sh
# Seconds of 8 equal smoke trainings on the shapes, on a machine with 2 cores without a GPU:
# two at once with one thread each, through the local engine and through Ray (the overhead of Ray),
# and one after the other with two threads (what two at once gain).
#
#   sh recipes/study_engines.sh OUT [ROUNDS] [flags of visavis study]
set -eu
out=$1
rounds=${2:-1}
shift $(($# > 1 ? 2 : 1))
mkdir -p "$out"
unset OMP_NUM_THREADS || true

timed() { # name, then flags
    name=$1
    shift
    begun=$(date +%s.%N)
    python -m visavis study cnn --seeds 8 --preset smoke --data.source shapes --train.device cpu \
        --tracking.wandb off --out "$out/$name" "$@" >"$out/$name.log" 2>&1
    echo "$name $(echo "$(date +%s.%N) - $begun" | bc) s"
}

for round in $(seq "$rounds"); do
    timed "local-$round" --jobs 2 "$@"
    timed "ray-$round" --jobs 2 --engine ray "$@"
    timed "serial-$round" --jobs 1 "$@"
done
