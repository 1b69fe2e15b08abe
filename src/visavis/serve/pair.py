"""Which models a request is about: the two of an experiment, or two trainings of a study."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from starlette.exceptions import HTTPException

from visavis import run_folder
from visavis.report.labels import the
from visavis.run_folder import ROLES, ModelFolder, is_study, trained_models
from visavis.serve.requests import Query, one_of

CHOICES = dict(zip(ROLES, ("first_training", "second_training"), strict=True))
"""The parameters that name two trainings of a study, by role."""

FILES = (
    *(run_folder.DATA, run_folder.WEIGHTS, run_folder.TRAINING, run_folder.PREDICTIONS),
    *(run_folder.EVALUATION, run_folder.HEATMAPS, run_folder.EXPLANATIONS),
)


class Shown(NamedTuple):
    """A trained model as it is now."""

    label: str
    path: Path
    state: tuple[tuple[int, ...], ...]
    """Changes with any of its files, so that nothing outdated is kept."""

    @property
    def folder(self) -> ModelFolder:
        return ModelFolder(self.path)


def pair_of(folder: Path, query: Query) -> dict[str, Shown]:
    """The trained models of an experiment, or the chosen ones of a study, by role.

    There may be one or none. Without a choice, the first trainings of the first two variants.

    Raises:
        CheckpointError: `folder` is neither, or damaged.
        HTTPException: status 422, the choice is not one of two trainings that are finished.
    """
    if not is_study(folder):
        found = trained_models(folder)
        return {role: _shown(of.label, of) for role, of in found.items()}
    known = trainings(folder)
    chosen = {
        role: one_of(query[name], known, name) for role, name in CHOICES.items() if name in query
    }
    if len(set(chosen.values())) < len(chosen):
        raise HTTPException(422, "choose two different trainings")
    for role in ROLES:
        others = [name for name in known if name not in chosen.values()]
        variants = {name.partition("/")[0] for name in chosen.values()}
        if role not in chosen and others:  # of another variant if there is one, else another seed
            chosen[role] = min(others, key=lambda name: name.partition("/")[0] in variants)
    return {role: known[chosen[role]] for role in ROLES if role in chosen}


def trainings(study: Path) -> dict[str, Shown]:
    """The trained models of a study by variant and seed, such as "vit/seed-0"."""
    found = {}
    for name, entry in run_folder.read_json(study / run_folder.STUDY)["variants"].items():
        for seed in entry["seeds"]:
            model = ModelFolder(study / name / run_folder.SEED.format(seed))
            if model.trained:
                label = name if entry["varied"] else model.label
                found[f"{name}/{model.name}"] = _shown(f"{label} (seed {seed})", model)
    return found


def _shown(label: str, folder: ModelFolder) -> Shown:
    paths = [folder.path / name for name in FILES]
    found = [path.stat() for path in paths if path.exists()]
    return Shown(label, folder.path, tuple((of.st_ino, of.st_mtime_ns, of.st_size) for of in found))


def together(models: Mapping[str, Shown]) -> str:
    """Their names within a sentence: "the CNN and the ViT"."""
    return " and ".join(the(model.label) for model in models.values())
