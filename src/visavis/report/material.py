"""Everything that a report is made of, read from an experiment folder."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from visavis import run_folder
from visavis.compare.same_images import checksums
from visavis.errors import CheckpointError
from visavis.run_folder import ModelFolder, model_folders


@dataclasses.dataclass(frozen=True)
class Material:
    """Everything that a report is made of."""

    experiment: dict[str, Any] | None
    """None if the stages were run one by one, so that no single command repeats them."""
    models: dict[str, ModelFolder]
    """Both models by role."""
    comparison: dict[str, Any]
    cross_model: dict[str, Any]

    @classmethod
    def read(cls, experiment: Path) -> "Material":
        """Read an experiment folder whose comparison is done.

        Raises:
            CheckpointError: a file is missing, or a model was explained again since the comparison.
        """
        models, derived = model_folders(experiment), {}
        for file, command in (
            (run_folder.CROSS_MODEL, "cross-model"),
            (run_folder.COMPARISON, "compare"),
        ):
            path, first = (
                experiment / file,
                f"first: visavis {command} {shlex.quote(str(experiment))}",
            )
            if not path.exists():
                raise CheckpointError(f"{path} is missing; {first}")
            derived[file] = run_folder.read_json(path)
            found, made_of = checksums(experiment), derived[file]["heatmaps_sha256"]
            if stale := [models[role].name for role in found if made_of.get(role) != found[role]]:
                raise CheckpointError(f"{path} is older than the heatmaps in {stale[0]}/; {first}")
        path = experiment / run_folder.EXPERIMENT
        return cls(
            experiment=run_folder.read_json(path) if path.exists() else None,
            models=models,
            comparison=derived[run_folder.COMPARISON],
            cross_model=derived[run_folder.CROSS_MODEL],
        )

    @property
    def same_machine(self) -> bool:
        """Whether those trained here were on the same machine, in one precision, throughout."""
        keys = ("device", "device_name", "devices", "threads", "precision", "compiled")
        found = [model.provenance for model in self.models.values() if model.history]
        moved = any(of["started_on"] != of["device_name"] for of in found)
        moved |= any(
            line.split()[0] in keys for of in found for line in of.get("changed_when_resumed", ())
        )
        return not moved and all(of[key] == found[0][key] for of in found for key in keys)

    @property
    def labels(self) -> dict[str, str]:
        """What both models are called."""
        return self.comparison["labels"]

    @property
    def class_names(self) -> list[str]:
        """The class names, in the order of their indices."""
        return self.comparison["data"]["class_names"]
