"""Weights & Biases: the only module that imports wandb.

A run never ends, waits for long, or asks a question because of the tracker: without a key, a
network or an answer from the server it is kept offline, and after a fault it goes on without.

Reads `comparison.json`, and of each model `evaluation.json` and `heatmaps.npz`.
Writes `wandb/` in the experiment folder, which `wandb sync` uploads later.
"""

import contextlib
import io
import logging
import netrc
import os
import ssl
import urllib.error
import urllib.request
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure
from PIL import Image

from visavis import plots, runs
from visavis.config import MODEL_NAMES, TrackingConfig

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "off"]

ANSWER_SECONDS = 5
"""A server that does not answer within this is taken for unreachable."""
INIT_SECONDS = 10
FINISH_SECONDS = 10

TABLE_ROWS = 48
MAPS = {"cnn": ("grad_cam",), "vit": ("gradient_attention", "attention")}
"""The heatmaps shown for each model in the table of test pictures."""


class ForgivingLogger(WandbLogger):
    """Lightning's W&B logger, silent after its first fault instead of ending the training."""

    def __init__(self, run: Any) -> None:
        super().__init__(experiment=run)
        self._over = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers at a training step."""
        self._attempt(lambda: super(ForgivingLogger, self).log_metrics(metrics, step))

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log the settings of the run."""
        self._attempt(lambda: super(ForgivingLogger, self).log_hyperparams(params))

    def finalize(self, status: str) -> None:
        """Close the run; Lightning calls this when a training ends, well or not."""
        self._attempt(lambda: self.experiment.finish(exit_code=int(status != "success")))
        self._over = True

    def _attempt(self, action: Callable[[], object]) -> None:
        if self._over:
            return
        try:
            action()
        except Exception as error:
            self._over = True
            _warn("W&B failed and is left out of the rest of this run", error)


def mode(config: TrackingConfig) -> Mode:
    """What `auto` comes to on this machine; `online` without a key comes to `offline`."""
    wanted = config.wandb
    if wanted == "auto":
        wanted = {"disabled": "off", "offline": "offline", "dryrun": "offline"}.get(
            os.environ.get("WANDB_MODE", ""), "online"
        )
    if wanted == "online" and not _has_key():
        if config.wandb == "online":
            log.warning("W&B: no API key is set, so this run is kept offline; see `wandb login`")
        return "offline"
    return wanted


def logger(
    config: TrackingConfig, *, folder: Path, name: str, group: str
) -> ForgivingLogger | None:
    """A logger for Lightning's Trainer, or None where W&B is off or does not work.

    Args:
        folder: the experiment folder; everything W&B writes goes to `wandb/` in it.
        name: of this run, such as "cnn".
        group: what belongs together, such as the experiment's name.
    """
    with _confined(folder):
        run = _start(config, folder, name, group)
    return None if run is None else ForgivingLogger(run)


def log_experiment(
    config: TrackingConfig, *, folder: Path, group: str, figures: Mapping[str, Figure]
) -> None:
    """Log the results of a whole experiment as one run.

    These are `figures` under their names, each model's test scores and confusion matrix, and a
    table of test pictures with both models' predictions and heatmaps.
    """
    with _confined(folder):
        run = _start(config, folder, "comparison", group)
        if run is None:
            return
        try:
            run.log(_experiment(folder, figures))
        except Exception as error:
            _warn("W&B did not take the experiment's figures and tables", error)
        try:
            run.finish()
        except Exception as error:
            _warn("W&B did not close its run", error)


