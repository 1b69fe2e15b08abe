"""The commands: each calls its stage and yields the text to print.

Stages, and with them torch, are imported where they are called: `--help` does without.
"""

import contextlib
import dataclasses
import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from visavis import data, presets, registry, run_folder
from visavis.cli import arguments as flags
from visavis.cli import local_engine, ray_cluster, ray_engine, tables
from visavis.cli.doctor import doctor as examine
from visavis.cli.exit_codes import Stopped, message_and_exit_code
from visavis.cli.study_flags import flags_of, variants
from visavis.config import DataConfig, Experiment, ExplainConfig, TrainConfig
from visavis.data import download
from visavis.data.verify import verify
from visavis.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    EnvironmentFault,
    ScoreError,
    StudyError,
)
from visavis.files import lock
from visavis.training import memory, ranks

log = logging.getLogger(__name__)

T = TypeVar("T")
Again = Callable[..., Any]
"""Parses the command line again: takes the defaults, an Experiment, which are known only after the
first time, and flags that are added to the command line."""


def run(command: flags.Run, again: Again) -> Iterator[str]:
    """`visavis run`."""
    _check_out(command.out or Path("runs"))
    _require_one_device(command.settings.train)
    _require_apart(command.out or Path("runs"), command.settings.data)
    dataset = data.resolve(command.settings.data)
    command = again(presets.preset(command.preset, dataset.source, dataset.side))
    models = [command.settings.first, command.settings.second]
    for name in models:
        registry.check_name(name)
    folders = [run_folder.folder_name(name) for name in models]
    default: list[str] = [command.preset, dataset.source]
    if models != list(registry.OWN):
        default += folders
    out = command.out or Path("runs") / "-".join(default)
    for place in (out, *(out / name for name in folders)):
        _require_apart(place, command.settings.data)
    from visavis.stages.run import run as run_stages

    memory.keep_freed_memory()
    path = run_stages(out, command.settings, command.preset, dataset)
    yield tables.compared(out)
    yield str(path)
    yield f"next: {_command('serve', out)} --open    to try images and explore the test images"


def train(
    command: flags.TrainCNN | flags.TrainViT | flags.TrainOther, again: Again
) -> Iterator[str]:
    """`visavis train NAME`."""
    _check_out(command.out)
    _require_apart(command.out, command.data)
    dataset = data.resolve(command.data)
    experiment = presets.preset(command.preset, dataset.source, dataset.side)
    command = again(experiment)
    out = command.out
    name = command.name if isinstance(command, flags.TrainOther) else flags.NAMES[type(command)]
    from visavis.stages.train import train as train_stage

    memory.keep_freed_memory()
    train_stage(out, _with_flags(experiment, command), name, dataset)
    if not ranks.started().first:
        return
    yield tables.trained(out)
    yield f"next: {_command('evaluate', out)}"


def study(command: flags.Study, again: Again) -> Iterator[str]:
    """`visavis study`."""
    _check_out(command.out)
    _require_one_device(command.train)
    _require_apart(command.out, command.data)
    if command.jobs < 0:
        raise ConfigError(f"--jobs {command.jobs}: use 1 or more, or 0 for as many as fit")
    if command.address is not None and command.engine != "ray":
        raise ConfigError(f"--address {command.address} needs --engine ray; add that flag")
    named = variants(command.names, [each for given in command.vary for each in given])
    if command.engine == "ray" and not command.print:
        ray_cluster.prepare(command.address or "")
    dataset = data.resolve(command.data)  # from here on it is in the cache
    preset = presets.preset(command.preset, dataset.source, dataset.side)
    from visavis.stages.study import Variant, plan

    planned = {}
    for name, model, varied in named:
        settings = again(preset, *flags_of(varied))
        planned[name] = Variant(model, varied, _with_flags(preset, settings))
    with lock(command.out):
        folders = plan(command.out, planned, dataset)
        missing = [folder for folder in folders if not run_folder.ModelFolder(folder).explained]
        known = [word for file in registry.files for word in ("--models", str(file))]
        jobs = {folder: ["study-job", str(folder), *known] for folder in missing}
        if command.print:
            yield from (shlex.join([_program(), *words]) for words in jobs.values())
            return
        failed = _run_jobs(command, jobs, len(folders))
        yield from _study_results(command.out, folders, failed)


