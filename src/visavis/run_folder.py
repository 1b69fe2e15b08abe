"""The run folder: the names of its files, reading and writing them, and a reader for one model.

Nothing here imports torch: a report is made from files alone.
"""

import dataclasses
import hashlib
import io
import json
import shlex
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from visavis import config
from visavis.errors import CheckpointError, ConfigError
from visavis.files import bytes_sha256, read_bytes, require_file, write_bytes

T = TypeVar("T")

SCHEMA = 15
MAX_JSON_BYTES = 200_000_000
MAX_ARRAY_BYTES = 8_000_000_000
"""Of all arrays of a file together, before compression."""
CHANGED = "it was changed since it was written"

# In an experiment folder.
EXPERIMENT = "experiment.json"
CROSS_MODEL = "cross_model.json"
COMPARISON = "comparison.json"
REPORT = "report.html"

SEED = "seed-{}"
"""Folder of both models trained with another seed, in an experiment folder; in a study, run folder
of one training of a variant."""

STUDY = "study.json"
"""The plan of a study, in its folder."""
RESULTS = "results.json"
"""What its trainings show together."""
STUDY_REPORT = "study.html"

ROLES = ("first", "second")
"""The two models of an experiment; files that are about both have these keys."""

# In a model's run folder, in the order in which they are written.
CONFIG = "config.json"
PROVENANCE = "provenance.json"
DATA = "data.json"
SPLIT = "split.npz"
HISTORY = "history.jsonl"
SNAPSHOTS = "snapshots.npz"
RESUME = "resume.ckpt"
PREVIOUS = "previous.ckpt"
"""The resume file of one epoch before."""
BEST = "best.ckpt"
FAILED = "failed.json"
"""Why the last attempt at a training ended without a model; gone once it is begun again."""
WEIGHTS = "weights.safetensors"
TRAINING = "training.json"
PREDICTIONS = "predictions.npz"
EVALUATION = "evaluation.json"
HEATMAPS = "heatmaps.npz"
REMOVAL = "removal.npz"
EXPLANATIONS = "explanations.json"
JOB_LOG = "job.log"
"""What a training that a study started has printed."""

REMEDIES = {
    **dict.fromkeys((PREDICTIONS, EVALUATION), "visavis evaluate"),
    **dict.fromkeys((HEATMAPS, REMOVAL, EXPLANATIONS), "visavis explain"),
    CROSS_MODEL: "visavis cross-model",
    COMPARISON: "visavis compare",
    RESULTS: "visavis report",
}
"""The command that writes a file again, in its folder."""


def remedy(path: Path) -> str:
    """What to do about a file that is damaged, for an error message."""
    if path.name in REMEDIES:
        return f"write it again: {REMEDIES[path.name]} {shlex.quote(str(path.parent))}"
    if path.name in (EXPERIMENT, STUDY):
        return "restore it, or use another --out"
    return "restore it, or train again into another folder"


