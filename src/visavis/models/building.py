"""Build a model, and tell what it is: the CNN, the ViT, a registered one, or one of a library."""

import logging
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from visavis.config import (
    IMAGE_SIDE,
    CNNConfig,
    ModelConfig,
    RegisteredConfig,
    ViTConfig,
    from_json,
    to_json,
)
from visavis.errors import CheckpointError, ConfigError
from visavis.models.cnn import CNN
from visavis.models.library import build_registered
from visavis.models.normalize import Normalized
from visavis.models.vit import ViT
from visavis.models.whitening import whiten
from visavis.registry import registered

log = logging.getLogger(__name__)

Model = CNN | ViT | Normalized
"""From images in [0, 1] to logits; each normalises its input itself."""

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""What torchvision's weights were trained with; timm's say what they were."""


def build(config: ModelConfig, classes: int, side: int = IMAGE_SIDE) -> Model:
    """A freshly initialised model; draws from torch's global generator.

    Args:
        side: of the images, pixels.

    Raises:
        VisavisError: a registered model or a library's cannot be built; see `build_registered`.
    """
    if isinstance(config, RegisteredConfig):
        model = build_registered(config, classes, side)
        own = getattr(model, "pretrained_cfg", IMAGENET) if config.pretrained else {}
        said = registered.get(config.name)
        return Normalized(
            model,
            own.get("mean"),
            own.get("std"),
            layers=said.layers if said else None,
            tokens_to_grid=said.tokens_to_grid if said else None,
        )
    if isinstance(config, CNNConfig):
        return CNN(config, classes, side)
    return ViT(config, classes, side)


def fit_input(model: Model, images: Float[Tensor, "n 3 side side"]) -> None:
    """Fit the normalisation to training images, unless it came with a library's weights.

    The first layer of the CNN and of the ViT starts from a whitening of them.
    """
    if not model.normalize.fits_weights:
        model.normalize.fit(images)
    images = model.normalize(images)
    if isinstance(model, CNN):
        whiten(model.stem, images, epsilon=5e-4, directions=model.stem.out_channels // 2)
    elif isinstance(model, ViT):
        whiten(model.patch_embedding, images, epsilon=1e-2)


def explanation_layers(model: nn.Module) -> list[str] | None:
    """Where Grad-CAM may look, from the image to the head; None where observation has to tell.

    The CNN's activations, three in each stage; the ViT's norms. Not the convolutions before the
    activations: their outputs are not yet centred by the batch norm, so Grad-CAM's map is zero
    everywhere for many images. Of the ViT's last block only the first norm: after it, the head
    reads only the class token.
    """
    if isinstance(model, ViT):
        norms = (f"blocks.{i}.norm{k}" for i in range(len(model.blocks)) for k in (1, 2))
        return list(norms)[:-1]
    if isinstance(model, CNN):
        parts = (".activation1", ".activation2", "")
        return [f"stages.{i}{part}" for i in range(len(model.stages)) for part in parts]
    return None


def known_of(model: Model) -> dict[str, Any]:
    """What a `Subject` need not find out about a model: its arguments `model`, `mean` and others.

    Of a model that was wrapped, the model inside, whose layers have the names its author gave them.
    """
    known: dict[str, Any] = {"model": model, "mean": model.normalize.mean}
    if isinstance(model, Normalized):
        known |= {"model": model.model, "std": model.normalize.std}
        return known | {"layers": model.layers, "tokens_to_grid": model.tokens_to_grid}
    return known | {"layers": explanation_layers(model)}


def modules_of(model: nn.Module) -> list[dict[str, Any]]:
    """The name, type and number of parameters of a model's top-level parts, for training.json."""
    top = model.model if isinstance(model, Normalized) else model
    return [
        {"name": name, "type": type(part).__name__, "parameters": count}
        for name, part in top.named_children()
        if (count := sum(parameter.numel() for parameter in part.parameters()))
    ]


def name_of(config: ModelConfig) -> str:
    """The model's name: "cnn", "vit", or that of a registered one."""
    if isinstance(config, RegisteredConfig):
        return config.name
    return "cnn" if isinstance(config, CNNConfig) else "vit"


def config_to_json(config: ModelConfig) -> dict[str, Any]:
    """The config with the model's name, for config.json, and the file that registered it."""
    values = {"name": name_of(config), **to_json(config)}
    if found := registered.get(values["name"]):
        values |= {"file": found.file, "file_sha256": found.file_sha256}
    return values


def config_from_json(values: dict[str, Any]) -> ModelConfig:
    """Read what `config_to_json` wrote.

    Raises:
        CheckpointError: an unknown kind, key or value.
    """
    own: dict[str, type[ModelConfig]] = {"cnn": CNNConfig, "vit": ViTConfig}
    try:
        if values["name"] not in own:
            config = from_json(RegisteredConfig, values)
            found = registered.get(config.name)
            if found and found.file_sha256 != config.file_sha256:
                log.warning(
                    "%s is not the file that this model was made with (its SHA-256 differs from "
                    "the one in config.json); what it computes may differ, too",
                    found.file or "what was registered",
                )
            return config
        rest = {key: value for key, value in values.items() if key != "name"}
        return from_json(own[values["name"]], rest)
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"config.json does not describe a model: {error}") from error