def study_job(command: flags.StudyJob, again: Again) -> Iterator[str]:
    """`visavis study-job`."""
    local_engine.stop_with_parent()
    from visavis.stages.study import complete
    from visavis.stages.study import planned as planned_in

    model, experiment = planned_in(command.folder)
    memory.keep_freed_memory()
    complete(command.folder, model, experiment, data.resolve(experiment.data))
    yield tables.trained(command.folder)
    yield tables.evaluated(command.folder)
    yield tables.explained(command.folder)


def evaluate(command: flags.Evaluate, again: Again) -> Iterator[str]:
    """`visavis evaluate`."""
    command = again(Experiment(data=_stored_data(command.folder)))
    from visavis.stages.evaluate import evaluate as evaluate_stage
    from visavis.training import hardware

    device = hardware.select_device(command.device)
    evaluate_stage(command.folder, data.resolve(command.data), device=device)
    yield tables.evaluated(command.folder)
    yield f"next: {_command('explain', command.folder)}"


def explain(command: flags.Explain, again: Again) -> Iterator[str]:
    """`visavis explain`."""
    folder = command.folder
    from visavis.stages.explain import explain as explain_stage

    memory.keep_freed_memory()
    if command.model is not None or command.weights is not None:
        _adopt(command)
        yield tables.evaluated(folder)
    command = again(Experiment(data=_stored_data(folder), explain=_stored_explain(folder)))
    explain_stage(folder, **_attribution_arguments(command, folder))
    yield tables.explained(folder)
    yield f"next, when both models are explained: {_command('cross-model', folder.parent)}"


def validate_scores(command: flags.ValidateScores, again: Again) -> Iterator[str]:
    """`visavis validate-scores`."""
    from visavis.stages.explain import validate_scores as validate_stage

    folder = command.folder
    memory.keep_freed_memory()
    dataset = data.resolve(_stored_data(folder))
    found = validate_stage(folder, dataset, **_computing(command, folder))
    yield tables.validated(found)
    if not found["passed"]:
        raise ScoreError(f"SRG cannot be trusted on this model: {found['failed_because'][0]}")


def cross_evaluate(command: flags.CrossModel, again: Again) -> Iterator[str]:
    """`visavis cross-model`."""
    folder = command.experiment
    with _locked(folder):
        first = run_folder.model_folders(folder)["first"].path
        command = again(Experiment(data=_stored_data(first), explain=_stored_explain(first)))
        from visavis.stages.cross_model import cross_evaluate as cross_evaluate_stage

        memory.keep_freed_memory()
        cross_evaluate_stage(folder, **_attribution_arguments(command, first))
    yield tables.cross_evaluated(folder)
    yield f"next: {_command('compare', folder)}"


def compare(command: flags.Compare, again: Again) -> Iterator[str]:
    """`visavis compare`."""
    from visavis.stages.compare import compare as compare_stage

    with _locked(command.experiment):
        compare_stage(command.experiment)
    yield tables.compared(command.experiment)
    yield f"next: {_command('report', command.experiment)}"


def report(command: flags.Report, again: Again) -> Iterator[str]:
    """`visavis report`."""
    from visavis.report.page import report as write_page

    # A study without its lock, which it holds while it trains: one may look in on it.
    study = _summarise_study(command.experiment)
    with contextlib.nullcontext() if study else _locked(command.experiment):
        path = write_page(command.experiment)
    yield str(path)


def export(command: flags.Export, again: Again) -> Iterator[str]:
    """`visavis export`."""
    from visavis.report.export import export as write_files
    from visavis.report.export import require_apart
    from visavis.report.export.recorded import bundle

    require_apart(command.to, command.experiment)
    _summarise_study(command.experiment)
    yield str(write_files(bundle(command.experiment), command.to))


def cite(command: flags.Cite, again: Again) -> Iterator[str]:
    """`visavis cite`."""
    from visavis.report.citations import bibliography, works

    _summarise_study(command.experiment)
    yield bibliography(works(command.experiment)).rstrip()


def predict(command: flags.Predict, again: Again) -> Iterator[str]:
    """`visavis predict`."""
    if not command.images:
        raise ConfigError("name at least one image: visavis predict EXPERIMENT IMAGE…")
    from visavis.stages.predict import predict as predict_stage

    predictions = predict_stage(command.experiment, command.images, out=command.out)
    yield json.dumps(predictions, indent=2) if command.json else tables.predicted(predictions)
    if errors := [each["error"] for each in predictions if "error" in each]:
        raise DataError("; ".join(errors))


