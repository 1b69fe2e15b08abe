"""The explorer in the report: a few hundred test images with both maps, in the file itself."""

import base64
import hashlib
import json
from importlib import resources
from typing import Any

import numpy as np

from visavis.compare import gallery
from visavis.compare.same_images import shared_rows
from visavis.report import labels
from visavis.report.figures.heatmaps import heat_colours, shrunk, stretched, where
from visavis.report.material import Material
from visavis.report.text.numbers import count
from visavis.run_folder import ModelFolder

SHOWN = 300
SHADES = 64

SIDE = 64
"""The most pixels of an image, so that hundreds of them fit into a page."""


def explorer_parts(material: Material) -> dict[str, Any]:
    """What the template needs: the images with their pixels, and the page's script with its data.

    Shown are, up to SHOWN, the sampled images that a model misclassifies, in the order of the test
    set, and then those that both classify correctly.
    """
    models = material.models
    heatmaps = {role: model.heatmaps for role, model in models.items()}
    methods = {role: model.explanations["default_method"] for role, model in models.items()}
    rows = dict(zip(models, shared_rows(*heatmaps.values()), strict=True))
    true = heatmaps["first"]["labels"][rows["first"]]
    correct = np.all([heatmaps[r]["predicted"][rows[r]] == true for r in models], axis=0)
    chosen = np.sort(np.argsort(correct, kind="stable")[:SHOWN])
    rows = {role: of[chosen] for role, of in rows.items()}
    images = gallery.rows(
        heatmaps["first"]["indices"][rows["first"]],
        true[chosen],
        {role: heatmaps[role]["predicted"][rows[role]] for role in models},
        {role: heatmaps[role]["confidence"][rows[role]] for role in models},
        material.class_names,
        gallery.similarity(heatmaps, methods),
    )
    for place, image in enumerate(images):
        image["models"] = {
            role: _explained(model, rows[role][place], image[role])
            for role, model in models.items()
        }
    data = {
        "labels": material.labels,
        "class_names": material.class_names,
        "colours": heat_colours(SHADES),
        "buckets": labels.bucket_names(material.labels),
        "images": images,
        "confusion": {r: material.comparison["models"][r]["confusion_matrix"] for r in models},
    }
    script = _script()
    pixels = [shrunk(image, SIDE) for image in heatmaps["first"]["images"][rows["first"]]]
    return {
        "images": [{"pixels": p, **image} for p, image in zip(pixels, images, strict=True)],
        "rule": _rule(len(images), len(correct), wrong=int((~correct[chosen]).sum())),
        # Nothing in it can end the element that it stands in.
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
        "script": script,
        "script_sha256": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "html": static("explorer.html"),
        "css": static("explorer.css"),
    }


def _rule(shown: int, explained: int, *, wrong: int) -> str:
    """Which images are shown."""
    number = f"{count(shown)} of the" if shown < explained else "All"
    return (
        f"{number} {count(explained)} explained test images: {count(wrong)} on which at least one "
        f"model is wrong, and {count(shown - wrong)} on which both are correct"
        + (", the first of each" if shown < explained else "")
    )


def _explained(model: ModelFolder, row: np.integer, predicted: str) -> dict[str, Any]:
    """The default map as /api/explain gives it, but in steps from 0 to 255."""
    method = model.explanations["default_method"]
    heatmap = model.heatmaps[f"map_{method}"][row]
    facts = {"method_label": model.default_method["label"], "class": predicted}
    if model.heatmaps[f"degenerate_{method}"][row]:
        return {**facts, "map": None, "degenerate_because": "flat or not finite"}
    steps = np.round(255 * stretched(heatmap)).astype(int)
    return {**facts, "map": steps.tolist(), "highest": where(heatmap)}


def _script() -> str:
    """The pages' own modules in one, which a file without a server can run."""
    lines = "\n".join(static(f"{name}.js") for name in ("heat", "explore", "report")).split("\n")
    kept = [line.removeprefix("export ") for line in lines if not line.startswith("import ")]
    return "\n".join(kept)


def static(name: str) -> str:
    """A file of the folder of that name."""
    return (resources.files("visavis.report") / "static" / name).read_text(encoding="utf-8")
