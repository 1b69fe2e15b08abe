"""Tables of how an experiment was made."""

from typing import Any

from visavis.report.material import Material
from visavis.report.recipe import settings
from visavis.report.table import Cell, Row, Table, headings, of_models, plain
from visavis.run_folder import ModelFolder

FACTS = {
    "version": "visavis",
    "commit": "Commit",
    "python": "Python",
    "torch": "PyTorch",
    "lightning": "Lightning",
    "device": "Device",
    "device_name": "Machine",
    "started_on": "Started on",
    "threads": "Threads",
    "precision": "Precision",
    "compiled": "Compiled",
    "started": "Started",
    "finished": "Finished",
}
"""Of provenance.json."""


def tables(material: Material) -> dict[str, Table]:
    """By name."""
    models = material.models.values()
    head = headings("", *of_models(material.labels))
    rows = [
        Row(name, [plain(model.provenance.get(key)) for model in models])
        for key, name in FACTS.items()
    ]
    rows += [
        Row("Seed", [plain(model.config["seed"]) for model in models]),
        Row("Resumed", [_resumed(model) for model in models]),
        Row("Changed when resumed", [_changed(model) for model in models]),
        Row("Weights, SHA-256", [_digest(model.training["weights_sha256"]) for model in models]),
        Row("Data, fingerprint", [_digest(model.data["fingerprint"]) for model in models]),
    ]
    chosen = settings(_settings(model) for model in models)
    set_to = [Row(key, [plain(first), plain(second)], code=True) for key, first, second in chosen]
    return {
        "provenance": Table("Provenance", head, rows),
        "settings": Table("Settings", head, set_to),
    }


def _settings(model: ModelFolder) -> dict[str, Any]:
    """Those of a training only if it happened here."""
    settings = model.config["model"]
    return {key: of for key, of in settings.items() if key != "optim" or model.history}


def _resumed(model: ModelFolder) -> Cell:
    return plain(model.training["resumed"] > 0 if model.history else None)


def _changed(model: ModelFolder) -> Cell:
    return plain("; ".join(model.provenance.get("changed_when_resumed", [])))


def _digest(sha256: str) -> Cell:
    return Cell(f"{sha256[:16]}…", kind="code")