def serve(command: flags.Serve, again: Again) -> Iterator[str]:
    """`visavis serve`."""
    if not 1 <= command.port <= 65_535:
        raise ConfigError(f"--port {command.port}: use 1 to 65535")
    from visavis.serve import Site

    site = Site(command.experiment, host=command.host, port=command.port)
    yield site.url
    try:
        site.run(open_browser=command.open)
    except Stopped as stopped:
        log.info("stopped")
        sys.stderr.flush()
        os._exit(stopped.exit_code)  # a thread may still be reading images; none writes


def doctor(command: flags.Doctor, again: Again) -> Iterator[str]:
    """`visavis doctor`."""
    checks = [{"name": name, **finding._asdict()} for name, finding in examine().items()]
    yield json.dumps(checks, indent=2) if command.json else tables.checked(checks)
    if any(check["status"] == "fail" for check in checks):
        raise SystemExit(EnvironmentFault.exit_code)


def data_info(command: flags.Info, again: Again) -> Iterator[str]:
    """`visavis data info`."""
    yield tables.images(data.info(data.resolve(command.data)))


def data_fetch(command: flags.Fetch, again: Again) -> Iterator[str]:
    """`visavis data fetch`."""
    yield str(download.fetch(command.source))


def data_verify(command: flags.Verify, again: Again) -> Iterator[str]:
    """`visavis data verify`."""
    dataset = data.resolve(command.data)
    yield f"{dataset.description}: all files are readable"
    yield "\n".join(verify(dataset)) or "no duplicate, blank or unevenly distributed images"


COMMANDS: dict[type, Callable[[Any, Again], Iterator[str]]] = {
    flags.Run: run,
    flags.Info: data_info,
    flags.Fetch: data_fetch,
    flags.Verify: data_verify,
    flags.TrainCNN: train,
    flags.TrainViT: train,
    flags.TrainOther: train,
    flags.Study: study,
    flags.StudyJob: study_job,
    flags.Evaluate: evaluate,
    flags.Explain: explain,
    flags.ValidateScores: validate_scores,
    flags.CrossModel: cross_evaluate,
    flags.Compare: compare,
    flags.Report: report,
    flags.Export: export,
    flags.Cite: cite,
    flags.Predict: predict,
    flags.Serve: serve,
    flags.Doctor: doctor,
}


def _run_jobs(
    command: flags.Study, jobs: Mapping[Path, Sequence[str]], trainings: int
) -> dict[Path, str]:
    """Run the commands of a study on its engine; why each of those that failed did."""
    python = {folder: ["-m", "visavis", *words] for folder, words in jobs.items()}
    device = command.train.device
    if command.engine == "ray":
        return ray_engine.run(
            python, command.address or "", trainings=trainings, device=device, jobs=command.jobs
        )
    return local_engine.run(
        {folder: [sys.executable, *words] for folder, words in python.items()},
        local_engine.environments(trainings, device, command.jobs),
    )


def _study_results(out: Path, folders: Sequence[Path], failed: Mapping[Path, str]) -> Iterator[str]:
    """The table and the page of a study, after the reasons of the trainings that failed.

    Raises:
        StudyError: some failed. This takes precedence over an error of the table or the page.
    """
    for folder, reason in failed.items():
        log.error("%s failed: %s; see %s", folder, reason, folder / run_folder.JOB_LOG)
    problem = None
    try:
        yield tables.studied(out)
        if any(run_folder.ModelFolder(folder).explained for folder in folders):
            from visavis.report.page import report as write_page

            _summarise_study(out)
            yield str(write_page(out))
    except Exception as error:
        if not failed:
            raise
        problem = error
        log.error("no results of the others: %s", message_and_exit_code(error)[0])
    if failed:
        raise StudyError(
            f"{len(failed)} of {len(folders)} trainings failed and the others are finished; to "
            f"retry, run: {shlex.join([_program(), *sys.argv[1:]])}"
        ) from problem


def _summarise_study(folder: Path) -> bool:
    """Summarise the finished trainings if a folder holds a study, and say whether it does."""
    from visavis.stages.summarise import summarise

    study = run_folder.is_study(folder)
    if study:
        summarise(folder)
    return study


def _adopt(command: flags.Explain) -> None:
    """Make the run folder of a model that was trained elsewhere, and evaluate it."""
    if command.model is None or command.weights is None:
        raise ConfigError("give both: --model NAME and --weights FILE")
    registry.check_name(command.model)
    _require_apart(command.folder, command.data)
    from visavis.stages.adopt import adopt
    from visavis.stages.evaluate import evaluate as evaluate_stage
    from visavis.training import hardware

    dataset = data.resolve(command.data)
    experiment = presets.preset("standard", dataset.source, dataset.side)
    adopt(
        command.folder,
        dataclasses.replace(experiment, data=command.data),
        command.model,
        command.weights,
        dataset,
        normalisation=(command.mean, command.std),
    )
    evaluate_stage(command.folder, dataset, device=hardware.select_device(command.device))


