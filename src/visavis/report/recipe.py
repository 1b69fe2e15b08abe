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
            argument = " ".join(map(str, value)) if isinstance(value, list) else value
            words.append(f"--{flag.replace('_', '-')} {'DIR' if flag == 'data.dir' else argument}")
    return " ".join(words)


def leaves(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as dotted names."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        nested = isinstance(value, dict)
        found += leaves(value, f"{prefix}{key}.") if nested else [(prefix + key, value)]
    return found
