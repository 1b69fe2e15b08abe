"""Everything that a report is made of, read from an experiment folder."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from visavis import run_folder
from visavis.compare.pairing import checksums
from visavis.errors import CheckpointError


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
    snapshots: dict[str, np.ndarray] | None
    """None for a training that was that has no snapshots."""

    @classmethod
    def read(cls, folder: Path) -> "Model":
        """Read a model's run folder."""
        return cls(
            name=folder.name,
            config=run_folder.read_json(folder / run_folder.CONFIG),
            provenance=run_folder.read_json(folder / run_folder.PROVENANCE),
            data=run_folder.read_json(folder / run_folder.DATA),
            history=run_folder.read_history(folder),
            training=run_folder.read_json(folder / run_folder.TRAINING),
            evaluation=run_folder.read_json(folder / run_folder.EVALUATION),
            explanations=run_folder.read_json(folder / run_folder.EXPLANATIONS),
            heatmaps=run_folder.read_arrays(folder / run_folder.HEATMAPS),
            examples=run_folder.read_arrays(folder / run_folder.SPLIT)["examples"],
            snapshots=run_folder.read_arrays(snapshots)
            if (snapshots := folder / run_folder.SNAPSHOTS).exists()
            else None,
        )

    @property
    def main(self) -> dict[str, Any]:
        """The method that is shown where there is room for one."""
        return self.explanations["methods"][self.explanations["default_method"]]

    @property
    def gallery(self) -> dict[str, Any]:
        """Rows of `heatmaps` that are shown as images."""
        return self.explanations["gallery"]


@dataclasses.dataclass(frozen=True)
class Material:
    """Everything that a report is made of."""

    experiment: dict[str, Any] | None
    """None where the stages were run one by one: no command makes it all again."""
    cnn: Model
    vit: Model
    comparison: dict[str, Any]
    cross_model: dict[str, Any]

    @classmethod
    def read(cls, experiment: Path) -> "Material":
        """Read an experiment folder whose comparison is done.

        Raises:
            CheckpointError: a file is missing, or a model was explained again since the comparison.
        """
        path = experiment / run_folder.EXPERIMENT
        comparison = run_folder.read_json(experiment / run_folder.COMPARISON)
        if not (experiment / run_folder.CROSS_MODEL).exists():
            raise CheckpointError(
                f"{experiment / run_folder.CROSS_MODEL} is missing; first: visavis cross-model "
                f"{experiment}"
            )
        cross_model = run_folder.read_json(experiment / run_folder.CROSS_MODEL)
        found = checksums(experiment)
        for file, verb, made_of in (
            (run_folder.CROSS_MODEL, "cross_model", cross_model["heatmaps_sha256"]),
            (run_folder.COMPARISON, "compare", comparison["heatmaps_sha256"]),
        ):
            if stale := [name for name in found if made_of.get(name) != found[name]]:
                raise CheckpointError(
                    f"{experiment / file} is older than the heatmaps in {stale[0]}/; first: "
                    f"visavis {verb} {experiment}"
                )
        return cls(
            experiment=run_folder.read_json(path) if path.exists() else None,
            cnn=Model.read(experiment / "cnn"),
            vit=Model.read(experiment / "vit"),
            comparison=comparison,
            cross_model=cross_model,
        )

    @property
    def same_machine(self) -> bool:
        """Whether both models were trained in the same arithmetic on the same machine."""
        keys = ("device", "device_name", "threads", "precision")
        cnn, vit = self.cnn.provenance, self.vit.provenance
        moved = any(p["started_on"] != p["device_name"] for p in (cnn, vit))
        return not moved and all(cnn[key] == vit[key] for key in keys)

    @property
    def models(self) -> dict[str, Model]:
        """Both models by name."""
        return {"cnn": self.cnn, "vit": self.vit}

    @property
    def class_names(self) -> list[str]:
        """What the classes are called, in the order of their numbers."""
        return self.comparison["data"]["class_names"]
