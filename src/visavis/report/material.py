"""Everything that a report is made of, read from an experiment folder."""

import dataclasses
from pathlib import Path
from typing import Any

from visavis import run_folder
from visavis.compare.pairing import checksums
from visavis.errors import CheckpointError
from visavis.run_folder import ModelFolder


@dataclasses.dataclass(frozen=True)
class Material:
    """Everything that a report is made of."""

    experiment: dict[str, Any] | None
    """None if the stages were run one by one, so that no single command repeats them."""
    cnn: ModelFolder
    vit: ModelFolder
    comparison: dict[str, Any]
    cross_model: dict[str, Any]

    @classmethod
    def read(cls, experiment: Path) -> "Material":
        """Read an experiment folder whose comparison is done.

        Raises:
            CheckpointError: a file is missing, or a model was explained again since the comparison.
        """
        derived = {}
        for file, command in (
            (run_folder.CROSS_MODEL, "cross-model"),
            (run_folder.COMPARISON, "compare"),
        ):
            path, first = experiment / file, f"first: visavis {command} {experiment}"
            if not path.exists():
                raise CheckpointError(f"{path} is missing; {first}")
            derived[file] = run_folder.read_json(path)
            found, made_of = checksums(experiment), derived[file]["heatmaps_sha256"]
            if stale := [name for name in found if made_of.get(name) != found[name]]:
                raise CheckpointError(f"{path} is older than the heatmaps in {stale[0]}/; {first}")
        path = experiment / run_folder.EXPERIMENT
        return cls(
            experiment=run_folder.read_json(path) if path.exists() else None,
            cnn=ModelFolder(experiment / "cnn"),
            vit=ModelFolder(experiment / "vit"),
            comparison=derived[run_folder.COMPARISON],
            cross_model=derived[run_folder.CROSS_MODEL],
        )

    @property
    def same_machine(self) -> bool:
        """Whether both models were trained with the same precision on the same machine."""
        keys = ("device", "device_name", "threads", "precision")
        cnn, vit = self.cnn.provenance, self.vit.provenance
        moved = any(p["started_on"] != p["device_name"] for p in (cnn, vit))
        return not moved and all(cnn[key] == vit[key] for key in keys)

    @property
    def models(self) -> dict[str, ModelFolder]:
        """Both models by name."""
        return {"cnn": self.cnn, "vit": self.vit}

    @property
    def class_names(self) -> list[str]:
        """The class names, in the order of their indices."""
        return self.comparison["data"]["class_names"]
