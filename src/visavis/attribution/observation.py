"""One forward and one backward pass of a model, with everything that its modules returned."""

import copy
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from visavis.attribution.frozen import frozen, with_gradient
from visavis.attribution.recorded import RecordedAttention
from visavis.errors import ModelError

SAME = 1e-5
"""Of the largest logit: what attention written out may change, and a second pass."""
SAME_IN_A_BATCH = 1e-3
"""Of the largest logit: what kernels of other sizes may change between an image alone and in a
batch. A model that mixes the images of a batch changes its logits by much more."""


@dataclass(frozen=True)
class Observed:
    """What a pass of a few images showed."""

    images: Float[Tensor, "n 3 side side"]
    logits: Float[Tensor, "n classes"]
    names: list[str]
    """Of the modules that returned a tensor, in the order in which they returned it."""
    outputs: list[Tensor]
    """What they returned."""
    gradients: list[Tensor | None]
    """Of each image's highest logit with respect to the outputs; None where it does not depend."""
    attention: list[Tensor]
    """The weights of each attention, in order."""
    attention_gradients: list[Tensor | None]
    attention_calls_again: int
    """In a second pass."""
    image_gradient: Tensor | None
    sequences: list[Tensor]
    """What modules received and returned with three axes, in order."""
    unusable: dict[str, str]
    """Why Grad-CAM cannot look at a module that returned a tensor, by its name."""
    patches: int | None
    """Of the first convolution whose kernel is as wide as its stride."""


@runtime_checkable
class Observable(Protocol):
    """A model, and how it is called with images in [0, 1]."""

    model: nn.Module

    def __call__(self, images: Tensor) -> Tensor:
        """The logits."""
        ...


def observe(subject: Observable, images: Float[Tensor, "n 3 side side"]) -> Observed:
    """Run the model, which is left as it was, and differentiate its highest logits."""
    model = subject.model
    returned: list[tuple[str, Tensor, int]] = []
    sequences: list[Tensor] = []
    unusable: dict[str, str] = {}
    patches: list[int] = []

    def sequence(value: object) -> None:
        if isinstance(value, Tensor) and value.ndim == 3 and value.requires_grad:
            sequences.append(value)

    def watch(name: str, module: nn.Module, output: object) -> None:
        if not isinstance(output, Tensor) or not output.requires_grad:
            return
        sequence(output)
        if name in (name for name, _, _ in returned):
            unusable[name] = "is called more than once"
        if isinstance(module, nn.Conv2d) and module.kernel_size == module.stride != (1, 1):
            patches.append(output.shape[2] * output.shape[3])
        returned.append((name, output, output._version))

    hooks = [
        module.register_forward_hook(
            lambda module, _, output, name=name: watch(name, module, output)
        )
        for name, module in model.named_modules()
        if name
    ]
    hooks += [
        module.register_forward_pre_hook(lambda _, args: sequence(args[0] if args else None))
        for module in model.modules()
    ]
    try:
        with frozen(model), with_gradient(images) as inputs:
            with RecordedAttention(len(images)) as recorded:
                logits = subject(inputs)
            with RecordedAttention(len(images)) as again, torch.no_grad():
                subject(images)
            outputs = [output for _, output, _ in returned]
            wanted = [*outputs, *recorded.weights, inputs]
            gradients: list[Tensor | None] = [None] * len(wanted)
            if logits.requires_grad:
                highest = logits.max(dim=1).values.sum()
                gradients = list(
                    torch.autograd.grad(highest, wanted, retain_graph=True, allow_unused=True)
                )
    finally:
        for hook in hooks:
            hook.remove()
    unusable |= {
        name: "is overwritten in place by what follows"
        for name, output, version in returned
        if output._version != version
    }
    return Observed(
        images=inputs,
        logits=logits.detach(),
        names=[name for name, _, _ in returned],
        outputs=outputs,
        gradients=gradients[: len(outputs)],
        attention=recorded.weights,
        attention_gradients=gradients[len(outputs) : -1],
        attention_calls_again=len(again.weights),
        image_gradient=gradients[-1],
        sequences=sequences,
        unusable=unusable,
        patches=patches[0] if patches else None,
    )


