"""The presets: what each name stands for, on either data source."""

from dataclasses import replace
from typing import Literal

from visavis.config import (
    CNN_OPTIM,
    IMAGE_SIDE,
    VIT_OPTIM,
    CNNConfig,
    Experiment,
    ExplainConfig,
    Preset,
    ViTConfig,
)


def preset(name: Preset, source: Literal["cifar10", "shapes", "folder"]) -> Experiment:
    """The settings of a preset for a data source.

    smoke is there to see that everything works; quick trains smaller models for a few epochs;
    standard is for results worth reading; best trains larger models for longer. All are short next
    to the 200 epochs of public ViT recipes: Muon (Jordan et al. 2024), whitened first layers, a
    bias that starts the ViT's heads on neighbours, and a linear decay to zero make few epochs
    enough. The built-in shapes are fewer and easier, so less of everything does, and best is
    standard.

    On a JPEG copy of CIFAR-10 and 2 cores with AVX-512 bf16 (Zen 5) the CNN and the ViT came to
    88.2 and 76.2 % with quick (3 and 2 minutes of training, 9 for the whole command), to 90.2 and
    86.5 % with standard (6 and 12 minutes of training; in float32 with AVX-512 90.1 and 86.2 % in 9
    and 20 minutes); the CNN of best came to 92.0 % in 40 minutes, its ViT to 89.3 % (100 minutes in
    float32 with AVX-512, in about 24 of which it stood still). docs/benchmarks.md has the rest.
    """
    if name == "smoke":
        return _experiment(
            cnn=((16, 16, 32), 1),
            vit=(64, 3, 1),
            explain=ExplainConfig(images=100, sweep_images=50, random_orders=3),
        )
    if source == "shapes":
        return _experiment(
            cnn=((32, 64, 128), 2 if name == "quick" else 3),
            vit=(96, 4, 4 if name == "quick" else 5),
            batch_size=100,
            explain=ExplainConfig(images=200, random_orders=4),
        )
    # Of one's own pictures there are often few: smaller batches, so that there are steps enough.
    batch_size = 50 if source == "folder" else 250
    # Squares of 24 x 24 cost little more than half, and buy more epochs. Shapes are whole: a square
    # might not hold what decides the class.
    if name == "quick":
        explain = ExplainConfig(images=100, sweep_images=50)
        return _experiment(
            cnn=((64, 128, 256), 5),
            vit=(192, 4, 5),
            batch_size=batch_size,
            crop=24,
            explain=explain,
        )
    if name == "best":
        cnn, vit = ((128, 384, 512), 30), (192, 9, 40)
    else:
        cnn, vit = ((64, 256, 256), 8), (192, 6, 20)
    plan = _experiment(cnn=cnn, vit=vit, batch_size=batch_size, crop=24, explain=ExplainConfig())
    # To leave out what it knows costs little; of one's own pictures there may be too few to spare.
    to_spare = source != "folder"
    # A CNN comes to know its training pictures by heart; this delays it.
    cnn_optim = replace(
        plan.cnn.optim,
        whole_epochs=2,
        cutout=7,
        label_smoothing=0.2,
        skip=0.2 if to_spare else 0.0,
    )
    vit_optim = plan.vit.optim
    if name == "best":  # for so much longer, to mix pictures as well
        cnn_optim = replace(cnn_optim, whole_epochs=3, cutmix=0.5, skip=0.3 if to_spare else 0.0)
        vit_optim = replace(vit_optim, whole_epochs=4, cutmix=0.5)
    return replace(
        plan, cnn=replace(plan.cnn, optim=cnn_optim), vit=replace(plan.vit, optim=vit_optim)
    )


def _experiment(
    *,
    cnn: tuple[tuple[int, int, int], int],
    vit: tuple[int, int, int],
    explain: ExplainConfig,
    batch_size: int = 250,
    crop: int = IMAGE_SIDE,
) -> Experiment:
    """From the CNN's widths and epochs, and the ViT's width, depth and epochs."""
    widths, cnn_epochs = cnn
    width, depth, vit_epochs = vit
    cnn_optim = replace(CNN_OPTIM, epochs=cnn_epochs, batch_size=batch_size, crop=crop)
    vit_optim = replace(VIT_OPTIM, epochs=vit_epochs, batch_size=batch_size, crop=crop)
    return Experiment(
        cnn=CNNConfig(widths=widths, optim=cnn_optim),
        vit=ViTConfig(width=width, depth=depth, heads=width // 16, optim=vit_optim),
        explain=explain,
    )
