"""What each command takes. A field's docstring is its help; `parsing` makes flags of them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from visavis.config import (
    CNNConfig,
    DataConfig,
    Device,
    Experiment,
    ExplainConfig,
    Preset,
    TrackingConfig,
    TrainConfig,
    ViTConfig,
)

Folder = Annotated[Positional[Path], arg(metavar="DIR")]
ExperimentFolder = Annotated[Positional[Path], arg(metavar="EXPERIMENT")]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Train, test, explain and compare a CNN and a Vision Transformer, and write one report.

    Repeat the same command to go on where it stopped: what is finished is not done again.
    """

    preset: Preset = "standard"
    """How much is done. smoke: two minutes, only to see that all works. quick: ten minutes on 2
    cores with fast bf16 (AMX, Zen 5), up to an hour on others. standard: an hour, or four to five,
    for results worth reading. best: larger models, for hours, or for a GPU. The built-in shapes
    take minutes with each, and best is standard there. Every flag below overrides what the preset
    sets."""
    out: Path | None = None
    """Folder of the experiment; runs/PRESET-SOURCE unless given."""
    debug: bool = False
    """Show where in the code an error comes from, and the warnings of libraries."""
    experiment: Annotated[Experiment, arg(name="")] = field(default_factory=Experiment)


@dataclass(frozen=True, kw_only=True)
class TrainCNN:
    """Train the CNN, or go on with an interrupted training."""

    out: Path
    """Run folder of this one model."""
    preset: Preset = "standard"
    """Sets what no flag below sets: smoke, quick, standard or best, from short to long."""
    seed: int = 0
    """Seed of initialisation, order and augmentation."""
    debug: bool = False
    """Show where in the code an error comes from, and the warnings of libraries."""
    data: DataConfig = field(default_factory=DataConfig)
    cnn: CNNConfig = field(default_factory=CNNConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass(frozen=True, kw_only=True)
class TrainViT:
    """Train the Vision Transformer, or go on with an interrupted training."""

    out: Path
    """Run folder of this one model."""
    preset: Preset = "standard"
    """Sets what no flag below sets: smoke, quick, standard or best, from short to long."""
    seed: int = 0
    """Seed of initialisation, order and augmentation."""
    debug: bool = False
    """Show where in the code an error comes from, and the warnings of libraries."""
    data: DataConfig = field(default_factory=DataConfig)
    vit: ViTConfig = field(default_factory=ViTConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Test a trained model on the test images, each seen once."""

    folder: Folder
    """Run folder of one trained model."""
    device: Device = "auto"
    """auto: a GPU if there is one."""
    debug: bool = False
    """Show where in the code an error comes from, and the warnings of libraries."""
    data: DataConfig = field(default_factory=DataConfig)


@dataclass(frozen=True, kw_only=True)
class Explain:
    """Draw a tested model's heatmaps, and measure how far they can be trusted."""

    folder: Folder
    """Run folder of one tested model."""
    device: Device = "auto"
    """auto: a GPU if there is one."""
    debug: bool = False
    """Show where in the code an error comes from, and the warnings of libraries."""
    data: DataConfig = field(default_factory=DataConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)


@dataclass(frozen=True, kw_only=True)
class CrossModel:
    """Test two explained models with each other's maps, and both on images made of two."""

    experiment: ExperimentFolder
    """Folder that holds cnn/ and vit/."""
    device: Device = "auto"
    """auto: a GPU if there is one."""
    debug: bool = False
    """Show where in the code an error comes from, and the warnings of libraries."""
    data: DataConfig = field(default_factory=DataConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Set two explained models side by side, with intervals, in comparison.json."""

    experiment: ExperimentFolder
    """Folder that holds cnn/ and vit/."""
    debug: bool = False
    """Show where in the code an error comes from."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write report.html, one file that needs no network, from a compared experiment."""

    experiment: ExperimentFolder
    """Folder that holds cnn/, vit/ and comparison.json."""
    debug: bool = False
    """Show where in the code an error comes from."""


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Say what trained models see in images of your own.

    Each image is cut to its middle square and scaled to 32 x 32 pixels.
    """

    experiment: ExperimentFolder
    """Folder that holds cnn/ or vit/ or both."""
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE…")]
    """Image files."""
    out: Path | None = None
    """Folder for each image with its heatmap laid over it; none are drawn unless given."""
    json: bool = False
    """Print JSON instead of a table."""
    debug: bool = False
    """Show where in the code an error comes from."""


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Open a web page to ask both models about any image, and to explore the test images.

    It runs until Ctrl-C. Images stay in memory and go into no file and no log.
    """

    experiment: ExperimentFolder
    """Folder that holds cnn/ or vit/ or both."""
    host: str = "127.0.0.1"
    """Address to listen on. Only this machine can reach the default; with any other the page opens
    only by the address that is printed, which holds a token. The connection is not encrypted."""
    port: int = 8000
    """Port to listen on, 1 to 65535; the next free one if it is taken."""
    open: bool = False
    """Open the page in a browser."""
    debug: bool = False
    """Show where in the code an error comes from."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Look at the images, or fetch them."""

    debug: bool = False
    """Show where in the code an error comes from."""
    data: DataConfig = field(default_factory=DataConfig)


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Bring CIFAR-10 into the cache, from mirrors first; goes on with an interrupted download."""

    debug: bool = False
    """Show where in the code an error comes from."""


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Check that this machine has what visavis needs, and say what to do where it has not."""

    json: bool = False
    """Print JSON instead of a table."""
    debug: bool = False
    """Show where in the code an error comes from."""
