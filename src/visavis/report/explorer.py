"""The explorer in the report: a few hundred test images with both maps, in the file itself."""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import Int

from visavis.compare import gallery
from visavis.compare.pairing import sampled_rows
from visavis.config import MODEL_NAMES
from visavis.report import figures, labels
from visavis.report.material import Material
from visavis.report.text.numbers import count

SHOWN = 300
SHADES = 64


def explorer_parts(material: Material) -> dict[str, Any]:
    """What the template needs: the images by bucket, and the page's script with its data.

    Shown are, up to SHOWN, the sampled images that a model misclassifies, in the order of the test
    set, and then those that both classify correctly.
    """
    heatmaps = {name: model.heatmaps for name, model in material.models.items()}
    methods = {n: model.explanations["default_method"] for n, model in material.models.items()}
    rows = dict(zip(MODEL_NAMES, sampled_rows(*(heatmaps[n] for n in MODEL_NAMES)), strict=True))
    labels_of_rows = heatmaps["cnn"]["labels"][rows["cnn"]]
    correct = np.all([heatmaps[n]["predicted"][rows[n]] == labels_of_rows for n in rows], axis=0)
    chosen = np.sort(np.argsort(correct, kind="stable")[:SHOWN])
    rows = {name: of[chosen] for name, of in rows.items()}
    images = gallery.rows(
        heatmaps["cnn"]["indices"][rows["cnn"]],
        heatmaps["cnn"]["labels"][rows["cnn"]],
        {n: heatmaps[n]["predicted"][rows[n]] for n in MODEL_NAMES},
        {n: heatmaps[n]["confidence"][rows[n]] for n in MODEL_NAMES},
        material.class_names,
        gallery.similarity(heatmaps, methods),
    )
    data = {
        "class_names": material.class_names,
        "colours": figures.heat_colours(SHADES),
        "buckets": labels.BUCKETS,
        "images": images,
        "labels": {n: model.default_method["label"] for n, model in material.models.items()},
        "maps": {n: _encoded_maps(heatmaps[n], methods[n], rows[n]) for n in MODEL_NAMES},
        "confusion": {n: material.comparison["models"][n]["confusion_matrix"] for n in MODEL_NAMES},
    }
    groups: dict[str, list[dict[str, Any]]] = {label: [] for label in labels.BUCKETS.values()}
    for pixels, image in zip(heatmaps["cnn"]["images"][rows["cnn"]], images, strict=True):
        groups[labels.BUCKETS[image["bucket"]]].append({"pixels": pixels, **image})
    script = _script()
    return {
        "groups": groups,
        "rule": _rule(len(images), len(correct), wrong=int((~correct[chosen]).sum())),
        # Nothing in it can end the element that it stands in.
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
        "script": script,
        "script_sha256": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "html": _static("explorer.html"),
        "base_css": _static("base.css"),
        "css": _static("explorer.css"),
    }


def _rule(shown: int, explained: int, *, wrong: int) -> str:
    """Which images are shown."""
    number = f"{count(shown)} of the" if shown < explained else "All"
    return (
        f"{number} {count(explained)} explained test images: {count(wrong)} on which at least one "
        f"model is wrong, and {count(shown - wrong)} on which both are correct"
        + (", the first of each" if shown < explained else "")
    )


def _encoded_maps(
    heatmaps: Mapping[str, np.ndarray], method: str, rows: Int[np.ndarray, "n"]
) -> list[list[str] | None]:
    """Each map as 64 bytes in base 64, 0 for its lowest value, and where it is highest.

    None for a degenerate map.
    """
    encoded: list[list[str] | None] = []
    for row in rows:
        heatmap = heatmaps[f"map_{method}"][row]
        levels = np.round(255 * figures.stretched(heatmap)).astype(np.uint8).tobytes()
        valid = not heatmaps[f"degenerate_{method}"][row]
        encoded.append(
            [base64.b64encode(levels).decode(), figures.where(heatmap)] if valid else None
        )
    return encoded


def _script() -> str:
    """The pages' own modules in one, which a file without a server can run."""
    lines = "\n".join(_static(f"{name}.js") for name in ("heat", "explore", "report")).split("\n")
    kept = [line.removeprefix("export ") for line in lines if not line.startswith("import ")]
    return "\n".join(kept)


def _static(name: str) -> str:
    return (resources.files("visavis.report") / "static" / name).read_text(encoding="utf-8")
