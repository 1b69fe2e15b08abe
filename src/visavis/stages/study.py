"""Stage: many trainings that belong together, variants x seeds, on the same images.

`plan` reads the run folders of finished trainings and writes study.json. `complete` reads it, and
fills one run folder with what the stages train, evaluate and explain write; trainings share no
other file, so that they may run in any order, at once, and on several machines.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visavis import models, run_folder
from visavis.config import DataConfig, Experiment, ExplainConfig, to_json
from visavis.data import Dataset, split
from visavis.errors import CheckpointError, ConfigError
from visavis.files import bytes_sha256
from visavis.run_folder import ModelFolder
from visavis.stages.explain.cost import same_for_all
from visavis.stages.steps import explain_once, train_and_test
from visavis.stages.trained import build
from visavis.training import hardware
from visavis.training.provenance import differences

TRAINING = ("device", "precision", "compile")
"""Settings of the training that change its weights, be it in the last digits."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A model with its settings; its trainings differ in their seeds alone."""

    model: str
    varied: Mapping[str, str]
    """Which settings differ from those of the study, such as vit.depth, and their values."""
    experiment: Experiment


def plan(out: Path, variants: Mapping[str, Variant], dataset: Dataset) -> list[Path]:
    """Write the variants into study.json, beside those that it holds, and list their run folders.

    The test images that are explained, and the grid, are fixed when the study is begun.

    Args:
        variants: by the name of their folder; seeds, data and explanation settings are the same.

    Returns:
        The run folders of these variants, seed by seed.

    Raises:
        CheckpointError: `out` holds a study on other images or with other settings, or a training
            of other images.
        ModelError: a model is no classifier of these images.
    """
    path = out / run_folder.STUDY
    found = run_folder.read_json(path) if path.exists() else None
    stored: dict[str, Any] = found["variants"] if found else {}
    common = next(iter(variants.values())).experiment
    built = [
        build(of.experiment.model(of.model), dataset)  # before hours go into the others
        for name, of in variants.items()
        if name not in stored
    ]
    explaining = _explaining(path, found, common, built, dataset)
    shared = {"data": _images(dataset, common.data), "explain": to_json(explaining)}
    lines = differences({key: found[key] for key in shared}, shared) if found else []
    seeds = range(common.seed, common.seed + common.seeds)
    entries = dict(stored)
    for name, of in variants.items():
        data = dataclasses.replace(of.experiment.data, source=dataset.source)  # auto is decided
        experiment = dataclasses.replace(of.experiment, data=data, explain=explaining)
        before = stored.get(name, {"seeds": []})
        if name in stored and (out / name).exists():
            earlier = run_folder.settings(Experiment, before["experiment"], path)
            now = _deciding(experiment, of.model)
            lines += differences(_deciding(earlier, before["model"]), now, f"{name}: ")
        entries[name] = {
            "model": of.model,
            "varied": dict(of.varied),
            "seeds": sorted({*before["seeds"], *seeds}),
            "experiment": to_json(experiment),
        }
    if lines:
        raise CheckpointError(
            f"{out} holds a study with other settings: {'; '.join(lines)}. Use the same settings, "
            "or another --out"
        )
    for name, entry in entries.items():
        for seed in entry["seeds"]:
            _check_shared(ModelFolder(out / name / run_folder.SEED.format(seed)), shared)
    run_folder.write_json(path, {**shared, "variants": entries})
    return [out / name / run_folder.SEED.format(seed) for seed in seeds for name in variants]


def _deciding(experiment: Experiment, model: str) -> dict[str, Any]:
    """The settings that all trainings of a variant share, since they change the weights."""
    training = to_json(experiment.train)
    shared = {key: training[key] for key in TRAINING}
    return {**to_json(experiment.model(model)), "train": shared}


def _images(dataset: Dataset, config: DataConfig) -> dict[str, str]:
    """Which images the trainings share, with the fingerprints that data.json has, too."""
    _, held_out = split(dataset.train_labels, config.validation_fraction, config.split_seed)
    return {
        "source": dataset.source,
        "description": dataset.description,
        "fingerprint": dataset.fingerprint,
        "split_fingerprint": bytes_sha256(held_out.tobytes()),
    }


def _explaining(
    path: Path,
    found: dict[str, Any] | None,
    common: Experiment,
    built: list[models.Model],
    dataset: Dataset,
) -> ExplainConfig:
    """The settings with one number of images and one grid for all trainings."""
    config = common.explain
    if not found:
        return same_for_all(built, dataset, config, hardware.select_device(common.train.device))
    before = run_folder.settings(ExplainConfig, found["explain"], path)
    return dataclasses.replace(
        config, images=config.images or before.images, grid=config.grid or before.grid
    )


def _check_shared(model: ModelFolder, shared: dict[str, Any]) -> None:
    """Check that a training, as far as it has come, is on the images of the study.

    Raises:
        CheckpointError: it is on others, or explained on others.
    """
    differing: list[str] = []
    if (model.path / run_folder.DATA).exists():
        keys = ("fingerprint", "split_fingerprint")
        differing = differences({key: model.data.get(key) for key in keys}, shared["data"])
    if model.explained:
        sample = {"images": model.explanations["n"], "grid": model.explanations["grid"][0]}
        differing += differences(sample, shared["explain"], "explain.")
    if differing:
        raise CheckpointError(
            f"{model.path} does not use the same images as its study: {'; '.join(differing)}. Move "
            "it away, and repeat the command"
        )


def planned(folder: Path) -> tuple[str, Experiment]:
    """The model of a training and its settings, as study.json, two folders above, holds them.

    Raises:
        CheckpointError: there is no study.json, or it is damaged.
        ConfigError: it plans no such training.
    """
    variant, seed = folder.absolute().parts[-2:]
    path = folder.absolute().parents[1] / run_folder.STUDY
    if not path.exists():
        raise CheckpointError(
            f"{folder} is not in the folder of a study, which holds {run_folder.STUDY}; "
            "`visavis study … --print` writes it, and lists the run folders"
        )
    entry = run_folder.read_json(path)["variants"].get(variant, {"seeds": []})
    seeds = {run_folder.SEED.format(number): number for number in entry["seeds"]}
    if seed not in seeds:
        raise ConfigError(
            f"{path} plans no training {variant}/{seed}; add it with `visavis study`, or name one "
            "that `visavis study … --print` lists"
        )
    experiment = run_folder.settings(Experiment, entry["experiment"], path)
    return entry["model"], dataclasses.replace(experiment, seed=seeds[seed])


def complete(folder: Path, name: str, experiment: Experiment, dataset: Dataset) -> None:
    """Train, test and explain one model of a study, as far as that is not done yet.

    Raises:
        CheckpointError: the images or their split are not those of the study, or the folder holds
            another model.
        VisavisError: a stage failed; the files of finished stages remain.
    """
    out = folder.absolute().parents[1]
    data = run_folder.read_json(out / run_folder.STUDY)["data"]
    here = _images(dataset, experiment.data)
    if data["fingerprint"] != here["fingerprint"]:
        raise CheckpointError(
            f"the study in {out} is on {data['description']}, but the pixels of these images "
            f"({dataset.description}) differ; use those of the study"
        )
    if data["split_fingerprint"] != here["split_fingerprint"]:
        raise CheckpointError(
            f"the study in {out} holds out other validation images than this command would; use "
            f"the version of visavis that wrote its {run_folder.STUDY}, unchanged"
        )
    model = train_and_test(folder.absolute(), experiment, name, dataset, tracked_in=out)
    explain_once(model, experiment, name, dataset, experiment.explain)
