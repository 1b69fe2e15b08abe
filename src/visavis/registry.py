"""The models that a user brings: registered from Python, or by a file named with --models.

Nothing here imports torch, so that `--help` can name them.
"""

import contextlib
import inspect
import re
import runpy
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visavis.errors import ConfigError, ModelError
from visavis.files import file_sha256

OWN = ("cnn", "vit")
LIBRARIES = ("timm/", "torchvision/")

Factory = Callable[[int, int], Any]
"""From the number of classes and the side of the images, pixels, to a `torch.nn.Module`."""


@dataclass(frozen=True)
class Registered:
    """A model of the user's."""

    factory: Factory
    file: str
    """Name of the file that registered it, without its folder; empty in a notebook."""
    file_sha256: str
    layers: Sequence[str] | None = None
    tokens_to_grid: Callable[[Any], Any] | None = None


registered: dict[str, Registered] = {}
"""By name."""

_running: list[tuple[Path, dict[str, Registered]]] = []
"""The file that --models names, while it runs: what registers a model, wherever its class is. And
the models that were known before."""

files: list[Path] = []
"""The files that --models named; a command that starts others passes them on."""


def register_model(
    name: str,
    factory: Factory,
    *,
    layers: Sequence[str] | None = None,
    tokens_to_grid: Callable[[Any], Any] | None = None,
) -> None:
    """Make a model known by `name`, to all commands and functions of this process.

    Args:
        name: of lower-case letters, digits, -, _ and dots; also the name of its run folder.
        factory: called with the number of classes and the side of the images in pixels; returns a
            fresh module from images (n, 3, side, side), whose channels are normalised to mean 0 and
            standard deviation 1, to logits (n, classes).
        layers: names of the modules where Grad-CAM may look, from the image to the head; found by
            observing the model if None.
        tokens_to_grid: arranges tokens (n, t, width) as (n, width, g, g), for a model whose patches
            do not follow the image row by row.

    Raises:
        ConfigError: the name is taken, by a model of visavis or by what lies beside the models of
            an experiment, or has other characters.
    """
    if name in OWN or not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise ConfigError(
            f"a model cannot be registered as {name!r}; use lower-case letters, digits, -, _ and "
            f"dots, other than {' and '.join(OWN)}"
        )
    if re.fullmatch(r"wandb|tensorboard|seed-.*|.*\.(json|html)", name):
        raise ConfigError(
            f"a model cannot be registered as {name!r}: an experiment folder has such a file or "
            "folder beside those of its models; use another name"
        )
    if _running and registered.get(name) is not _running[-1][1].get(name):
        raise ConfigError(f"two models are registered as {name!r}; give each a name of its own")
    try:
        path = _running[-1][0] if _running else Path(inspect.getsourcefile(factory) or "")
    except (TypeError, OSError):  # not a function, such as a partial, or of a notebook
        path = Path()
    known = path.is_file()
    sha256 = file_sha256(path) if known else ""
    registered[name] = Registered(
        factory, path.name if known else "", sha256, layers, tokens_to_grid
    )


def run_file(path: Path) -> None:
    """Run a Python file that registers models; what it prints goes to stderr.

    Raises:
        ModelError: there is no such file, it fails, or it registers nothing, or a name twice.
    """
    if not path.is_file():
        raise ModelError(f"--models {path}: there is no such file")
    before = dict(registered)
    sys.path.insert(0, str(path.parent.resolve()))  # as `python FILE.py` does: it may import others
    _running.append((path, before))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the results of a command
            runpy.run_path(str(path))
    except ConfigError as error:
        raise ModelError(f"--models {path}: {error}") from error
    except (Exception, SystemExit) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(f"--models {path}: the file fails with {what}") from error
    finally:
        _running.pop()
    if registered == before:
        raise ModelError(
            f"--models {path}: the file registers no model; call "
            "visavis.register_model(name, factory) in it"
        )
    files.append(path)


def failure(error: BaseException) -> str | None:
    """One sentence if code of the user's, in a file of --models or beside it, raised `error`."""
    folders = [path.resolve().parent for path in files]  # which may hold the packages, too
    apart = Path(__file__).parent, Path(sysconfig.get_path("stdlib"))
    packages = {"site-packages", "dist-packages"}
    place = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        path = Path(name).resolve()
        others = name.startswith("<") or packages & {*path.parts} or _within(path, apart)
        if _within(path, folders) and not others:
            place = f"line {line} of {path.name}"
    if place is None:
        return None
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"your own code fails in {place} with {what}; mend it there"


def _within(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def check_name(name: str) -> None:
    """Raise a ConfigError unless there can be a model of that name."""
    if name not in (*OWN, *registered) and not name.startswith(LIBRARIES):
        known = ", ".join((*OWN, *registered))
        raise ConfigError(
            f"there is no model {name!r}; use {known}, timm/NAME or torchvision/NAME, or register "
            "it with --models FILE.py"
        )
