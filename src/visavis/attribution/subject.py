"""What explanations see of a model, found by observing it.

One forward and one backward pass of a few images show which modules have a grid that Grad-CAM can
weigh, where attention is computed, which tokens are patches and which of them the prediction is
read from. Nothing here knows an architecture or a library; what observation cannot tell, the caller
says.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from visavis.attribution.frozen import frozen
from visavis.attribution.observation import (
    Observed,
    batch_first,
    logits_of,
    no_attention_because,
    observe,
    plain_logits,
    with_random_weights,
)
from visavis.data.batches import in_batches
from visavis.errors import ModelError

TokensToGrid = Callable[[Float[Tensor, "n t width"]], Float[Tensor, "n width g g"]]

MOST_LAYERS = 12
"""Layers that Grad-CAM is offered at, the deepest ones: a deep model has hundreds of modules."""


class Subject:
    """A classifier as the explanations see it.

    Args:
        model: from images to logits; evaluated in evaluation mode, and left as it was found.
        images: a few examples in [0, 1], two or more, at the size that the model takes.
        mean: colour of a masked region; that of `images` if None.
        std: if given, the model receives (images - mean) / std.
        layers: names of the modules that Grad-CAM is offered at, first to last, instead of those
            that are observed.
        tokens_to_grid: arranges tokens (n, t, width) as (n, width, g, g), where patches do not
            follow the image row by row.
        grid: cells along a side of the scoring grid; follows the model's own grid if None.

    Raises:
        ModelError: `images` are no such images; the model fails on them, or does not return finite
            logits, one row for each image; or `layers`, `tokens_to_grid` or `grid` do not fit it.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        model: nn.Module,
        images: Float[Tensor, "n 3 side side"],
        *,
        mean: Tensor | Sequence[float] | None = None,
        std: Tensor | Sequence[float] | None = None,
        layers: Sequence[str] | None = None,
        tokens_to_grid: TokensToGrid | None = None,
        grid: int | None = None,
    ) -> None:
        device = device_of(model)
        _check_images(images)
        images = images[:2].clone().to(device)
        if mean is None:
            mean = images.mean(dim=(0, 2, 3)).tolist()
        self.fill: Float[Tensor, "1 3 1 1"] = torch.as_tensor(mean).view(1, 3, 1, 1).to(images)
        """The colour of a masked region."""
        self.model = model
        self.autocast = False
        """Whether SRG, and the training of the copy for IDSDS, run in bf16; maps are in float32."""
        self._std = None if std is None else torch.as_tensor(std).view(1, 3, 1, 1).to(images)
        self.side = images.shape[-1]
        """Height and width of the images, pixels."""
        plain = plain_logits(self, images)
        self.classes = plain.shape[1]
        self.lacks: dict[str, str] = {}
        """What methods would need and the model does not have, "layers", "attention" or
        "gradients", with the reason."""
        self.blocks = self.heads = 0
        """How many times attention is computed, and how many heads it has."""
        self.read: list[int] = []
        """The tokens that the prediction is read from: the class token, or all patches."""
        self._tokens = self._prefix = 0
        self._tokens_to_grid = tokens_to_grid
        observed = observe(self, images)
        if observed.image_gradient is not None and not observed.image_gradient.any():
            # A head that starts from zeros hides what the modules are for; random weights show it.
            random = self.with_model(with_random_weights(model))
            observed, plain = observe(random, images), plain_logits(random, images)
        if reason := no_attention_because(observed, plain):
            self.lacks["attention"] = reason
        else:
            self._find_patches(observed)
        self.layers = self._find_layers(observed, layers)
        """Where Grad-CAM may look, from the image to the head."""
        gradient = observed.image_gradient
        if gradient is None or not torch.isfinite(gradient).all():
            because = "none reaches the image" if gradient is None else "they are not finite"
            reason = f"its logits have no usable gradients: {because}"
            self.lacks = dict.fromkeys(("layers", "attention", "gradients"), reason)
        self.grid = self._scoring_grid(grid)
        """Cells along a side of the grid that all scores are measured on."""

    def with_model(self, model: nn.Module) -> "Subject":
        """The same for a model of the same architecture, such as a copy with other weights."""
        other = copy.copy(self)
        other.model = model
        return other

    def __call__(self, images: Float[Tensor, "n 3 side side"]) -> Tensor:
        """The logits, with a graph where gradients are on."""
        return logits_of(self.model(self.normalised(images)))

    def normalised(self, images: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n 3 side side"]:
        """What the model receives: a tensor of its own, which it may overwrite."""
        return images.clone() if self._std is None else (images - self.fill) / self._std

    def predict(self, images: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n classes"]:
        """The logits, without gradients, in batches."""
        with frozen(self.model), torch.inference_mode():
            return in_batches(self, images)

    @property
    def default_layer(self) -> str | None:
        """The deepest layer whose grid comes closest to the scoring grid; None without any."""
        by_distance = {name: abs(side - self.grid) for name, side in self.layers.items()}
        return min(reversed(by_distance), key=lambda name: by_distance[name], default=None)

    @property
    def cell_side(self) -> int:
        """Height and width of a cell of the scoring grid, pixels."""
        return self.side // self.grid

    def on_grid(self, output: Tensor) -> Float[Tensor, "n width g g"] | None:
        """A module's output as a grid: of channels first or last, or of tokens; None if neither."""
        if output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
            return output
        if output.ndim == 4 and output.shape[1] == output.shape[2] > 1:
            return output.permute(0, 3, 1, 2)
        return self.tokens_on_grid(output) if output.ndim == 3 else None

    def tokens_on_grid(
        self, tokens: Float[Tensor, "n t width"]
    ) -> Float[Tensor, "n width g g"] | None:
        """The patches among tokens on their grid; None if their number is no square."""
        if self._tokens_to_grid is not None and tokens.shape[1] == self._tokens:
            return _arranged(self._tokens_to_grid, tokens)
        prefix = self._prefix if tokens.shape[1] == self._tokens else 0
        side = round((tokens.shape[1] - prefix) ** 0.5)
        if side < 2 or side**2 != tokens.shape[1] - prefix:
            return None
        return tokens[:, prefix:].transpose(1, 2).unflatten(2, (side, side))

    def _find_patches(self, observed: Observed) -> None:
        """Which tokens are patches, how they lie, and which tokens the prediction is read from."""
        weights, n = observed.attention[0], len(observed.images)
        self.blocks, self.heads, self._tokens = len(observed.attention), *weights.shape[1:3]
        if observed.patches is not None and observed.patches <= self._tokens:
            self._prefix = self._tokens - observed.patches
        else:  # patches that are cut out and embedded by hand: the fewest other tokens that fit
            squares = [k for k in range(self._tokens) if (self._tokens - k) ** 0.5 % 1 == 0]
            self._prefix = squares[0]
        received = [batch_first(of, n) for of in observed.sequences]
        first = next((of for of in received if of.shape[:2] == (n, self._tokens)), None)
        if self.tokens_on_grid(torch.zeros_like(weights[:, 0])) is None:
            self.lacks["attention"] = (
                f"its {self._tokens} tokens are not the patches of a square image and a few "
                "others; say how they lie with tokens_to_grid"
            )
        elif first is None:
            self.lacks["attention"] = "none of its modules receives the tokens of its attention"
        elif self._tokens_to_grid is None and not self._in_order(first, observed.images):
            self.lacks["attention"] = (
                "its tokens do not follow the image row by row; say how they lie with "
                "tokens_to_grid"
            )
        # After the last block no token sees another: those whose attention matters are read.
        last = observed.attention_gradients[-1]
        assert last is not None  # see no_attention_because
        self.read = last.abs().sum(dim=(0, 1, 3)).nonzero().flatten().tolist()

    def _in_order(self, tokens: Float[Tensor, "n t width"], images: Tensor) -> bool:
        """Whether the tokens of three corners depend most on their own corner of the image."""
        side = round((self._tokens - self._prefix) ** 0.5)
        direction = torch.randn(tokens.shape[2], generator=torch.Generator().manual_seed(0))
        for patch in (0, side - 1, side**2 - side):
            with torch.enable_grad():
                one = (tokens[:, self._prefix + patch] * direction.to(tokens)).sum()
                (gradient,) = torch.autograd.grad(one, images, retain_graph=True)
            mass = functional.adaptive_avg_pool2d(gradient.abs().sum(dim=(0, 1))[None], side)
            if mass.any() and int(mass.argmax()) != patch:
                return False
        return True

    def _find_layers(self, observed: Observed, wanted: Sequence[str] | None) -> dict[str, int]:
        """The modules with a grid that the prediction depends on, or those of `wanted`.

        The gradient on the grid must not be zero, which leaves out the last norms of a ViT that is
        read at its class token. Unless they are wanted, products without a norm or an activation
        are left out: their outputs are not centred, so that many a map would be zero.
        """
        reasons = dict.fromkeys(wanted or (), "is not a module that returns a tensor")
        layers: dict[str, int] = {}
        names: dict[int, str] = {}
        weights = {of.data_ptr() for of in observed.attention}
        for name, output, gradient in zip(
            observed.names, observed.outputs, observed.gradients, strict=True
        ):
            on_grid = (
                None
                if gradient is None
                else self.on_grid(batch_first(gradient, len(observed.images)))
            )
            if on_grid is None or output.data_ptr() in weights:
                reasons[name] = "returns nothing with a square grid that the prediction depends on"
            elif not on_grid.any():
                reasons[name] = "has a gradient of zero: the prediction does not depend on its grid"
            elif name in observed.unusable:
                reasons[name] = observed.unusable[name]
            elif wanted is not None:
                layers[name] = on_grid.shape[-1]
            elif not is_product(self.model.get_submodule(name)):
                # Of modules that return the same tensor, the outermost.
                other = names.get(id(output), "")
                if not other or name.count(".") < other.count("."):
                    layers.pop(other, None)
                    names[id(output)], layers[name] = name, on_grid.shape[-1]
        if missing := [name for name in wanted or () if name not in layers]:
            raise ModelError(f"layer {missing[0]} {reasons[missing[0]]}; name another one")
        if wanted is not None:
            return {name: layers[name] for name in wanted}
        if not layers:
            self.lacks["layers"] = (
                "none of its modules returns a square grid that the prediction depends on; name "
                "one with layers"
            )
        return dict(list(layers.items())[-MOST_LAYERS:])

    def _scoring_grid(self, wanted: int | None) -> int:
        """The model's own grid, of patches or of its deepest layers, brought to 5 to 10 cells."""
        if "attention" in self.lacks:
            own = [of for of in self.layers.values() if 5 <= of <= 10 and self.side % of == 0]
            grid = max(own, default=8)
        else:
            grid = round((self._tokens - self._prefix) ** 0.5)
            while grid > 10 and grid % 2 == 0:
                grid //= 2
            while grid < 5:
                grid *= 2
        grid = wanted or grid
        if self.side % grid or grid < 3:  # with 4 cells, a curve of 8 steps would stand still
            wrong = "does not divide" if self.side % grid else "is too coarse for"
            raise ModelError(
                f"a grid of {grid} x {grid} cells {wrong} images of {self.side} x {self.side} "
                "pixels; choose another grid"
            )
        return grid


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's parameters and buffers.

    Raises:
        ModelError: they are on several devices, or on the one that holds no values.
    """
    devices = {of.device for of in (*model.parameters(), *model.buffers())}
    if torch.device("meta") in devices:
        raise ModelError("the model is on the meta device, without weights; load them first")
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise ModelError(f"parts of the model are on several devices ({names}); move it to one")
    return next(iter(devices), torch.device("cpu"))


def _check_images(images: object) -> None:
    """Raise a ModelError unless these are images as a Subject takes them."""
    fits = (
        isinstance(images, Tensor)
        and images.is_floating_point()
        and images.ndim == 4
        and images.shape[1] == 3
        and images.shape[2] == images.shape[3]
        and len(images) > 0
    )
    if not (fits and isinstance(images, Tensor) and 0 <= images.min() <= images.max() <= 1):
        found = f"{type(images).__module__}.{type(images).__name__}"
        if isinstance(images, Tensor):
            found = f"{images.dtype} of shape {tuple(images.shape)}"
        raise ModelError(
            "images must be a floating-point tensor (n, 3, side, side) with values from 0 to 1, "
            f"before any normalisation; found {found}" + (" with other values" if fits else "")
        )


def _arranged(
    tokens_to_grid: TokensToGrid, tokens: Float[Tensor, "n t width"]
) -> Float[Tensor, "n width g g"]:
    """The tokens as the caller's function arranges them."""
    try:
        grid: Any = tokens_to_grid(tokens)
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(f"tokens_to_grid fails with {what}") from error
    n, t, width = tokens.shape
    shape = tuple(getattr(grid, "shape", ()))
    if len(shape) != 4 or shape[:2] != (n, width) or shape[2] != shape[3]:
        raise ModelError(
            f"tokens_to_grid must arrange tokens ({n}, {t}, {width}) as ({n}, {width}, g, g); it "
            f"returned {shape or type(grid).__name__}"
        )
    return grid


def is_product(module: nn.Module) -> bool:
    """Whether a module is a matrix product or a convolution and nothing else."""
    own = dict(module.named_parameters(recurse=False)).get("weight")
    return own is not None and own.ndim >= 2 and not list(module.children())
