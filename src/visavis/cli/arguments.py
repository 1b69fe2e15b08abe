"""The command line as one tree of tyro subcommands: a class per command, a field per flag.

A field's docstring is its help text.
"""

import dataclasses
import functools
import itertools
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import docstring_parser
import tyro
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg, subcommand
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from visavis import config, presets, registry
from visavis.errors import ConfigError

ExperimentFolder = Annotated[Positional[Path], arg(metavar="EXPERIMENT")]
DeviceFlag = Annotated[config.Device, arg(help="auto: a GPU if there is one.")]

MODELS = "Python file that registers models of your own with visavis.register_model."
DEBUG = "Show tracebacks of errors and warnings of libraries."


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
OWN_MODELS = (TrainCNN, TrainViT)
NAMES: dict[type, str] = {TrainCNN: "cnn", TrainViT: "vit"}
"""Commands that are not called as their class is."""


@dataclass(frozen=True)
class Chosen:
    """The flags that decide the defaults of other flags."""

    models: Path | None = None
    preset: config.Preset = "standard"
    source: Annotated[config.Source, arg(name="data.source")] = "auto"
    size: Annotated[int, arg(name="data.size")] = config.IMAGE_SIDE


def parse(arguments: Sequence[str], experiment: config.Experiment | None = None) -> Any:
    """Read a command line into the class of its command.

    Args:
        experiment: values of the flags that are not given. Default: those of the preset.

    Raises:
        SystemExit: after --help, or with code 2 after reporting what is wrong on stderr.
        ConfigError: --out is empty, or there is no such flag and another one is meant.
        ModelError: the file of --models fails, or registers nothing.
    """
    _check(arguments)
    chosen, _ = tyro.cli(Chosen, args=arguments, return_unknown_args=True, add_help=False)
    if chosen.models is not None:
        _run_file(chosen.models)
    if experiment is None:
        source = "cifar10" if chosen.source == "auto" else chosen.source
        experiment = presets.preset(chosen.preset, source, chosen.size)
    parsed = tyro.cli(
        _tree(chosen.preset, experiment, _other_models(arguments)),
        prog="visavis",
        args=arguments,
        config=(
            tyro.conf.CascadeSubcommandArgs,
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.DisallowNone,
        ),
        registry=_registry(),
    )
    return getattr(parsed.command, "command", parsed.command)  # of a group, such as `train`


def _check(arguments: Sequence[str]) -> None:
    """Refuse what tyro would take for something else, or would not explain."""
    if "--out=" in arguments or ("--out", "") in itertools.pairwise(arguments):
        raise ConfigError("--out is empty; name a folder, or . for this one")
    if any(of.partition("=")[0] == "--lr" for of in arguments):
        raise ConfigError(
            "there is no --lr; the learning rates are --cnn.optim.learning-rate, "
            "--vit.optim.learning-rate and --optim.learning-rate, and those of Muon "
            "--cnn.optim.muon-learning-rate and --vit.optim.muon-learning-rate"
        )


@functools.cache
def _run_file(path: Path) -> None:
    """Once, although the command line is parsed again for each set of defaults."""
    registry.run_file(path)


def _other_models(arguments: Sequence[str]) -> list[str]:
    """The models besides our own two that there can be a `train NAME` for."""
    named = [each for each in arguments if each.startswith(registry.LIBRARIES)]
    return [*registry.registered, *named]


def _tree(preset: config.Preset, experiment: config.Experiment, others: Sequence[str]) -> Any:
    """The type that tyro parses; the defaults come from `experiment`."""
    known = {**vars(experiment), "preset": preset, "settings": experiment}
    del known["seeds"]  # the preset's are those of `run`

    def command(cls: Any, name: str | None = None) -> Any:
        values = known | {"name": name}
        defaults = {of.name: values[of.name] for of in fields(cls) if of.name in values}
        return Annotated[cls, subcommand(name or NAMES.get(cls), default=cls(**defaults))]

    def group(name: str, about: str, commands: Iterable[Any]) -> Any:
        return Annotated[_one_of(commands), subcommand(name, description=about)]

    data = map(command, (Info, Fetch, Verify))
    train = [*map(command, OWN_MODELS), *(command(TrainOther, name) for name in others)]
    return _one_of(
        [
            *map(command, COMMANDS),
            group("data", "Show, download or check the images.", data),
            group("train", "Train one model.", train),
        ],
        ("models", Annotated[Path | None, arg(help=MODELS)], None),
        ("debug", Annotated[bool, arg(help=DEBUG), FlagCreatePairsOff], False),
    )


def _one_of(commands: Iterable[Any], *options: Any) -> type:
    """A class whose field `command` is one of `commands`."""
    one: Any = Annotated[typing.Union[tuple(commands)], arg(name="")]  # noqa: UP007
    return make_dataclass("Group", [("command", one), *options])


def _registry() -> ConstructorRegistry:
    """Help texts as paragraphs: tyro keeps the line breaks of docstrings."""
    registry = ConstructorRegistry()

    @registry.struct_rule
    def _(info: StructTypeInfo) -> StructConstructorSpec | None:
        cls = type(info.default)
        if not dataclasses.is_dataclass(cls):
            return None
        hints = typing.get_type_hints(cls, include_extras=True)
        docs = {
            param.arg_name: " ".join((param.description or "").split())
            for base in reversed(cls.__mro__[:-1])
            for param in docstring_parser.parse_from_object(base).params
        }
        found = tuple(
            StructFieldSpec(name=name, type=hints[name], default=default, helptext=docs.get(name))
            for name, default in vars(info.default).items()
        )
        return StructConstructorSpec(instantiate=cls, fields=found)

    return registry