class Contents(dict[str, Any]):
    """What a file holds; asking for a key that it lacks names the file."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        super().__init__(values)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise CheckpointError(f"{self.path} lacks {key}; {remedy(self.path)}")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write `values` after the schema version and their checksum.

    Raises:
        ValueError: NaN or infinity is among them.
    """
    plain = json.loads(json.dumps(values, allow_nan=False))
    whole = {"schema": SCHEMA, "sha256": _checksum_json(plain), **plain}
    write_bytes(path, (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote, without the schema version and the checksum.

    Raises:
        CheckpointError: missing, damaged, changed since, or of another schema version.
    """
    try:
        values = json.loads(read_bytes(path, MAX_JSON_BYTES))
        if not isinstance(values, dict) or "schema" not in values:
            raise ValueError("it is no object with a schema")
        schema, sha256 = values.pop("schema"), values.pop("sha256", None)
        if schema == SCHEMA and sha256 != _checksum_json(values):
            raise ValueError(CHANGED)
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a file that visavis wrote: {error}; {remedy(path)}"
        ) from error
    if schema != SCHEMA:
        raise CheckpointError(
            f"{path} has schema {schema!r}; this version of visavis reads {SCHEMA}: read it with "
            "the version that wrote it, or run the stage again in another folder"
        )
    return values


def _checksum_json(values: dict[str, Any]) -> str:
    """SHA-256 of what JSON says, whatever its layout and the order of its keys."""
    return bytes_sha256(json.dumps(values, sort_keys=True).encode())


def settings(cls: type[T], values: Any, path: Path) -> T:
    """Settings that a JSON file holds.

    Raises:
        CheckpointError: they are not such settings.
    """
    try:
        return config.from_json(cls, values)
    except ConfigError as error:
        raise CheckpointError(f"{path} does not hold what visavis wrote there: {error}") from error


def _missing(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is missing: the stage that writes it has not finished")


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write a compressed .npz, with a checksum of its arrays."""
    buffer = io.BytesIO()
    sha256 = np.array(_checksum_arrays(arrays))
    np.savez_compressed(buffer, sha256=sha256, **arrays)  # type: ignore[arg-type] # its allow_pickle is a bool
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote, without the checksum; pickled objects are not loaded.

    Raises:
        CheckpointError: missing, damaged or changed since; and later, when an array is used that
            the file lacks.
    """
    try:
        require_file(path)
        with zipfile.ZipFile(path) as archive:
            if (size := sum(entry.file_size for entry in archive.infolist())) > MAX_ARRAY_BYTES:
                raise ValueError(f"it holds {size / 1e9:,.0f} GB")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        if str(arrays.pop("sha256", None)) != _checksum_arrays(arrays):
            raise ValueError(CHANGED)
    except FileNotFoundError:
        raise _missing(path) from None
    except Exception as error:  # zipfile, zlib and numpy raise exceptions of their own
        raise CheckpointError(f"{path} is damaged: {error}; {remedy(path)}") from error
    return Contents(arrays, path)


def _checksum_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the names, types, shapes and values of arrays, in any order."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The epochs of a training, first to last; empty if it has not started.

    Raises:
        CheckpointError: it is damaged; and later, when a value is used that an epoch lacks.
    """
    path = folder / HISTORY
    try:
        lines = read_bytes(path, MAX_JSON_BYTES).decode().splitlines()
        rows = [json.loads(line) for line in lines]
        for row in rows:
            if not isinstance(row, dict):
                raise ValueError("an epoch is no object")
            for key, value in row.items():
                if type(value) not in (int, float) or not abs(value) < 1e300:
                    raise ValueError(f"{key} is no number")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; {remedy(path)}") from error
    return [Contents(row, path) for row in rows]


def write_history(folder: Path, epochs: list[dict[str, Any]]) -> None:
    """Write all epochs, one JSON object per line."""
    lines = [json.dumps(epoch, allow_nan=False) + "\n" for epoch in epochs]
    write_bytes(folder / HISTORY, "".join(lines).encode())


def _json(name: str) -> cached_property[dict[str, Any]]:
    return cached_property(lambda folder: read_json(folder.path / name))


def _arrays(name: str) -> cached_property[dict[str, np.ndarray]]:
    return cached_property(lambda folder: read_arrays(folder.path / name))


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """The run folder of one model; each file is read when it is first used, and kept.

    Every property raises a CheckpointError if its file is missing, damaged or of another version.
    """

    path: Path

    config = _json(CONFIG)
    provenance = _json(PROVENANCE)
    """Versions, machine and precision of the training."""
    data = _json(DATA)
    """The data set and its split."""
    split = _arrays(SPLIT)
    """Indices of the training and validation images, and an example of each class."""
    training = _json(TRAINING)
    """The outcome of the training."""
    evaluation = _json(EVALUATION)
    """The scores on the test images."""
    heatmaps = _arrays(HEATMAPS)
    """The explained images and their attribution maps."""
    removal = _arrays(REMOVAL)
    """Deletion and insertion of each explained image."""
    explanations = _json(EXPLANATIONS)
    """The scores of the attribution methods."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def trained(self) -> bool:
        return (self.path / TRAINING).exists()

    @property
    def begun(self) -> bool:
        """Whether an epoch of its training is finished; before, its settings may still change."""
        return any((self.path / file).exists() for file in (HISTORY, RESUME, TRAINING))

    @property
    def tested(self) -> bool:
        return (self.path / EVALUATION).exists()

    @property
    def explained(self) -> bool:
        return (self.path / EXPLANATIONS).exists()

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        return read_history(self.path)

    @cached_property
    def snapshots(self) -> dict[str, np.ndarray] | None:
        """Attribution maps over training; None if there are none."""
        path = self.path / SNAPSHOTS
        return read_arrays(path) if path.exists() else None

    @property
    def default_method(self) -> dict[str, Any]:
        """The scores of the default attribution method."""
        return self.explanations["methods"][self.explanations["default_method"]]

    @property
    def gallery(self) -> dict[str, Any]:
        """Rows of `heatmaps` that the report shows."""
        return self.explanations["gallery"]

    predictions = _arrays(PREDICTIONS)
    """Logits and labels of the test and validation images, predictions without each cue."""

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """The true class of each test image."""
        return self.predictions["labels"]

    @cached_property
    def predicted(self) -> Int[np.ndarray, " n"]:
        """The predicted class of each test image."""
        return self.predictions["logits"].argmax(axis=1)

    @cached_property
    def confidence(self) -> Float[np.ndarray, " n"]:
        """The probability of the predicted class of each test image."""
        logits = self.predictions["logits"].astype(np.float64)
        return 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)

    @property
    def correct(self) -> Bool[np.ndarray, " n"]:
        """Whether the prediction for each test image is correct."""
        return self.predicted == self.labels

    def srg(self, method: str) -> Float[np.ndarray, " n"]:
        """SRG of a method on each image of removal.npz, the mean of both fills."""
        drops = self.removal[f"insertion_{method}"] - self.removal[f"deletion_{method}"]
        return drops.mean(axis=1)

    @property
    def label(self) -> str:
        """What the model is called in prose and charts."""
        name = self.config["model"]["name"]
        return {"cnn": "CNN", "vit": "ViT"}.get(name, name)


def folder_name(model: str) -> str:
    """The name of a model's run folder in an experiment folder; "timm/resnet18" has a slash."""
    return model.replace("/", "-")


def model_folders(experiment: Path) -> dict[str, ModelFolder]:
    """The two models of an experiment by role, as experiment.json names them.

    Without that file, the experiment's two run folders in alphabetical order.

    Raises:
        CheckpointError: there are none, only one, or more than two; or the folder is a study.
    """
    names = _names(experiment)
    if len(names) != len(ROLES):
        raise CheckpointError(
            f"{experiment} holds {len(names)} run folders of models"
            + (f" ({', '.join(names)})" if names else "")
            + "; an experiment has two, each trained with --out in a folder of its own there"
        )
    return dict(zip(ROLES, (ModelFolder(experiment / name) for name in names), strict=True))


def trained_models(experiment: Path) -> dict[str, ModelFolder]:
    """Those of an experiment's models that are trained, by role; there may be only one.

    Raises:
        CheckpointError: there are more than two, or the folder is a study.
    """
    names = _names(experiment)
    if len(names) > 1:
        found = model_folders(experiment)
    else:
        found = dict(zip(ROLES, (ModelFolder(experiment / name) for name in names), strict=False))
    return {role: folder for role, folder in found.items() if folder.trained}


def is_study(folder: Path) -> bool:
    """Whether a folder holds a study and no experiment."""
    return (folder / STUDY).exists() and not (folder / EXPERIMENT).exists()


def _names(experiment: Path) -> list[str]:
    path = experiment / EXPERIMENT
    if is_study(experiment):
        raise CheckpointError(
            f"{experiment} is a study, whose page is {STUDY_REPORT}; name an experiment, the "
            "folder of two models that `visavis run` makes"
        )
    if (experiment / CONFIG).exists() and not path.exists():
        raise CheckpointError(
            f"{experiment} is the run folder of one model; name the experiment folder, which holds "
            f"it: {experiment.absolute().parent}"
        )
    if not path.exists():
        return sorted(path.parent.name for path in experiment.glob(f"*/{CONFIG}"))
    settings = read_json(path)["experiment"]
    names = [settings[role] for role in ROLES]
    for name in names:
        config = experiment / folder_name(name) / CONFIG
        if config.exists() and (found := read_json(config)["model"]["name"]) != name:
            raise CheckpointError(
                f"{config} describes the model {found}, and not {name}; move the folders of the "
                "models back to where they were"
            )
    return [folder_name(name) for name in names]
