"""The commands: each reads its flags, calls its stage, and yields what is to be printed.

Stages, and with them torch, are imported where they are called: `--help` does without.
"""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from visavis import config, presets, run_folder
from visavis.cli import faults
from visavis.cli.arguments import (
    Compare,
    CrossModel,
    Data,
    Doctor,
    Evaluate,
    Explain,
    Fetch,
    Predict,
    Report,
    Run,
    Serve,
    TrainCNN,
    TrainViT,
)
from visavis.cli.parsing import parse, peek
from visavis.config import DataConfig, Experiment, ExplainConfig, Preset, TrainConfig
from visavis.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from visavis.data import Dataset

log = logging.getLogger(__name__)

Arguments = Sequence[str]
Source = Literal["cifar10", "shapes", "folder"]
T = TypeVar("T")


def run(arguments: Arguments) -> Iterator[str]:
    """`visavis run`."""

    def parsed(source: Source) -> Run:
        name = _preset(arguments)
        default = Run(preset=name, experiment=presets.preset(name, source))
        return parse(Run, arguments, prog="visavis run", default=default)

    command, dataset = _with_images(arguments, parsed, lambda given: given.experiment.data)
    out = command.out or Path("runs") / f"{command.preset}-{dataset.source}"
    from visavis.cli import tables
    from visavis.stages.run import run as run_stages

    path = run_stages(out, command.experiment, command.preset, dataset)
    yield tables.compared(out)
    yield str(path)
    yield f"next: {_program()} serve {out} --open    to try images, and look through the tests"


def train(name: Literal["cnn", "vit"], arguments: Arguments) -> Iterator[str]:
    """`visavis train cnn` and `visavis train vit`."""
    kind: type[TrainCNN | TrainViT] = TrainCNN if name == "cnn" else TrainViT
    shared = [f.name for f in dataclasses.fields(kind) if f.name in Experiment.__annotations__]

    def parsed(source: Source) -> Any:
        preset = _preset(arguments)
        settings = presets.preset(preset, source)
        chosen = {key: getattr(settings, key) for key in shared}
        default = kind(out=Path(), preset=preset, **chosen)
        prog = f"visavis train {name}"
        return parse(kind, arguments, prog=prog, default=default, required=["out"])

    command, dataset = _with_images(arguments, parsed, lambda given: given.data)
    experiment = dataclasses.replace(
        presets.preset(command.preset, dataset.source),
        **{key: getattr(command, key) for key in shared},
    )
    from visavis.cli import tables
    from visavis.stages.train import train as train_stage

    _tell(dataset)
    train_stage(command.out, experiment, name, dataset)
    yield tables.trained(command.out)
    yield f"next: visavis evaluate {command.out}"


def evaluate(arguments: Arguments) -> Iterator[str]:
    """`visavis evaluate`."""
    folder = parse(Evaluate, arguments, prog="visavis evaluate").folder
    default = Evaluate(folder=folder, data=_data_of(folder))
    command = parse(Evaluate, arguments, prog="visavis evaluate", default=default)
    from visavis import data
    from visavis.cli import tables
    from visavis.stages.evaluate import evaluate as evaluate_stage
    from visavis.training import hardware

    device = hardware.select_device(command.device)
    dataset = data.resolve(command.data)
    _tell(dataset)
    evaluate_stage(folder, dataset, device=device)
    yield tables.evaluated(folder)
    yield f"next: visavis explain {folder}"


def explain(arguments: Arguments) -> Iterator[str]:
    """`visavis explain`."""
    folder = parse(Explain, arguments, prog="visavis explain").folder
    default = Explain(folder=folder, data=_data_of(folder), explain=_explain_of(folder))
    command = parse(Explain, arguments, prog="visavis explain", default=default)
    from visavis import data
    from visavis.cli import tables
    from visavis.stages.explain import explain as explain_stage
    from visavis.training import hardware

    device = hardware.select_device(command.device)
    dataset = data.resolve(command.data)
    _tell(dataset)
    arithmetic = _stored(TrainConfig, folder / run_folder.CONFIG, "train")
    explain_stage(
        folder,
        dataset,
        command.explain,
        device=device,
        autocast=hardware.precision(arithmetic, device) == "bf16",
    )
    yield tables.explained(folder)
    yield f"next, when both models are explained: visavis cross-model {folder.parent}"


