"""The commands: a class for each, a field for each flag. A field's docstring is its help text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from visavis import config

ExperimentFolder = Annotated[Positional[Path], arg(metavar="EXPERIMENT")]
DeviceFlag = Annotated[config.Device, arg(help="auto: a GPU if there is one.")]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Train, test, explain and compare two models, and write a report.

    By default a CNN and a Vision Transformer; --first and --second name others.

    Repeat the command to resume: finished stages are skipped.
    """

    preset: config.Preset
    """How much to do. smoke: a few minutes, a check that everything works. quick: up to an hour on
    2 CPU cores. standard: hours, for results worth reading. best: larger models, for a GPU or a
    night. Times halve on a CPU with fast bf16. The built-in shapes take from four minutes (smoke)
    to half an hour (standard); there, best equals standard. The flags below override the preset."""
    out: Annotated[Path | None, arg(help_behavior_hint="(default: runs/PRESET-SOURCE)")] = None
    """Experiment folder."""
    settings: Annotated[config.Experiment, arg(name="")]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the training commands of all models share."""

    out: Path = tyro.MISSING
    """Run folder of this one model."""
    preset: config.Preset
    """Defaults of the flags below: smoke, quick, standard or best, from short to long."""
    seed: int
    """Seed of initialisation, order and augmentation."""
    data: config.DataConfig
    train: config.TrainConfig
    tracking: config.TrackingConfig


@dataclass(frozen=True, kw_only=True)
class TrainCNN(Training):
    """Train the CNN, or resume an interrupted training."""

    cnn: config.CNNConfig


@dataclass(frozen=True, kw_only=True)
class TrainViT(Training):
    """Train the Vision Transformer, or resume an interrupted training."""

    vit: config.ViTConfig


@dataclass(frozen=True, kw_only=True)
class TrainOther(Training):
    """Train this model, or resume an interrupted training."""

    name: tyro.conf.Fixed[str] = ""
    """The model."""
    optim: config.OptimConfig
    pretrained: bool


@dataclass(frozen=True, kw_only=True)
class Study:
    """Train several models with several seeds, on this machine or on a cluster.

    Each training is tested and explained on the same images, in a run folder of its own,
    OUT/VARIANT/seed-N. Repeat the command to do what is missing, or add models, values or seeds.
    """

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL…", help_behavior_hint="")] = ()
    """cnn, vit, a registered model, timm/NAME or torchvision/NAME; or a TOML file, STUDY.toml, that
    holds these names (models) and any of the flags below."""
    out: Path = tyro.MISSING
    """Folder of the study."""
    vary: UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Values of a model's settings, such as vit.depth=4,6: a variant of the model for each of
    them, and for each combination if there are several settings; --vary can be repeated."""
    seeds: int = 3
    """Number of trainings of each variant, with consecutive seeds from --seed, 1 to 20."""
    jobs: int = 0
    """Trainings at once. 0: one on each GPU; without a GPU, one on each core, as memory allows."""
    engine: Literal["local", "ray"] = "local"
    """What runs them. local: processes of this machine. ray: tasks of a Ray cluster, on all of its
    machines."""
    address: str | None = None
    """Ray cluster, as HOST:PORT, or auto for the one that this machine belongs to. Without this
    flag, --engine ray starts Ray on this machine, and stops it afterwards."""
    print: FlagCreatePairsOff[bool] = False
    """Train nothing; print one command for each training that is missing, for a cluster."""
    preset: config.Preset
    """Defaults of the flags below: smoke, quick, standard or best, from short to long."""
    seed: int
    """The first seed of initialisation, order and augmentation."""
    data: config.DataConfig
    cnn: config.CNNConfig
    vit: config.ViTConfig
    optim: config.OptimConfig
    pretrained: bool
    """Start timm/NAME and torchvision/NAME from the weights that the library provides, which it
    downloads."""
    train: config.TrainConfig
    explain: config.ExplainConfig
    tracking: config.TrackingConfig


@dataclass(frozen=True, kw_only=True)
class StudyJob:
    """Train, test and explain one model of a study; what is finished is skipped.

    `visavis study` starts such commands, or prints them.
    """

    folder: Annotated[Positional[Path], arg(metavar="DIR")] = tyro.MISSING
    """Run folder of the training, VARIANT/seed-N in the folder of the study."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluate a trained model on the test images."""

    folder: Annotated[Positional[Path], arg(metavar="DIR")] = tyro.MISSING
    """Run folder of one trained model."""
    device: DeviceFlag = "auto"
    data: config.DataConfig


