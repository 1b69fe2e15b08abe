"""Weights & Biases; nothing outside this module imports wandb.

Tracking never ends a run, delays it for long or asks a question: without a key, a network or a
reachable server the run is tracked offline, and after an error it continues untracked.

Reads `evaluation.json` of each model. Writes `wandb/` in the experiment folder,
which `wandb sync` uploads later.
"""

import contextlib
import logging
import netrc
import os
import urllib.request
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure

from visavis.config import TrackingConfig
from visavis.run_folder import model_folders

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "off"]

INIT_SECONDS = 6
"""How long to wait for the server; then this run is tracked offline, which takes as long again, and
so is any later one."""
FINISH_SECONDS = 8
unreachable: set[str] = set()
"""Servers that did not respond to this process."""
MODES: dict[str, Mode] = {"disabled": "off", "offline": "offline", "dryrun": "offline"}
"""What the environment variable WANDB_MODE means here."""


class Attempts:
    """Calls what a tracker does; after an error, it calls nothing more."""

    def __init__(self, tracker: str) -> None:
        self.tracker = tracker
        self.over = False

    def __call__(self, action: Callable[..., object], *arguments: Any) -> None:
        """Call `action`; an error is reported, once, and not raised."""
        if self.over:
            return
        try:
            action(*arguments)
        except Exception as error:
            self.over = True
            warn(f"{self.tracker} failed; the rest of this run is not tracked", error)


class ForgivingLogger(WandbLogger):
    """Lightning's W&B logger; after an error it stops logging instead of ending the training."""

    def __init__(self, run: Any) -> None:
        super().__init__(experiment=run)
        self._attempt = Attempts("W&B")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._attempt(super().log_metrics, metrics, step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        self._attempt(super().log_hyperparams, params)

    def finalize(self, status: str) -> None:
        self._attempt(lambda: self.experiment.finish(exit_code=int(status != "success")))
        self._attempt.over = True


def logger(
    config: TrackingConfig, *, folder: Path, name: str, group: str
) -> ForgivingLogger | None:
    """A logger for Lightning's Trainer, or None if W&B is off or does not work.

    Args:
        folder: the experiment folder; W&B writes only to `wandb/` in it.
        name: of this run, such as "cnn".
        group: of the runs that belong together, such as the experiment's name.
    """
    with _confined(folder):
        run = _start(config, folder, name, group)
    return None if run is None else ForgivingLogger(run)


def log_experiment(
    config: TrackingConfig, *, folder: Path, group: str, figures: Mapping[str, Figure]
) -> None:
    """Log the results of an experiment as one run.

    These are `figures` under their names, and each model's test scores and confusion matrix.
    """
    with _confined(folder):
        run = _start(config, folder, "comparison", group)
        if run is None:
            return
        try:
            with run:
                run.log(_results(folder, figures))
        except Exception as error:
            warn("W&B could not log the experiment's results", error)


def mode(config: TrackingConfig) -> Mode:
    """How a run is tracked here: `auto` resolved, and offline instead of online without a key."""
    wanted = config.wandb
    if wanted == "auto":
        wanted = MODES.get(os.environ.get("WANDB_MODE", ""), "online")
    if wanted == "online" and not _has_key():
        if config.wandb == "online":
            log.warning("W&B: no API key is set, so this run is tracked offline; see `wandb login`")
        return "offline"
    return wanted


def _start(config: TrackingConfig, folder: Path, name: str, group: str) -> Any | None:
    """A W&B run, offline if online fails; None if tracking is off or both fail."""
    wanted = mode(config)
    if wanted == "off":
        return None
    try:
        import wandb

        settings = wandb.Settings(
            base_url=_base_url(),
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            silent=True,
            console="off",
            symlink=False,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        folder.mkdir(parents=True, exist_ok=True)
    except Exception as error:
        warn("W&B cannot be used here, so this run is not tracked", error)
        return None
    if settings.base_url in unreachable:
        wanted = "offline"
    for attempt in dict.fromkeys((wanted, "offline")):
        try:
            return wandb.init(
                project=config.project,
                name=name,
                group=group,
                dir=folder,
                mode=attempt,
                reinit="create_new",
                settings=settings,
            )
        except Exception as error:
            warn(f"W&B could not start a run that is {attempt}", error)
            unreachable.add(settings.base_url)
    return None


@contextlib.contextmanager
def _confined(folder: Path) -> Iterator[None]:
    """Keep W&B's staging and cache in the experiment folder, and its error reports off."""
    place = str((folder / "wandb").absolute())
    wanted = {
        "WANDB_DATA_DIR": place,
        "WANDB_CACHE_DIR": place,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        keys = netrc.netrc(os.environ.get("NETRC", Path.home() / ".netrc"))
        return keys.authenticators(urllib.request.Request(_base_url()).host) is not None
    except Exception:  # no file, an unreadable one, or no wandb
        return False


def _base_url() -> str:
    """The server's address: from the environment, else from W&B's own settings."""
    import wandb

    return os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url


def warn(what: str, error: Exception) -> None:
    """Log one line about an error, without the API key."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    key = os.environ.get("WANDB_API_KEY")
    log.warning("%s: %s", what, reason.replace(key, "…") if key else reason)


def _results(folder: Path, figures: Mapping[str, Figure]) -> dict[str, Any]:
    import wandb

    content: dict[str, Any] = {name: wandb.Image(figure) for name, figure in figures.items()}
    for model in model_folders(folder).values():
        scores, classes = model.evaluation, model.evaluation["class_names"]
        content[f"{model.name}/test/accuracy"] = scores["accuracy"]
        content[f"{model.name}/test/f1_macro"] = scores["f1_macro"]
        content[f"{model.name}/confusion_matrix"] = wandb.Table(
            columns=["true", "predicted", "images"],
            data=[
                [classes[i], classes[j], int(n)]
                for (i, j), n in np.ndenumerate(np.array(scores["confusion_matrix"]))
            ],
        )
    return content
