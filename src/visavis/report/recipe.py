"""How an experiment was made: its command."""

from collections.abc import Mapping
from typing import Any

from visavis import config, presets
from visavis.errors import ConfigError


def command(experiment: Mapping[str, Any]) -> str:
    """The command that makes this experiment again.

    A data folder is called DIR: its path is private. The settings of the tracker
    change no number and are omitted.
    """
    source, size = experiment["data"]["source"], experiment["experiment"]["data"]["size"]
    words = ["visavis run", f"--preset {experiment['preset']}", f"--data.source {source}"]
    try:
        usual = config.to_json(presets.preset(experiment["preset"], source, size))
        usual["data"] = config.to_json(config.DataConfig())  # not what follows from the size itself
    except (ConfigError, KeyError):
        usual = {}
    for flag, value in leaves(experiment["experiment"]):
        if flag.startswith("tracking.") or flag == "data.source" or value is None:
            continue
        if flag == "seed" or dict(leaves(usual)).get(flag) != value:
            words.append(_flag(flag.replace("_", "-"), "DIR" if flag == "data.dir" else value))
    return " ".join(words)


def _flag(name: str, value: Any) -> str:
    """A setting on the command line, where a switch has a pair of flags."""
    if isinstance(value, bool):
        group, dot, last = name.rpartition(".")
        return f"--{group}{dot}{'' if value else 'no-'}{last}"
    return f"--{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"


def leaves(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as dotted names."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        nested = isinstance(value, dict)
        found += leaves(value, f"{prefix}{key}.") if nested else [(prefix + key, value)]
    return found