@dataclass(frozen=True, kw_only=True)
class Explain(Evaluate):
    """Compute an evaluated model's attribution maps and measure how faithful they are.

    With --model and --weights, explain a model that was trained elsewhere: DIR is created from
    these and from the images of the --data flags, and the model is evaluated first.
    """

    model: str | None = None
    """Name of the model that --weights belong to."""
    weights: Path | None = None
    """Its state dict, as safetensors or as torch.save wrote it."""
    mean: tuple[float, float, float] | None = None
    """Mean colour that it was trained with, in [0, 1]. Without this flag, that of the training
    images."""
    std: tuple[float, float, float] | None = None
    """Standard deviation that it was trained with, as --mean."""
    explain: config.ExplainConfig


@dataclass(frozen=True, kw_only=True)
class ValidateScores:
    """Test the scores of attribution maps against the known truth of the built-in shapes.

    DIR is a model that was trained and evaluated on them. The exit code is 1 if the headline
    score, SRG, fails.
    """

    folder: Annotated[Positional[Path], arg(metavar="DIR")] = tyro.MISSING
    """Run folder of one model, trained and evaluated with --data.source shapes."""
    device: DeviceFlag = "auto"


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare two explained models, with confidence intervals, in comparison.json."""

    experiment: ExperimentFolder = tyro.MISSING
    """Folder that holds the run folders of two models."""


@dataclass(frozen=True, kw_only=True)
class CrossModel(Compare):
    """Evaluate each model with the other's attribution maps, and both models on composites."""

    device: DeviceFlag = "auto"
    data: config.DataConfig
    explain: config.ExplainConfig


@dataclass(frozen=True, kw_only=True)
class Report(Compare):
    """Write report.html of a compared experiment, or study.html: one file that works offline."""


@dataclass(frozen=True, kw_only=True)
class Export(Compare):
    """Write figures, tables, text and references of a report, or of a study, as files."""

    to: Path = tyro.MISSING
    """Folder for them: new, empty, or of an earlier export, whose files are replaced unless they
    were edited."""


@dataclass(frozen=True, kw_only=True)
class Cite(Compare):
    """Print, as BibTeX, the works whose methods and metrics a report, or a study, uses."""


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Classify images of your own with the trained models.

    Each image is cropped to its central square and scaled to the size that the models take.
    """

    experiment: ExperimentFolder = tyro.MISSING
    """Folder that holds the run folders of one or two models."""
    images: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="IMAGE…", help_behavior_hint="")
    ] = ()
    """Image files."""
    out: Path | None = None
    """Folder for heatmap overlays of the images. Without it, none are drawn."""
    json: FlagCreatePairsOff[bool] = False
    """Print JSON instead of a table."""


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve a web page to try two models on any image and to explore the test images.

    Runs until Ctrl-C. Uploaded images stay in memory and are never written to a file or log.
    """

    experiment: ExperimentFolder = tyro.MISSING
    """Folder of an experiment, with one or two trained models, or of a study."""
    host: str = "127.0.0.1"
    """Address to listen on. The default can be reached from this machine only. With any other, the
    page opens only at the printed URL, which holds a token. The connection is not encrypted."""
    port: int = 8000
    """Port to listen on, 1 to 65535; if it is taken, the next free one."""
    open: FlagCreatePairsOff[bool] = False
    """Open the page in a browser."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """Show the data set: classes, counts and channel statistics."""

    data: config.DataConfig


@dataclass(frozen=True, kw_only=True)
class Verify(Info):
    """Look for duplicate, blank and unevenly distributed images."""


@dataclass(frozen=True)
class Fetch:
    """Download CIFAR-10 or CIFAR-100 into the cache, or resume an interrupted download."""

    source: Positional[Literal["cifar10", "cifar100"]] = "cifar10"
    """Which of the two."""


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Check that this machine has what visavis needs, and say how to get what is missing."""

    json: FlagCreatePairsOff[bool] = False
    """Print JSON instead of a table."""


COMMANDS = (
    *(Run, Study, StudyJob, Evaluate, Explain, ValidateScores, CrossModel),
    *(Compare, Report, Export, Cite, Predict, Serve, Doctor),
)
DATA = (Info, Fetch, Verify)
OWN_MODELS = (TrainCNN, TrainViT)
NAMES: dict[type, str] = {TrainCNN: "cnn", TrainViT: "vit"}
"""Commands that are not called as their class is."""
