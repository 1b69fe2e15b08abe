#!/bin/sh
# timm's ResNet-18 with a stem for small images against our ViT, with the length of `quick`: half an
# hour on 2 CPU cores with fast bf16, two to three hours without.
#   recipes/resnet18.sh [DATA_FOLDER]
set -eu
cd "$(dirname "$0")/.."
make setup
[ $# -lt 1 ] || set -- --data.dir "$1"
.venv/bin/visavis run --models recipes/resnet18.py --first resnet18 --second vit --preset quick \
    --data.source cifar10 "$@" --out runs/resnet18-vit
