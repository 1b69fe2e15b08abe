"""What the command line of a study stands for: its TOML file, and the variants that it names."""

import itertools
import logging
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from visavis import registry, run_folder
from visavis.errors import ConfigError
from visavis.files import read_bytes

log = logging.getLogger(__name__)

MAX_BYTES = 10_000
"""Of a TOML file; a larger one could take minutes and all memory to be parsed."""


class Named(NamedTuple):
    """A variant: the name of its folder, its model, and the settings that make it differ."""

    name: str
    model: str
    varied: dict[str, str]


def variants(models: Sequence[str], vary: Sequence[str]) -> list[Named]:
    """Each model with every combination of the values that `vary` gives for it.

    Args:
        vary: such as "vit.depth=4,6".

    Raises:
        ConfigError: a model is unknown or named twice, or a setting is not one of these models.
    """
    if not models:
        raise ConfigError(
            "name at least one model: visavis study MODEL… --out DIR; or a file: visavis study "
            "STUDY.toml"
        )
    choices: dict[str, dict[str, list[str]]] = {model: {} for model in models}
    for model in models:
        registry.check_name(model)
    for each in vary:
        key, _, listed = each.partition("=")
        key = key.replace("_", "-")
        options = [value.strip() for value in listed.split(",")]
        if not all(options):
            raise ConfigError(f"--vary {each}: give values, as in --vary vit.depth=4,6")
        chosen = [model for model in choices if _prefix(model) == _kind(key)]
        if not chosen:
            raise ConfigError(
                f"--vary {key}: only settings of the models in the study can be varied, such as "
                "cnn.optim.epochs or vit.depth, and optim.epochs of models other than cnn and vit"
            )
        for model in chosen:
            choices[model].setdefault(key, []).extend(options)
    named = [
        Named(_name(model, varied), model, dict(varied))
        for model, settings in choices.items()
        for values in itertools.product(*(settings[key] for key in sorted(settings)))
        for varied in [tuple(zip(sorted(settings), values, strict=True))]
    ]
    names = [variant.name for variant in named]
    if twice := {name for name in names if names.count(name) > 1} | {
        model for model in models if models.count(model) > 1
    }:
        raise ConfigError(
            f"the study names {', '.join(sorted(twice))} twice; name each variant once"
        )
    return named


def _prefix(model: str) -> str:
    return model if model in registry.OWN else ""


def _kind(key: str) -> str | None:
    """The prefix of the models that a setting belongs to; None if it is not one of a model."""
    first = key.split(".")[0]
    return first if first in registry.OWN else "" if first in ("optim", "pretrained") else None


def _name(model: str, varied: Sequence[tuple[str, str]]) -> str:
    """Such as vit-depth-4: the same whatever else is in the study."""
    words = [run_folder.folder_name(model)]
    for key, value in varied:
        words += [*key.removeprefix(f"{model}.").split("."), value]
    return re.sub(r"[^\w.+-]+", "-", "-".join(words))


def flag(key: str, value: Any) -> list[str]:
    """A setting as words of a command line; tyro has a pair of flags for a switch."""
    if isinstance(value, bool):
        group, dot, last = key.rpartition(".")
        return [f"--{group}{dot}{'' if value else 'no-'}{last}"]
    return [f"--{key}", *map(str, _list(value))]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def flags_of(varied: Mapping[str, str]) -> list[str]:
    """The flags of a variant; a value of several words, such as "8 8 16", becomes as many."""
    switches = {"true": True, "false": False}
    words = (flag(key, switches.get(value.lower(), value.split())) for key, value in varied.items())
    return list(itertools.chain.from_iterable(words))


def expanded(arguments: Sequence[str]) -> list[str]:
    """The command line with STUDY.toml, if it names one, replaced by the flags that it holds.

    Flags of the command line come after those of the file, and so override them.

    Raises:
        ConfigError: the file is missing or not TOML.
    """
    words = list(arguments)
    at = words.index("study") + 1 if "study" in words else len(words)
    files = [word for word in words[at:] if word.endswith(".toml")]
    if not files:
        return words
    settings = _read(Path(files[0]))
    names = settings.pop("models", [])
    vary = [
        f"{key.removeprefix('vary.')}={','.join(map(_word, _list(value)))}"
        for key, value in settings.items()
        if key.startswith("vary.")
    ]
    rest = [word for word in words[at:] if word not in files[:1]]
    more = list(itertools.takewhile(lambda word: not word.startswith("-"), rest))
    given = [*_list(names), *more]
    for key, value in settings.items():
        given += [] if key.startswith("vary.") else flag(key, value)
    overridden = any(word.split("=")[0] == "--vary" for word in rest)  # repeated, it would add
    given += ["--vary", *vary] if vary and not overridden else []
    given = [str(word) for word in given]
    log.info("%s stands for: %s", files[0], shlex.join(given))  # errors are about these flags
    return [*words[:at], *given, *rest[len(more) :]]


def _read(path: Path) -> dict[str, Any]:
    """The values of a TOML file by the dotted names of their keys."""
    try:
        return dict(_flat(tomllib.loads(read_bytes(path, MAX_BYTES).decode())))
    except FileNotFoundError:
        raise ConfigError(f"cannot read {path}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of TOML and of UTF-8
        what = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{path} is not a TOML file: {what}") from error


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _word(value: Any) -> str:
    """A value of a list in [vary]: true as in TOML, [8, 8, 16] as "8 8 16"."""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
