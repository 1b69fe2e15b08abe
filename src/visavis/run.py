"""The main job: train, test and explain both models, compare them, write the report.

Reads and writes what the stages do, and experiment.json. A stage whose last file is there is not
done again.
"""

import contextlib
import dataclasses
import functools
import logging
from pathlib import Path
from typing import get_args

import torch
import torch.nn.functional as F

from visavis import hardware, models, runs, tracking
from visavis.callbacks import duration
from visavis.compare import compare
from visavis.config import MODEL_NAMES, Experiment, ModelConfig, Preset, TrainConfig, to_json
from visavis.crosstest import crosstest
from visavis.data import Dataset
from visavis.errors import CheckpointError, EnvironmentFault
from visavis.evaluate import evaluate
from visavis.explain import explain, explain_again
from visavis.explain.cost import answers
from visavis.heatmaps import checksums
from visavis.models.compiled import wide_vectors
from visavis.presets import preset
from visavis.provenance import differences
from visavis.report import figures, report
from visavis.train import train

log = logging.getLogger(__name__)

AGAIN = 0.15
"""Share of the explaining that another training takes: for one class, and not measured; for the
estimate only."""

ANSWERS_PER_STEP = 2.5
"""Pictures that are answered in the time of training on one, uncompiled; for the estimate only."""


def run(out: Path, experiment: Experiment, preset_name: str, dataset: Dataset) -> Path:
    """Do every stage that is not done yet and return the report's path.

    Raises:
        VisavisError: as the stages do; what was finished before stays.
    """
    if dataset.notice:
        log.info("NOTE: %s", dataset.notice)
    with runs.lock(out):
        claim(out, experiment, preset_name, dataset)
        _tell_duration(out, experiment, preset_name, dataset)
        device = hardware.select_device(experiment.train.device)
        for name in MODEL_NAMES:
            folder = out / name
            train(folder, experiment, name, dataset, tracked_in=out)
            if not (folder / runs.EVALUATION).exists():
                evaluate(folder, dataset, device=device)
            if not (folder / runs.EXPLANATIONS).exists():
                log.info("%s: explaining, and measuring the explanations", name)
                explain(
                    folder,
                    dataset,
                    experiment.explain,
                    device=device,
                    autocast=hardware.use_bf16(experiment.train, device),
                )
        for seed in range(experiment.seed + 1, experiment.seed + experiment.seeds):
            _train_again(out, dataclasses.replace(experiment, seed=seed), dataset, device)
        if not _crosstested(out):
            log.info("testing each model with the other's maps")
            crosstest(
                out,
                dataset,
                experiment.explain,
                device=device,
                autocast=hardware.use_bf16(experiment.train, device),
            )
        compare(out)
        first_time = not (out / runs.REPORT).exists()
        path = report(out)
        if first_time:
            tracking.log_experiment(
                experiment.tracking, folder=out, group=out.name, figures=figures(out)
            )
        return path


def _train_again(out: Path, experiment: Experiment, dataset: Dataset, device: torch.device) -> None:
    """Both models with another seed, tested, and explained where the first ones were."""
    for name in MODEL_NAMES:
        folder = out / runs.SEED.format(experiment.seed) / name
        log.info("%s: training again, with seed %d", name, experiment.seed)
        train(folder, experiment, name, dataset, tracked_in=out)
        if not (folder / runs.EVALUATION).exists():
            evaluate(folder, dataset, device=device)
        layer = runs.read_json(out / name / runs.EXPLANATIONS)["layer"]
        if not _explained_at(layer, folder):
            explain_again(folder, dataset, experiment.explain, layer=layer, device=device)


def _explained_at(layer: str, folder: Path) -> bool:
    """Whether another training has maps of its present weights, Grad-CAM's from that layer."""
    path = folder / runs.HEATMAPS
    if not path.exists():
        return False
    stored = runs.read_arrays(path)
    weights = runs.read_json(folder / runs.TRAINING)["weights_sha256"]
    return (str(stored.get("layer")), str(stored.get("weights_sha256"))) == (layer, weights)


def _crosstested(out: Path) -> bool:
    """Whether the crosstest was made with the heatmaps that are there now."""
    path = out / runs.CROSSTEST
    return path.exists() and runs.read_json(path).get("heatmaps_sha256") == checksums(out)


