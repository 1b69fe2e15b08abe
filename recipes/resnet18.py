"""timm's ResNet-18 with a stem for small images: 3 x 3 filters with stride 1, and no pooling."""

import timm
from torch import nn

import visavis


def resnet18(classes: int, side: int) -> nn.Module:
    """As trained on CIFAR in most papers: the stem for 224 pixels would leave a 1 x 1 grid."""
    model = timm.create_model("resnet18", num_classes=classes)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


visavis.register_model("resnet18", resnet18)
