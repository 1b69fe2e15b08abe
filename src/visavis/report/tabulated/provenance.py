"""Tables of how an experiment was made."""

from typing import Any

from visavis.report.material import Material
from visavis.report.recipe import leaves
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
        Row("Resumed", [plain(m.training["resumed"] > 0 if m.history else None) for m in models]),
        Row(
            "Changed when resumed",
            [plain("; ".join(m.provenance.get("changed_when_resumed", []))) for m in models],
        ),
        Row("Weights, SHA-256", [_digest(model.training["weights_sha256"]) for model in models]),
        Row("Data, fingerprint", [_digest(model.data["fingerprint"]) for model in models]),
    ]
    chosen = [_settings(model) for model in models]
    keys = dict.fromkeys(key for of in chosen for key in of)
    set_to = [Row(key, [plain(of.get(key)) for of in chosen], code=True) for key in keys]
    return {
        "provenance": Table("Provenance", head, rows),
        "settings": Table("Settings", head, set_to),
    }


def _settings(model: ModelFolder) -> dict[str, Any]:
    """What a model was set to, and its training, if that happened here."""
    settings = model.config["model"]
    own = {key: of for key, of in settings.items() if key != "optim" or model.history}
    return {key: of for key, of in leaves(own) if key != "name"}


def _digest(sha256: str) -> Cell:
    return Cell(f"{sha256[:16]}…", code=True)
