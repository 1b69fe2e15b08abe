"""Every setting of an experiment, as frozen dataclasses; their field docs are the flags' help."""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from visavis.errors import ConfigError

IMAGE_SIDE = 32
"""Height and width of the images of CIFAR and of the shapes, pixels."""

EXPLANATION_SEED = 0
"""Seed of which images are explained, of ties and of baselines; one for both models."""

Source = Literal["auto", "cifar10", "cifar100", "shapes", "folder"]
Preset = Literal["smoke", "quick", "standard", "best"]
Device = Literal["auto", "cpu", "cuda", "mps"]
T = TypeVar("T")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _require_ranges(config: Any, flags: str, **ranges: tuple[int, int]) -> None:
    """Check that settings are from low to high; in `flags`, {0} stands for a setting's name."""
    for name, (low, high) in ranges.items():
        value, flag = getattr(config, name), flags.format(name.replace("_", "-"))
        _require(low <= value <= high, f"{flag} {value}: use {low} to {high}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data set."""

    source: Source = "auto"
    """cifar10, cifar100: CIFAR-10, or CIFAR-100 with its fine labels; an error if it is not
    available. shapes: built-in, drawn images, without files or network. folder: images of your
    own. auto: cifar10 if it is available, otherwise shapes, with a notice."""
    dir: Path | None = None
    """Folder that holds CIFAR: the Python or binary archive, packed or unpacked, or, of CIFAR-10,
    the two-file Parquet layout of the public mirrors. Without this flag, the cache, the mirrors of
    CIFAR-10 and the official host are tried. For folder: one subfolder of images for each of 2 to
    100 classes, or train and test folders with such subfolders."""
    size: int = IMAGE_SIDE
    """Height and width to which the images of a folder are scaled, pixels: 32 to 256, a multiple
    of 8. The other images are 32 x 32."""
    validation_fraction: float = 0.1
    """Fraction of the training images held out for validation, stratified by class."""
    split_seed: int = 0
    """Seed of the validation split; separate from --seed, so that all seeds share one split."""

    def __post_init__(self) -> None:
        _require(
            0 < self.validation_fraction <= 0.5,
            f"--data.validation-fraction {self.validation_fraction}: use more than 0, at most 0.5",
        )
        _require_ranges(self, "--data.{0}", split_seed=(0, 2**32 - 1))
        _require(
            32 <= self.size <= 256 and self.size % 8 == 0,
            f"--data.size {self.size}: use 32 to 256, a multiple of 8",
        )
        _require(
            self.size == IMAGE_SIDE or self.source == "folder",
            f"--data.size {self.size}: only the images of a folder (--data.source folder) are "
            f"scaled; those of CIFAR and the shapes are {IMAGE_SIDE} x {IMAGE_SIDE}",
        )
        _require(
            self.dir is None or self.source != "shapes",
            "--data.dir and --data.source shapes contradict each other: shapes are drawn, not read",
        )


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimisation and augmentation. Muon updates the hidden weight matrices, AdamW the rest."""

    epochs: int = 8
    """Passes over the training images."""
    batch_size: int = 250
    """Images per step."""
    muon_learning_rate: float = 0.02
    """Peak learning rate of the hidden weight matrices and filters. 0: AdamW updates them, too."""
    learning_rate: float = 0.002
    """Peak learning rate of everything else: first layer, biases, norms, positions, head."""
    momentum: float = 0.95
    """Momentum of Muon's running mean of gradients."""
    weight_decay: float = 0.01
    """Decoupled weight decay, per unit of learning rate."""
    warmup_fraction: float = 0.1
    """Fraction of the steps in which the learning rate rises from 0; it then falls linearly to
    0."""
    label_smoothing: float = 0.1
    """Fraction of the target spread over all classes. Not used in validation and test loss."""
    flip: bool = True
    """Mirror half of the training images in one epoch, the other half in the next."""
    crop: int = 0
    """Side of the random crop that all but the last epochs train on, pixels; its cost falls with
    its area. 0: full images. For the ViT a multiple of the patch size."""
    full_image_epochs: int = 1
    """Number of final epochs, which train on full images, without CutMix."""
    shift: int = 2
    """Shift full training images by up to this many pixels in each direction (reflected edge)."""
    cutout: int = 0
    """Side of the cutout square, filled with the mean colour, pixels; 0: none."""
    cutmix: float = 0.0
    """Fraction of the training images, in all but the last --full-image-epochs, in which a
    rectangle is taken from another image; the target is mixed by area."""

    def __post_init__(self) -> None:
        flags = "--cnn.optim.{0}, --vit.optim.{0} or --optim.{0}"  # this does not know the model
        _require_ranges(
            self,
            flags,
            epochs=(1, 10_000),
            batch_size=(2, 50_000),
            shift=(0, 16),
            cutout=(0, 32),
            crop=(8 if self.crop else 0, 256),
            full_image_epochs=(1, 10_000),
            cutmix=(0, 1),
        )
        for name, zero in (("muon_learning_rate", True), ("learning_rate", False)):
            value, flag = getattr(self, name), flags.format(name.replace("_", "-"))
            fits = 0 < value < 100 or (zero and value == 0)
            least = "0 or more" if zero else "a number above 0"
            _require(fits, f"{flag} {value}: use {least}, below 100")
        for name in ("momentum", "weight_decay", "warmup_fraction", "label_smoothing"):
            value, flag = getattr(self, name), flags.format(name.replace("_", "-"))
            _require(0 <= value < 1, f"{flag} {value}: use 0 or more, below 1")

    def sees_full_images(self, epoch: int) -> bool:
        """Whether `epoch`, counted from 0, is one of the last ones: full images, unmixed."""
        return epoch >= self.epochs - self.full_image_epochs

    def side(self, epoch: int, full: int) -> int:
        """Height and width of what `epoch`, counted from 0, trains on; `full`: of the images."""
        return full if self.sees_full_images(epoch) else self.crop or full

    def cost(self, full: int, first: int = 0) -> float:
        """The cost of the epochs from `first` on, in epochs of full images."""
        return sum(((self.side(i, full) / full) ** 2 for i in range(first, self.epochs)), 0.0)


CNN_OPTIM = OptimConfig(muon_learning_rate=0.1, learning_rate=0.01, momentum=0.7, weight_decay=0.05)
OTHER_OPTIM = OptimConfig(muon_learning_rate=0.0, learning_rate=0.001, weight_decay=0.05)
VIT_OPTIM = OptimConfig(muon_learning_rate=0.01, learning_rate=0.003, momentum=0.95, shift=3)


@dataclass(frozen=True, kw_only=True)
class CNNConfig:
    """The CNN: a stem, then three residual stages of three 3 x 3 convolutions each."""

    widths: tuple[int, int, int] = (64, 256, 256)
    """Channels of the three stages."""
    optim: OptimConfig = CNN_OPTIM

    def __post_init__(self) -> None:
        _require(
            all(4 <= width <= 4096 for width in self.widths),
            f"--cnn.widths {' '.join(map(str, self.widths))}: use 4 to 4096, one for each stage",
        )


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """The Vision Transformer (Dosovitskiy et al. 2021), pre-norm, with a class token."""

    patch_size: int = 4
    """Side of the non-overlapping square patches, pixels; divides the images' side."""
    width: int = 192
    """Dimension of a token; a multiple of 4 and of --vit.heads."""
    depth: int = 6
    """Encoder blocks."""
    heads: int = 3
    """Attention heads in each block."""
    mlp_ratio: float = 2.0
    """Hidden width of the feed-forward layers, in multiples of --vit.width."""
    positions: Literal["learned", "sincos"] = "learned"
    """Position embedding: learned, or fixed sines and cosines of the row and the column."""
    optim: OptimConfig = VIT_OPTIM

    def __post_init__(self) -> None:
        _require_ranges(self, "--vit.{0}", patch_size=(2, 128), width=(8, 8192))
        _require_ranges(self, "--vit.{0}", depth=(1, 100), heads=(1, 256))
        _require(
            self.width % self.heads == 0,
            f"--vit.width {self.width} is not a multiple of --vit.heads {self.heads}",
        )
        _require(self.width % 4 == 0, f"--vit.width {self.width}: use a multiple of 4")
        _require(
            0 < self.mlp_ratio <= 16 and self.hidden >= 1,
            f"--vit.mlp-ratio {self.mlp_ratio}: use at least 1 / --vit.width, at most 16",
        )

    @property
    def hidden(self) -> int:
        """Hidden width of the feed-forward layers."""
        return int(self.width * self.mlp_ratio)


@dataclass(frozen=True, kw_only=True)
class RegisteredConfig:
    """A model that was registered, or that a library builds by name."""

    name: str
    optim: OptimConfig
    pretrained: bool = False
    file: str = ""
    """The file that registered it, without its folder; empty if no file did."""
    file_sha256: str = ""


ModelConfig = CNNConfig | ViTConfig | RegisteredConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Device, precision and compilation."""

    device: Device = "auto"
    """auto: a GPU if there is one."""
    precision: Literal["auto", "bf16", "fp16", "float32"] = "auto"
    """Of training. auto: bf16 on a GPU that supports it and on a CPU where a short probe finds it
    faster; fp16 on other CUDA GPUs; otherwise float32. Weights are float32 in any case."""
    devices: int = 1
    """CUDA GPUs of this machine, or processes on its CPU, that train one model together. With more
    than one, `visavis train` is started by torchrun (docs/studies.md)."""
    compile: bool = False
    """Run the training step through torch.compile."""

    def __post_init__(self) -> None:
        _require_ranges(self, "--train.{0}", devices=(1, 64))


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """How many images the explanations are measured on."""

    images: int = 150
    """Test images for the scores, drawn at random. 0: as many as fit into ten minutes for each
    model, from 20 to 500."""
    sweep_images: int = 60
    """Validation images for choosing the Grad-CAM layer of each model."""
    methods: tuple[str, ...] = ()
    """Methods to measure besides the usual ones: layer_cam, smooth_grad, gradient_shap."""
    grid: int = 0
    """Cells along a side of the grid that scores are measured on; it must divide the side of the
    images. 0: the models' own, of patches or of the last layers."""

    def __post_init__(self) -> None:
        _require_ranges(
            self,
            "--explain.{0}",
            sweep_images=(20, 5_000),
            images=(20 if self.images else 0, 10_000),
            grid=(0, 32),
        )
        known = ("layer_cam", "smooth_grad", "gradient_shap")
        _require(
            set(self.methods) <= set(known),
            f"--explain.methods {' '.join(self.methods)}: use {', '.join(known)}",
        )


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Weights & Biases, and TensorBoard."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """auto: online if an API key is set, otherwise offline (kept in the run folder)."""
    project: str = "visavis"
    """W&B project that the runs are filed under."""
    tensorboard: bool = False
    """Log for TensorBoard as well, into tensorboard/ in the experiment folder; needs the extra
    visavis[tensorboard]. With --tracking.wandb off, for TensorBoard alone."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Two models, trained, tested, explained and compared on the same images."""

    first: str = "cnn"
    """The first model: cnn, vit, a registered one, timm/NAME or torchvision/NAME."""
    second: str = "vit"
    """The second model."""
    seed: int = 0
    """Seed of initialisation, order and augmentation of both models."""
    seeds: int = 1
    """Number of trainings of each model, with consecutive seeds from --seed. The report covers the
    first; the others, each of which takes as long, measure how well two trainings of one model
    agree."""
    data: DataConfig = field(default_factory=DataConfig)
    cnn: CNNConfig = field(default_factory=CNNConfig)
    vit: ViTConfig = field(default_factory=ViTConfig)
    optim: OptimConfig = OTHER_OPTIM
    """Training of a model other than cnn and vit; AdamW updates all of its weights."""
    pretrained: bool = False
    """Start timm/NAME and torchvision/NAME from the weights that the library provides, which it
    downloads."""
    train: TrainConfig = field(default_factory=TrainConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        _require(
            self.first != self.second,
            f"--first and --second are both {self.first}: name two models",
        )
        _require_ranges(self, "--{0}", seed=(0, 2**32 - 1))
        size, patch = self.data.size, self.vit.patch_size
        _require(
            size % patch == 0 and patch < size,
            f"--vit.patch-size {patch} does not divide images of {size} x {size} pixels "
            f"(--data.size) into a usable grid; use a divisor, such as {size // 8}",
        )
        crop = self.vit.optim.crop
        _require(
            crop % patch == 0,
            f"--vit.optim.crop {crop} does not hold whole patches of --vit.patch-size {patch}; use "
            "a multiple of that, or 0 for full images",
        )
        for name, model in (("cnn.", self.cnn), ("vit.", self.vit), ("", self)):
            _require(
                model.optim.crop <= size,
                f"--{name}optim.crop {model.optim.crop} is larger than the images (--data.size "
                f"{size}); use at most their side, or 0 for full images",
            )
        _require(
            1 <= self.seeds <= 20 and self.seed + self.seeds <= 2**32,
            f"--seeds {self.seeds}: use 1 to 20, and no seed above {2**32 - 1}",
        )

    def model(self, name: str) -> ModelConfig:
        """The config of the model called `name`."""
        own: dict[str, ModelConfig] = {"cnn": self.cnn, "vit": self.vit}
        pretrained = self.pretrained and "/" in name
        return own.get(name) or RegisteredConfig(name=name, optim=self.optim, pretrained=pretrained)


def to_json(config: Any) -> dict[str, Any]:
    """The config as JSON types; `from_json` reads it back."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return values


def from_json(cls: type[T], values: Any) -> T:
    """Build a config dataclass from what `to_json` wrote.

    Raises:
        ConfigError: an unknown or missing key, or a value of the wrong type, with its name.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{cls.__name__}: expected an object, found {type(values).__name__}")
    hints = typing.get_type_hints(cls)
    if unknown := values.keys() - hints.keys():
        raise ConfigError(f"{cls.__name__}: unknown key {', '.join(sorted(unknown))}")
    if missing := hints.keys() - values.keys():
        raise ConfigError(f"{cls.__name__}: missing key {', '.join(sorted(missing))}")
    return cls(**{k: _read(f"{cls.__name__}.{k}", hint, values[k]) for k, hint in hints.items()})


def _read(name: str, hint: Any, value: Any) -> Any:
    """`value` from JSON as the type `hint`, one of the few kinds that the configs use."""
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]
    kind, options = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is Literal and value in options:
        return value
    if kind is tuple and options[1:] == (...,) and isinstance(value, list):
        options = (options[0],) * len(value)
    if kind is tuple and isinstance(value, list) and len(value) == len(options):
        return tuple(_read(name, of, item) for of, item in zip(options, value, strict=True))
    if kind is types.UnionType:  # Path | None
        return None if value is None else Path(value)
    if type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    raise ConfigError(f"{name}: {value!r} is not a valid value")
