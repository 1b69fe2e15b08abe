"""Everything that a report is made of, read from an experiment folder."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from visavis import runs
from visavis.errors import CheckpointError
from visavis.heatmaps import checksums


@dataclasses.dataclass(frozen=True)
class Model:
    """The files of one model's run folder."""

    name: str
    config: dict[str, Any]
    provenance: dict[str, Any]
    data: dict[str, Any]
    history: list[dict[str, Any]]
    training: dict[str, Any]
    evaluation: dict[str, Any]
    explanations: dict[str, Any]
    heatmaps: dict[str, np.ndarray]
    examples: UInt8[np.ndarray, "classes 32 32 3"]
    film: dict[str, np.ndarray] | None
    """None for a training that was begun before there were films."""

    @classmethod
    def read(cls, folder: Path) -> "Model":
        """Read a model's run folder."""
        return cls(
            name=folder.name,
            config=runs.read_json(folder / runs.CONFIG),
            provenance=runs.read_json(folder / runs.PROVENANCE),
            data=runs.read_json(folder / runs.DATA),
            history=runs.read_history(folder),
            training=runs.read_json(folder / runs.TRAINING),
            evaluation=runs.read_json(folder / runs.EVALUATION),
            explanations=runs.read_json(folder / runs.EXPLANATIONS),
            heatmaps=runs.read_arrays(folder / runs.HEATMAPS),
            examples=runs.read_arrays(folder / runs.SPLIT)["examples"],
            film=runs.read_arrays(film) if (film := folder / runs.FILM).exists() else None,
        )

    @property
    def main(self) -> dict[str, Any]:
        """The method that is shown where there is room for one."""
        return self.explanations["methods"][self.explanations["default_method"]]

    @property
    def gallery(self) -> dict[str, Any]:
        """Rows of `heatmaps` that are shown as pictures."""
        return self.explanations["gallery"]


@dataclasses.dataclass(frozen=True)
class Material:
    """Everything that a report is made of."""

    experiment: dict[str, Any] | None
    """None where the stages were run one by one: no command makes it all again."""
    cnn: Model
    vit: Model
    comparison: dict[str, Any]
    crosstest: dict[str, Any]

    @classmethod
    def read(cls, experiment: Path) -> "Material":
        """Read an experiment folder whose comparison is done.

        Raises:
            CheckpointError: a file is missing, or a model was explained anew since the comparison.
        """
        path = experiment / runs.EXPERIMENT
        comparison = runs.read_json(experiment / runs.COMPARISON)
        if not (experiment / runs.CROSSTEST).exists():
            raise CheckpointError(
                f"{experiment / runs.CROSSTEST} is missing; first: visavis crosstest {experiment}"
            )
        crosstest = runs.read_json(experiment / runs.CROSSTEST)
        found = checksums(experiment)
        for file, verb, made_of in (
            (runs.CROSSTEST, "crosstest", crosstest["heatmaps_sha256"]),
            (runs.COMPARISON, "compare", comparison["heatmaps_sha256"]),
        ):
            if stale := [name for name in found if made_of.get(name) != found[name]]:
                raise CheckpointError(
                    f"{experiment / file} is older than the heatmaps in {stale[0]}/; first: "
                    f"visavis {verb} {experiment}"
                )
        return cls(
            experiment=runs.read_json(path) if path.exists() else None,
            cnn=Model.read(experiment / "cnn"),
            vit=Model.read(experiment / "vit"),
            comparison=comparison,
            crosstest=crosstest,
        )

    @property
    def same_machine(self) -> bool:
        """Whether both models were trained in the same arithmetic on the same machine."""
        keys = ("device", "device_name", "threads", "precision")
        cnn, vit = self.cnn.provenance, self.vit.provenance
        moved = any(p["begun_on"] != p["device_name"] for p in (cnn, vit))
        return not moved and all(cnn[key] == vit[key] for key in keys)

    @property
    def models(self) -> dict[str, Model]:
        """Both models by name."""
        return {"cnn": self.cnn, "vit": self.vit}

    @property
    def class_names(self) -> list[str]:
        """What the classes are called, in the order of their numbers."""
        return self.comparison["data"]["class_names"]