def claim(out: Path, experiment: Experiment, preset_name: str, dataset: Dataset) -> None:
    """Write experiment.json, or check that the folder is of the same experiment.

    Raises:
        CheckpointError: it is of another one, with what differs.
    """
    path = out / runs.EXPERIMENT
    wanted = {
        "preset": preset_name,
        "experiment": to_json(experiment),
        "data": {"source": dataset.source, "fingerprint": dataset.fingerprint},
    }
    if not path.exists():
        runs.write_json(path, wanted)
        return
    found = runs.read_json(path)
    decides = ("seed", "cnn", "vit", "explain")  # the rest says where and how, not what
    settings = found.get("experiment", {})
    lines = differences({key: settings.get(key) for key in decides}, to_json(experiment))
    lines += differences({"data": found.get("data")}, wanted)
    if not lines and settings.get("seeds") != experiment.seeds:
        runs.write_json(path, found | {"experiment": settings | {"seeds": experiment.seeds}})
    if lines:
        raise CheckpointError(
            f"{out} holds an experiment with other settings: {'; '.join(lines)}. "
            "Use the same settings, or another --out"
        )


def _tell_duration(out: Path, experiment: Experiment, preset_name: str, dataset: Dataset) -> None:
    """Say how long what is left will take here, and what the shorter presets would."""
    pictures = int(len(dataset.train_labels) * (1 - experiment.data.validation_fraction))
    again = [out / runs.SEED.format(experiment.seed + i) for i in range(1, experiment.seeds)]
    last = [out / name / runs.EXPLANATIONS for name in MODEL_NAMES]
    last += [folder / name / runs.HEATMAPS for folder in again for name in MODEL_NAMES]
    if all(path.exists() for path in last):
        return
    device = hardware.select_device(experiment.train.device)

    @functools.cache
    def step(config: ModelConfig, *, fused: bool) -> float:
        return _seconds_per_picture(config, experiment.train, device, fused=fused)

    def seconds(plan: Experiment, folder: Path | None = None) -> float:
        """Of the whole plan, or of what is not done in `folder`."""
        total = 0.0
        for name in MODEL_NAMES:
            config = plan.model(name)
            optim = config.optim
            first = 0
            done = runs.HEATMAPS if folder in again else runs.EXPLANATIONS
            explained = folder is not None and (folder / name / done).exists()
            if folder is not None and (folder / name / runs.RESUME).exists():
                first = len(runs.read_history(folder / name))
            if folder is not None and (folder / name / runs.TRAINING).exists():
                first = optim.epochs
            fused = device.type == "cpu" and hardware.use_compile(
                plan.train, device, name, pictures=pictures * optim.epochs
            )
            if first < optim.epochs:
                total += optim.effort(first) * pictures * step(config, fused=fused)
            if not explained:
                share = AGAIN if folder in again else 1
                total += share * answers(name, plan) * step(config, fused=False) / ANSWERS_PER_STEP
        return total

    total = seconds(experiment, out) + sum(seconds(experiment, folder) for folder in again)
    message = f"this will take about {duration(total)} on this machine"
    names: tuple[Preset, ...] = get_args(Preset)
    shorter = names[: names.index(preset_name)] if preset_name in names else ()
    others = []
    for name in reversed(shorter):
        plan = dataclasses.replace(preset(name, dataset.source), train=experiment.train)
        others.append(f"--preset {name} about {duration(seconds(plan))}")
    log.info("%s%s", message, f" ({', '.join(others)})" if others else "")


def _seconds_per_picture(
    config: ModelConfig, settings: TrainConfig, device: torch.device, *, fused: bool
) -> float:
    """Training seconds per picture, from a few small steps of a fresh model.

    Args:
        fused: with what training compiles on a CPU; torch.compile's gain on a GPU is not known.
    """
    with torch.random.fork_rng():
        model = hardware.place(models.build(config), device).train()
    if fused:
        with contextlib.suppress(EnvironmentFault):  # training says so
            model.fuse(products_only=not wide_vectors())
    images = torch.rand(64, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(64, dtype=torch.int64, device=device)
    bf16 = hardware.use_bf16(settings, device)

    def step() -> None:
        model.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = model(images)
        torch.autograd.backward(F.cross_entropy(logits.float(), labels))

    return min(hardware.seconds(step, device) for _ in range(3)) / len(images)