def _experiment(folder: Path, figures: Mapping[str, Figure]) -> dict[str, Any]:
    import wandb

    content: dict[str, Any] = {name: wandb.Image(_picture(f)) for name, f in figures.items()}
    for name in MODEL_NAMES:
        evaluation = runs.read_json(folder / name / runs.EVALUATION)
        classes, matrix = evaluation["class_names"], np.array(evaluation["confusion_matrix"])
        content[f"{name}/test/accuracy"] = evaluation["accuracy"]
        content[f"{name}/test/f1_macro"] = evaluation["f1_macro"]
        content[f"{name}/confusion_matrix"] = wandb.Table(
            columns=["true", "predicted", "pictures"],
            data=[[classes[i], classes[j], int(n)] for (i, j), n in np.ndenumerate(matrix)],
        )
        content[f"{name}/confusion_matrix_figure"] = wandb.Image(
            _picture(plots.confusion(matrix, classes, name))
        )
    content["test_pictures"] = _picture_table(folder, classes)
    return content


def _picture_table(folder: Path, class_names: list[str]) -> Any:
    """Test pictures that both models explained, with what each said and looked at."""
    import wandb

    found = {name: runs.read_arrays(folder / name / runs.HEATMAPS) for name in MODEL_NAMES}
    _, *rows = np.intersect1d(*(found[n]["indices"] for n in MODEL_NAMES), return_indices=True)
    columns = ["index", "picture", "true"]
    for name in MODEL_NAMES:
        columns += [f"{name} says", f"{name} confidence", *(f"{name} {m}" for m in MAPS[name])]
    table = wandb.Table(columns=columns)
    for pair in list(zip(*rows, strict=True))[:TABLE_ROWS]:
        first, row = found[MODEL_NAMES[0]], pair[0]
        cells: list[Any] = [
            int(first["indices"][row]),
            wandb.Image(first["images"][row]),
            class_names[first["labels"][row]],
        ]
        for name, row in zip(MODEL_NAMES, pair, strict=True):
            maps = found[name]
            cells += [class_names[maps["predicted"][row]], float(maps["confidence"][row])]
            cells += [
                wandb.Image(plots.overlay(maps["images"][row], maps[f"map_{m}"][row], scale=4))
                for m in MAPS[name]
            ]
        table.add_data(*cells)
    return table


def _start(config: TrackingConfig, folder: Path, name: str, group: str) -> Any | None:
    """A W&B run, or None; the first fault leads to offline, the second to none."""
    wanted = mode(config)
    if wanted == "off":
        return None
    try:
        import wandb

        if wanted == "online" and not _answers(_base_url()):
            log.warning("W&B: its server does not answer, so this run is kept offline")
            wanted = "offline"
        settings = wandb.Settings(
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            silent=True,
            console="off",
            symlink=False,
            save_code=False,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
    except Exception as error:
        _warn("W&B cannot be used here; this run goes without", error)
        return None
    for attempt in dict.fromkeys((wanted, "offline")):
        try:
            folder.mkdir(parents=True, exist_ok=True)
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
            _warn(f"W&B could not start {attempt}", error)
    return None


@contextlib.contextmanager
def _confined(folder: Path) -> Iterator[None]:
    """Keep what wandb stages and caches in the experiment folder, and its own telemetry off."""
    place = str((folder / "wandb").absolute())
    ours = {
        "WANDB_DATA_DIR": place,
        "WANDB_CACHE_DIR": place,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update({name: value for name, value in ours.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    paths = [Path(os.environ["NETRC"])] if "NETRC" in os.environ else []
    with contextlib.suppress(RuntimeError):  # no home folder
        paths += [Path.home() / ".netrc", Path.home() / "_netrc"]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return False
    try:
        host = urllib.request.Request(_base_url()).host
        return netrc.netrc(path).authenticators(host) is not None
    except Exception:  # an unreadable file or a missing wandb: there is no key to be had
        return False


def _base_url() -> str:
    import wandb

    return os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url


def _answers(url: str) -> bool:
    """Whether the server at `url` says anything at all, be it an error."""
    try:
        urllib.request.urlopen(url, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError) as error:
        return isinstance(getattr(error, "reason", None), ssl.SSLError)
    return True


def _picture(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    return Image.open(buffer)


def _warn(what: str, error: Exception) -> None:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    key = os.environ.get("WANDB_API_KEY")
    log.warning("%s: %s", what, reason.replace(key, "…") if key else reason)