def cross_evaluate(arguments: Arguments) -> Iterator[str]:
    """`visavis cross-model`."""
    folder = parse(CrossModel, arguments, prog="visavis cross-model").experiment
    with _held(folder):
        cnn = folder / "cnn"
        default = CrossModel(experiment=folder, data=_data_of(cnn), explain=_explain_of(cnn))
        command = parse(CrossModel, arguments, prog="visavis cross-model", default=default)
        from visavis import data
        from visavis.cli import tables
        from visavis.stages.cross_model import cross_evaluate as cross_evaluate_stage
        from visavis.training import hardware

        device = hardware.select_device(command.device)
        dataset = data.resolve(command.data)
        _tell(dataset)
        arithmetic = _stored(TrainConfig, cnn / run_folder.CONFIG, "train")
        cross_evaluate_stage(
            folder,
            dataset,
            command.explain,
            device=device,
            autocast=hardware.precision(arithmetic, device) == "bf16",
        )
    yield tables.cross_evaluated(folder)
    yield f"next: visavis compare {folder}"


def compare(arguments: Arguments) -> Iterator[str]:
    """`visavis compare`."""
    folder = parse(Compare, arguments, prog="visavis compare").experiment
    from visavis.cli import tables
    from visavis.stages.compare import compare as compare_stage

    with _held(folder):
        compare_stage(folder)
    yield tables.compared(folder)
    yield f"next: visavis report {folder}"


def report(arguments: Arguments) -> Iterator[str]:
    """`visavis report`."""
    folder = parse(Report, arguments, prog="visavis report").experiment
    from visavis.report.page import report as report_stage

    with _held(folder):
        path = report_stage(folder)
    yield str(path)


def predict(arguments: Arguments) -> Iterator[str]:
    """`visavis predict`."""
    command = parse(Predict, arguments, prog="visavis predict")
    if not command.images:
        raise ConfigError("name at least one image: visavis predict EXPERIMENT IMAGE…")
    from visavis.cli import tables
    from visavis.stages.predict import predict as predict_stage

    answers = predict_stage(command.experiment, command.images, out=command.out)
    yield json.dumps(answers, indent=2) if command.json else tables.predicted(answers)
    if bad := [answer["error"] for answer in answers if "error" in answer]:
        raise DataError("; ".join(bad))


def serve(arguments: Arguments) -> Iterator[str]:
    """`visavis serve`."""
    command = parse(Serve, arguments, prog="visavis serve")
    if not 1 <= command.port <= 65_535:
        raise ConfigError(f"--port {command.port}: use 1 to 65535")
    from visavis.serve import Site

    site = Site(command.experiment, host=command.host, port=command.port)
    yield site.url
    try:
        site.run(open_browser=command.open)
    except faults.Stopped as stopped:
        log.info("stopped")
        sys.stderr.flush()
        os._exit(stopped.exit_code)  # a thread may still be reading images; none writes


def doctor(arguments: Arguments) -> Iterator[str]:
    """`visavis doctor`."""
    command = parse(Doctor, arguments, prog="visavis doctor")
    from visavis.cli import tables
    from visavis.cli.doctor import doctor as examine

    checks = [dataclasses.asdict(check) for check in examine()]
    yield json.dumps(checks, indent=2) if command.json else tables.checked(checks)
    if any(check["status"] == "fail" for check in checks):
        raise SystemExit(faults.ENVIRONMENT)


def data_info(arguments: Arguments) -> Iterator[str]:
    """`visavis data info`."""
    command = parse(Data, arguments, prog="visavis data info")
    from visavis import data
    from visavis.cli import tables

    yield tables.images(data.info(data.resolve(command.data)))