def _with_flags(experiment: Experiment, command: Any) -> Experiment:
    """The experiment with those of its settings that are flags of the command."""
    names = [of.name for of in dataclasses.fields(experiment)]
    chosen = {name: getattr(command, name) for name in names if hasattr(command, name)}
    return dataclasses.replace(experiment, **chosen)


def _require_apart(out: Path, images: DataConfig) -> None:
    """Raise a ConfigError if a run folder would lie among one's own images, as a class of them."""
    if images.source == "folder" and images.dir is not None:
        folder = os.path.realpath(images.dir)
        if Path(os.path.realpath(out)).is_relative_to(folder):
            raise ConfigError(
                f"the run folder {out} lies in the folder of the images, {images.dir}, where it "
                "would be taken for a class; choose another one"
            )


def _require_one_device(training: TrainConfig) -> None:
    """Raise a ConfigError if a command that trains several models is to do it on several GPUs."""
    if training.devices > 1:
        raise ConfigError(
            f"--train.devices {training.devices}: only `visavis train` trains one model on several "
            "GPUs; do that first, with the run folder as its --out, and repeat this command "
            "without the flag"
        )


def _program() -> str:
    """How to call visavis, which need not be on the path."""
    if shutil.which("visavis"):
        return "visavis"
    return os.path.relpath(Path(sys.executable).parent / "visavis")


def _command(name: str, folder: Path) -> str:
    """A command to copy into a shell."""
    return shlex.join([_program(), name, str(folder)])


def _check_out(out: Path) -> None:
    """Check that a run folder can be made there, before anything is downloaded or computed."""
    place = next(each for each in (out, *out.absolute().parents) if os.path.lexists(each))
    if not place.is_dir():
        raise ConfigError(f"--out {out}: {place} is a file; name a folder")
    if not os.access(place, os.W_OK):
        raise EnvironmentFault(f"--out {out}: no permission to write to {place}; use another one")


def _attribution_arguments(
    command: flags.Explain | flags.CrossModel, folder: Path
) -> dict[str, Any]:
    """What the two stages that score attribution maps take besides their folder."""
    return {
        **_computing(command, folder),
        "dataset": data.resolve(command.data),
        "config": command.explain,
    }


def _computing(
    command: flags.Explain | flags.CrossModel | flags.ValidateScores, folder: Path
) -> dict[str, Any]:
    """Where attribution maps are computed: in the training precision of the model in `folder`."""
    from visavis.training import hardware

    device = hardware.select_device(command.device)
    precision = _stored(TrainConfig, folder / run_folder.CONFIG, "train")
    return {"device": device, "autocast": hardware.precision(precision, device) == "bf16"}


def _stored_data(folder: Path) -> DataConfig:
    """The data settings of a model's run folder, with `auto` resolved."""
    if within := sorted(folder.glob(f"*/{run_folder.CONFIG}")):
        raise ConfigError(f"{folder} holds an experiment; name a model in it: {within[0].parent}")
    if not folder.is_dir():
        raise CheckpointError(f"there is no run folder {folder}")
    stored = _stored(DataConfig, folder / run_folder.CONFIG, "data")
    if stored.source != "auto":
        return stored
    source = run_folder.read_json(folder / run_folder.DATA)["source"]
    return dataclasses.replace(stored, source=source)


def _stored_explain(folder: Path) -> ExplainConfig:
    """The explanation settings of the experiment or study around a run folder, or the defaults."""
    path = folder.absolute().parents[1] / run_folder.STUDY
    if path.exists():
        return _stored(ExplainConfig, path, "explain")
    path = folder.absolute().parent / run_folder.EXPERIMENT
    if not path.exists():
        return ExplainConfig()
    return _stored(Experiment, path, "experiment").explain


def _stored(cls: type[T], path: Path, key: str) -> T:
    """The settings that a file of a run folder holds under `key`."""
    return run_folder.settings(cls, run_folder.read_json(path).get(key), path)


def _locked(experiment: Path) -> contextlib.AbstractContextManager[None]:
    """The lock of an existing experiment folder; nothing is written into any other folder."""
    if not experiment.is_dir():
        raise CheckpointError(f"there is no experiment folder {experiment}")
    run_folder.model_folders(experiment)
    return lock(experiment)
