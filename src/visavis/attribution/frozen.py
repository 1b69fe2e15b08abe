"""What all methods share: the model is left as it was found, and the targets are checked."""

import contextlib
import threading
import weakref
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

BATCH = 128
"""Images in one pass on a CPU: its caches hold little more."""


_LOCKS: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_NEW_LOCK = threading.Lock()


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without parameter gradients; restores both afterwards, also on an error.

    One thread at a time: hooks and modes of a model are seen by all that use it.

    Only activations need gradients: leaving out those of the parameters halves the backward pass
    and writes nothing to `.grad`.
    """
    with _NEW_LOCK:
        lock = _LOCKS.setdefault(model, threading.RLock())
    with lock:
        modes = [(module, module.training) for module in model.modules()]
        required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        try:
            model.eval()
            model.requires_grad_(False)
            yield
        finally:
            for module, training in modes:
                module.training = training
            for parameter, requires_grad in required:
                parameter.requires_grad_(requires_grad)


@contextlib.contextmanager
def with_gradient(images: Float[Tensor, "n 3 h w"]) -> Iterator[Float[Tensor, "n 3 h w"]]:
    """Give a copy of `images` that requires gradients, in float32, whatever the caller's mode.

    Inside `no_grad`, `inference_mode` (Lightning's test loop) or autocast, an explanation would
    otherwise fail late or lose precision.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(images.device.type, enabled=False),
    ):
        yield images.clone().detach().requires_grad_()


def check_targets(classes: int, images: Tensor, targets: Int[Tensor, " k"]) -> None:
    """Check that there is one target class in range for each image.

    Raises:
        ValueError: another number of targets, another type, or a class that the model lacks.
    """
    if targets.shape != (len(images),) or targets.is_floating_point():
        raise ValueError(
            f"classes must be {len(images)} whole numbers, one for each image; "
            f"found {targets.dtype} of shape {tuple(targets.shape)}"
        )
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise ValueError(
            f"classes must be from 0 to {classes - 1}; found "
            f"{int(targets.min())} to {int(targets.max())}"
        )
