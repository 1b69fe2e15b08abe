#!/bin/sh
# The study of docs/results.md: three seeds of the CNN, the ViT and timm's ResNet-18, at the length of
# `quick`, on CIFAR-10.
#
#     recipes/study.sh FOLDER [OUT]
#
# FOLDER holds CIFAR-10. Two to three hours on two CPU cores; repeat the command to go on.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/visavis study cnn vit timm/resnet18 --seeds 3 --preset quick \
    --data.source cifar10 --data.dir "${1:?the folder of CIFAR-10}" --out "${2:-runs/study-quick}"
