"""Build, save and load a model of either architecture."""

import json
import struct
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from visavis.config import (
    IMAGE_SIDE,
    NUM_CLASSES,
    CNNConfig,
    ModelConfig,
    RegisteredConfig,
    ViTConfig,
    from_json,
    to_json,
)
from visavis.errors import CheckpointError, ConfigError
from visavis.files import write_bytes
from visavis.models.cnn import CNN
from visavis.models.vit import ViT
from visavis.models.whitening import whiten

Model = CNN | ViT

MAX_HEADER_BYTES = 1_000_000
"""A header of ours has a few kilobytes; a larger one is not parsed."""


def build(config: ModelConfig, classes: int = NUM_CLASSES, side: int = IMAGE_SIDE) -> Model:
    """A freshly initialised model; draws from torch's global generator.

    Args:
        side: of the images, pixels.
    """
    if isinstance(config, RegisteredConfig):
        raise NotImplementedError
    if isinstance(config, CNNConfig):
        return CNN(config, classes, side)
    return ViT(config, classes, side)


def fit_input(model: Model, images: Float[Tensor, "n 3 side side"]) -> None:
    """Fit the normalisation and start the first layer from a whitening of training images."""
    model.normalize.mean.copy_(images.mean(dim=(0, 2, 3), keepdim=True))
    model.normalize.std.copy_(images.std(dim=(0, 2, 3), keepdim=True))
    images = model.normalize(images)
    if isinstance(model, CNN):
        whiten(model.stem, images, epsilon=5e-4, directions=model.stem.out_channels // 2)
    else:
        whiten(model.patch_embedding, images, epsilon=1e-2)


def name_of(config: ModelConfig) -> str:
    """The model's name: "cnn", "vit", or that of a registered one."""
    if isinstance(config, RegisteredConfig):
        return config.name
    return "cnn" if isinstance(config, CNNConfig) else "vit"


def config_to_json(config: ModelConfig) -> dict[str, Any]:
    """The config with the model's name, for config.json."""
    return {"name": name_of(config), **to_json(config)}


def config_from_json(values: dict[str, Any]) -> ModelConfig:
    """Read what `config_to_json` wrote.

    Raises:
        CheckpointError: an unknown kind, key or value.
    """
    own: dict[str, type[ModelConfig]] = {"cnn": CNNConfig, "vit": ViTConfig}
    try:
        if values["name"] not in own:
            return from_json(RegisteredConfig, values)
        rest = {key: value for key, value in values.items() if key != "name"}
        return from_json(own[values["name"]], rest)
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"config.json does not describe a model: {error}") from error


def save(model: nn.Module, path: Path) -> None:
    """Write the weights as safetensors."""
    tensors = {key: value.contiguous().cpu() for key, value in model.state_dict().items()}
    write_bytes(path, safetensors.torch.save(tensors))  # its own errors hide a full disk


def load(
    config: ModelConfig, path: Path, classes: int = NUM_CLASSES, side: int = IMAGE_SIDE
) -> Model:
    """The model with the weights of `path`, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, of another model, or holds NaN or infinity.
    """
    _check_header(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    with torch.random.fork_rng(devices=[]):
        model = build(config, classes, side)
    expected = {key: (value.shape, value.dtype) for key, value in model.state_dict().items()}
    found = {key: (value.shape, value.dtype) for key, value in tensors.items()}
    if expected != found:
        differing = sorted(
            k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k)
        )
        raise CheckpointError(
            f"{path} does not fit config.json: {', '.join(differing[:5])}"
            + (f" and {len(differing) - 5} more differ" if len(differing) > 5 else " differ")
        )
    if bad := [key for key, value in tensors.items() if not torch.isfinite(value).all()]:
        raise CheckpointError(f"{path} holds NaN or infinity in {bad[0]}; train this model again")
    model.load_state_dict(tensors)
    return model.eval()


def _check_header(path: Path) -> None:
    """Refuse a missing file or an absurd header before anything is allocated for it."""
    try:
        with path.open("rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            if size > min(MAX_HEADER_BYTES, path.stat().st_size - 8):
                raise CheckpointError(f"{path} is damaged: it claims a header of {size} bytes")
            json.loads(file.read(size))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: the training has not finished") from None
    except (OSError, struct.error, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: its header cannot be read") from error
