"""The presets: what each name stands for, on each data source."""

from dataclasses import replace
from typing import Literal

from visavis.config import (
    CNN_OPTIM,
    IMAGE_SIDE,
    OTHER_OPTIM,
    VIT_OPTIM,
    CNNConfig,
    DataConfig,
    Experiment,
    ExplainConfig,
    Preset,
    ViTConfig,
)


def preset(
    name: Preset,
    source: Literal["cifar10", "cifar100", "shapes", "folder"],
    size: int = IMAGE_SIDE,
) -> Experiment:
    """The settings of a preset for a data source, and for images of `size` x `size` pixels.

    smoke shows that everything works; quick trains smaller models for a few epochs; standard is
    for results worth reading; best trains larger models for longer. All are short next to the 200
    epochs of public ViT recipes: Muon (Jordan et al. 2024), whitened first layers and a linear
    decay to zero make few epochs enough. The built-in shapes are fewer and easier, so less of
    everything is enough for them, and best is standard; there is time to train each model three
    times, which shows what of the result is chance. docs/benchmarks.md has what each reaches.
    """
    data = DataConfig(source="folder" if source == "folder" else "auto", size=size)
    if name == "smoke":
        return _experiment(
            data,
            CNNConfig(widths=(16, 16, 32)),
            ViTConfig(width=48, depth=3),
            epochs=(1, 1),
            explain=ExplainConfig(images=30, sweep_images=25),
        )
    if source == "shapes":  # no crops: one might miss what decides the class
        return _experiment(
            data,
            CNNConfig(widths=(32, 64, 128)),
            ViTConfig(width=96, depth=4),
            epochs=(2, 6) if name == "quick" else (3, 14),
            batch_size=100,
            explain=ExplainConfig(images=40, sweep_images=25),
            seeds=1 if name == "quick" else 3,
        )
    # Folders of one's own are often small: smaller batches, so that there are steps enough. Random
    # crops cost little more than half of full images, and buy more epochs.
    batch_size = 50 if source == "folder" else 250
    if name == "quick":
        return _experiment(
            data,
            CNNConfig(widths=(64, 128, 256)),
            ViTConfig(width=192, depth=4),
            epochs=(5, 5),
            explain=ExplainConfig(images=50, sweep_images=25),
            batch_size=batch_size,
            crop=True,
        )
    if name == "standard":
        cnn, vit = CNNConfig(widths=(64, 256, 256)), ViTConfig(width=192, depth=6)
        epochs, full, cutmix = (12, 36), (2, 2), (0.0, 0.5)
    else:
        cnn, vit = CNNConfig(widths=(128, 384, 512)), ViTConfig(width=192, depth=9)
        epochs, full, cutmix = (30, 50), (3, 5), (0.5, 0.5)
    plan = _experiment(
        data, cnn, vit, epochs=epochs, explain=ExplainConfig(), batch_size=batch_size, crop=True
    )
    # Models memorise their training images in so many epochs. Cutout and smoothing delay it for the
    # CNN; the ViT, which does so sooner, needs CutMix and more weight decay (docs/log.md).
    cnn_optim = replace(
        plan.cnn.optim, full_image_epochs=full[0], cutmix=cutmix[0], cutout=7, label_smoothing=0.2
    )
    vit_optim = replace(
        plan.vit.optim, full_image_epochs=full[1], cutmix=cutmix[1], weight_decay=0.1
    )
    return replace(
        plan, cnn=replace(plan.cnn, optim=cnn_optim), vit=replace(plan.vit, optim=vit_optim)
    )


def _experiment(
    data: DataConfig,
    cnn: CNNConfig,
    vit: ViTConfig,
    *,
    epochs: tuple[int, int],
    explain: ExplainConfig,
    batch_size: int = 250,
    crop: bool = False,
    seeds: int = 1,
) -> Experiment:
    """The ViT sees 8 x 8 patches at every size, and 6 x 6 of them in a random crop.

    Args:
        epochs: of the CNN and of the ViT.
    """
    patch = data.size // 8
    cnn_optim, vit_optim = (
        replace(optim, epochs=count, batch_size=batch_size, crop=6 * patch if crop else 0)
        for optim, count in zip((CNN_OPTIM, VIT_OPTIM), epochs, strict=True)
    )
    if data.size > IMAGE_SIDE:
        explain = replace(explain, images=0)  # what fits into ten minutes
    return Experiment(
        seeds=seeds,
        data=data,
        # Full images, since not every model takes smaller crops; as many epochs as the CNN.
        optim=replace(OTHER_OPTIM, epochs=epochs[0], batch_size=batch_size),
        cnn=replace(cnn, optim=cnn_optim),
        vit=replace(vit, patch_size=patch, optim=vit_optim),
        explain=explain,
    )