def logits_of(output: object) -> Float[Tensor, "n classes"]:
    """A model's output, or the `logits` in it.

    Raises:
        ModelError: there are none.
    """
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        what = (
            f"a tensor of shape {tuple(logits.shape)}"
            if isinstance(logits, Tensor)
            else (f"a {type(output).__name__}")
        )
        raise ModelError(
            f"the model returns {what}; it must return a tensor of logits, one row for each image "
            "and one column for each class"
        )
    return logits


def plain_logits(subject: Observable, images: Float[Tensor, "n 3 side side"]) -> Tensor:
    """The logits of `images`, after a check that the model is a classifier of such images.

    Raises:
        ModelError: it fails, returns something else than finite logits, or its logits for an image
            change with the other images of the batch or in a second call.
    """
    n, _, height, width = images.shape
    try:
        with (
            frozen(subject.model),
            torch.no_grad(),
            torch.autocast(images.device.type, enabled=False),
        ):
            together, again = (subject(images) for _ in range(2))
            alone = torch.cat([subject(image[None]) for image in images])
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(
            f"the model fails on images of {height} x {width} pixels, on {images.device}: {what}"
        ) from error
    if len(together) != n:
        raise ModelError(f"the model returns {len(together)} rows of logits for {n} images")
    if together.device != images.device:
        raise ModelError(
            f"the model returns logits on {together.device}, but its weights are on "
            f"{images.device}; let it return them there"
        )
    if not torch.isfinite(together).all():
        raise ModelError("the model's logits are NaN or infinite; its weights are unusable")
    scale = float(together.abs().max())
    if float((together - again).abs().max()) > SAME * scale:
        raise ModelError(
            "the model's logits differ between two calls in evaluation mode, so no heatmap would "
            "explain its prediction"
        )
    if float((together - alone).abs().max()) > SAME_IN_A_BATCH * scale:
        raise ModelError(
            "the model's logits for an image depend on the other images of the batch, so no "
            "heatmap would explain its prediction"
        )
    return together


def no_attention_because(observed: Observed, plain: Float[Tensor, "n classes"]) -> str | None:
    """Why the recorded attention does not explain the prediction, or None.

    Args:
        plain: the logits without recording.
    """
    weights, n = observed.attention, len(observed.images)
    if not weights:
        return "no attention was seen in it"
    shapes = {tuple(of.shape) for of in weights}
    batches = {shape[0] for shape in shapes}
    if batches != {n}:
        return "its attention looks at windows of the image, not at all of it"
    if len(shapes) > 1 or weights[0].shape[2] != weights[0].shape[3]:
        return "its attention matrices are not square, or not of one size in all blocks"
    if observed.attention_calls_again != len(weights):
        return "it does not compute attention as often in a second pass"
    if float((observed.logits - plain).abs().max()) > SAME * float(plain.abs().max()):
        return "its logits change when attention is written out"
    if any(float((of.detach().sum(dim=-1) - 1).abs().max()) > SAME for of in weights):
        return "the rows of its attention do not sum to 1"
    for gradient in observed.attention_gradients:
        if gradient is None or not torch.isfinite(gradient).all():
            return "no finite gradient reaches the attention of all its blocks"
    return None


@torch.no_grad()
def with_random_weights(model: nn.Module) -> nn.Module:
    """A copy whose every output depends on every input, unlike that of a head of zeros."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    for parameter in other.parameters():
        fan_in = max(parameter[0].numel(), 1) if parameter.ndim else 1
        drawn = torch.randn(parameter.shape, generator=generator) * fan_in**-0.5
        parameter.copy_(drawn)
    return other


def batch_first(output: Tensor, n: int) -> Tensor:
    """Tokens (t, n, width), as `nn.TransformerEncoder` has them, as (n, t, width)."""
    if output.ndim == 3 and output.shape[0] != n and output.shape[1] == n:
        return output.transpose(0, 1)
    return output
