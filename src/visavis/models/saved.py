"""The weights of a model: write and read them, and refuse those of another model.

Whether they are the ones that its training wrote, `stages.trained` tells by their SHA-256.
"""

import dataclasses
import struct
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from visavis.config import IMAGE_SIDE, ModelConfig, RegisteredConfig
from visavis.errors import CheckpointError
from visavis.files import require_file, write_bytes
from visavis.models.building import Model, build
from visavis.models.normalize import Normalized

MAX_HEADER_BYTES = 1_000_000
"""A header of ours has a few kilobytes; a larger one is not parsed."""


def save(model: nn.Module, path: Path) -> None:
    """Write the weights as safetensors."""
    # Copies, since models may share a tensor between two layers, and safetensors refuses that.
    tensors = {key: value.cpu().clone().contiguous() for key, value in model.state_dict().items()}
    write_bytes(path, safetensors.torch.save(tensors))  # its own errors hide a full disk


def load(config: ModelConfig, path: Path, classes: int, side: int = IMAGE_SIDE) -> Model:
    """The model with the weights of `path`, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, of another model, or holds NaN or infinity.
    """
    if not path.exists():
        raise CheckpointError(f"{path} is missing: the training has not finished")
    tensors = _safetensors(path)
    if isinstance(config, RegisteredConfig):  # its library's weights would only be overwritten
        config = dataclasses.replace(config, pretrained=False)
    else:
        with torch.device("meta"):  # without memory: a damaged config may describe a giant
            _require_fit(build(config, classes, side), tensors, path)
    with torch.random.fork_rng(devices=[]):
        model = build(config, classes, side)
    _load_into(model, tensors, path)
    return model.eval()


def load_brought(model: Model, path: Path) -> bool:
    """Load weights that were not written here: a state dict, as safetensors or by `torch.save`.

    Returns:
        Whether they include the normalisation of the input, as those of a run folder do.

    Raises:
        CheckpointError: as `load`, or it is no state dict.
    """
    if path.suffix == ".safetensors":
        tensors = _safetensors(path)
    else:
        try:
            require_file(path)
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise CheckpointError(f"there is no file {path}") from None
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
        except Exception as error:  # the unpickler fails in many ways on what is no checkpoint
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise CheckpointError(f"{path} cannot be read as weights: {what}") from error
        tensors = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    if not (isinstance(tensors, dict) and tensors) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in tensors.items()
    ):
        raise CheckpointError(f"{path} holds no state dict: tensors by the name of a parameter")
    inside = isinstance(model, Normalized) and "normalize.mean" not in tensors
    _load_into(model.get_submodule("model") if inside else model, tensors, path)
    return not inside


def _safetensors(path: Path) -> dict[str, Tensor]:
    remedy = "restore it, or train this model again"
    try:
        _check_header(path)
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {path}") from None
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise CheckpointError(f"{path} is damaged: {error}; {remedy}") from error


def _load_into(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    _require_fit(model, tensors, path)
    if bad := [key for key, value in tensors.items() if not torch.isfinite(value).all()]:
        raise CheckpointError(f"{path} holds NaN or infinity in {bad[0]}; train this model again")
    model.load_state_dict(tensors)


def _require_fit(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    expected = {key: (value.shape, value.dtype) for key, value in model.state_dict().items()}
    found = {key: (value.shape, value.dtype) for key, value in tensors.items()}
    if expected != found:
        differing = sorted(
            k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k)
        )
        raise CheckpointError(
            f"{path} does not fit the model: {', '.join(differing[:5])}"
            + (f" and {len(differing) - 5} more differ" if len(differing) > 5 else " differ")
        )


def _check_header(path: Path) -> None:
    """Raise a ValueError for an absurd header, before anything is allocated for it."""
    require_file(path)
    with path.open("rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        if size > min(MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise ValueError(f"it claims a header of {size} bytes")