def data_fetch(arguments: Arguments) -> Iterator[str]:
    """`visavis data fetch`."""
    parse(Fetch, arguments, prog="visavis data fetch")
    from visavis.data import download

    yield str(download.fetch())


def data_verify(arguments: Arguments) -> Iterator[str]:
    """`visavis data verify`."""
    command = parse(Data, arguments, prog="visavis data verify")
    from visavis import data
    from visavis.data.verify import verify

    dataset = data.resolve(command.data)
    _tell(dataset)
    yield f"{dataset.description}: read without fault"
    yield "\n".join(verify(dataset)) or "nothing repeated, plain, or unevenly distributed"


COMMANDS: dict[str, Callable[[Arguments], Iterator[str]]] = {
    "run": run,
    "data info": data_info,
    "data fetch": data_fetch,
    "data verify": data_verify,
    "train cnn": lambda arguments: train("cnn", arguments),
    "train vit": lambda arguments: train("vit", arguments),
    "evaluate": evaluate,
    "explain": explain,
    "cross-model": cross_evaluate,
    "compare": compare,
    "report": report,
    "predict": predict,
    "serve": serve,
    "doctor": doctor,
}


def _program() -> str:
    """What the user has to type for `visavis`: it need not be on the path."""
    if shutil.which("visavis"):
        return "visavis"
    return os.path.relpath(Path(sys.executable).parent / "visavis")


def _preset(arguments: Arguments) -> Preset:
    """The preset asked for; a wrong name is told later, when everything is parsed."""
    name = peek(arguments, "--preset")
    return next((known for known in get_args(Preset) if known == name), "standard")


def _with_images(
    arguments: Arguments, parsed: Callable[[Source], T], data_of: Callable[[T], DataConfig]
) -> tuple[T, "Dataset"]:
    """The settings and the images. A preset depends on the images, known once they are there.

    So the command line is read for CIFAR-10 first unless it names others, and again if it comes to
    shapes.
    """
    named = peek(arguments, "--data.source")
    wanted: Source = next((known for known in get_args(Source) if known == named), "cifar10")
    command = parsed(wanted)
    from visavis import data

    dataset = data.resolve(data_of(command))
    return command if dataset.source == wanted else parsed(dataset.source), dataset


def _tell(dataset: "Dataset") -> None:
    if dataset.notice:
        log.info("NOTE: %s", dataset.notice)


def _data_of(folder: Path) -> DataConfig:
    """Where the images of a model's run folder came from."""
    if (folder / "cnn").is_dir() or (folder / "vit").is_dir():
        raise ConfigError(f"{folder} holds an experiment; name a model in it: {folder}/cnn")
    if not folder.is_dir():
        raise CheckpointError(f"there is no run folder {folder}")
    written = _stored(DataConfig, folder / run_folder.CONFIG, "data")
    if written.source != "auto":
        return written
    return dataclasses.replace(
        written, source=run_folder.read_json(folder / run_folder.DATA)["source"]
    )


def _explain_of(folder: Path) -> ExplainConfig:
    """What the experiment around a run folder says, or the standard."""
    path = folder.absolute().parent / run_folder.EXPERIMENT
    if not path.exists():
        return ExplainConfig()
    return _stored(Experiment, path, "experiment").explain


def _stored(cls: type[T], path: Path, key: str) -> T:
    """The settings that a file of a run folder holds under `key`."""
    try:
        return config.from_json(cls, run_folder.read_json(path).get(key))
    except ConfigError as error:
        raise CheckpointError(f"{path} does not hold what visavis wrote there: {error}") from error


def _held(experiment: Path) -> contextlib.AbstractContextManager[None]:
    """The lock of an experiment folder that is there."""
    if not experiment.is_dir():
        raise CheckpointError(f"there is no experiment folder {experiment}")
    return run_folder.lock(experiment)
