"""Parsing a command line, as a tree of tyro subcommands with the classes of `arguments`."""

import dataclasses
import functools
import itertools
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import docstring_parser
import tyro
from tyro.conf import FlagCreatePairsOff, arg, subcommand
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from visavis import config, presets, registry
from visavis.cli import arguments as flags
from visavis.errors import ConfigError

MODELS = "Python file that registers models of your own with visavis.register_model."
DEBUG = "Show tracebacks of errors and warnings of libraries."


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
        return Annotated[cls, subcommand(name or flags.NAMES.get(cls), default=cls(**defaults))]

    def group(name: str, about: str, commands: Iterable[Any]) -> Any:
        return Annotated[_one_of(commands), subcommand(name, description=about)]

    data = map(command, flags.DATA)
    train = [*map(command, flags.OWN_MODELS), *(command(flags.TrainOther, name) for name in others)]
    return _one_of(
        [
            *map(command, flags.COMMANDS),
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
