"""The explorer in the report: a few hundred test images with both maps, in the file itself."""

import base64
import hashlib
import json
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import Float

from visavis.compare import gallery
from visavis.compare.pairing import sampled_rows
from visavis.config import MODEL_NAMES
from visavis.report import figures, labels
from visavis.report.material import Material
from visavis.report.text.numbers import count

SHOWN = 300
SHADES = 64


def look_through(material: Material) -> dict[str, Any]:
    """What the template needs: the images by bucket, and the page's script with all it shows.

    Shown are the sampled images on which a model was wrong, in the order of the test set, and
    then those on which both were right, up to SHOWN.
    """
    heatmaps = {name: model.heatmaps for name, model in material.models.items()}
    rows = dict(zip(MODEL_NAMES, sampled_rows(*(heatmaps[n] for n in MODEL_NAMES)), strict=True))
    methods = {n: model.explanations["default_method"] for n, model in material.models.items()}
    first = {key: heatmaps["cnn"][key][rows["cnn"]] for key in ("indices", "labels", "images")}
    answers = {n: heatmaps[n]["predicted"][rows[n]] for n in MODEL_NAMES}
    right = np.all([answers[n] == first["labels"] for n in MODEL_NAMES], axis=0)
    chosen = np.sort(np.argsort(right, kind="stable")[:SHOWN])
    rows = {n: rows[n][chosen] for n in MODEL_NAMES}
    images = gallery.rows(
        first["indices"][chosen],
        first["labels"][chosen],
        {n: answers[n][chosen] for n in MODEL_NAMES},
        {n: heatmaps[n]["confidence"][rows[n]] for n in MODEL_NAMES},
        material.class_names,
        gallery.similarity(heatmaps, methods),
    )
    held = {
        "class_names": material.class_names,
        "colours": figures.heat_colours(SHADES),
        "buckets": labels.BUCKETS,
        "images": images,
        "labels": {n: model.default_method["label"] for n, model in material.models.items()},
        "maps": {
            n: [
                _held(heatmap, refused=bool(refused))
                for heatmap, refused in zip(
                    heatmaps[n][f"map_{methods[n]}"][rows[n]],
                    heatmaps[n][f"degenerate_{methods[n]}"][rows[n]],
                    strict=True,
                )
            ]
            for n in MODEL_NAMES
        },
        "confusion": {n: material.comparison["models"][n]["confusion_matrix"] for n in MODEL_NAMES},
    }
    script = _script()
    wrong = int((~right[chosen]).sum())
    kinds = f"{count(wrong)} on which at least one model is wrong, "
    if len(images) < len(right):
        rule = f"{count(len(images))} of the {count(len(right))} explained test images: {kinds}"
        rule += f"and {count(len(images) - wrong)} on which both are correct, the first of each"
    else:
        rule = f"All {count(len(right))} explained test images: {kinds}"
        rule += f"and {count(len(images) - wrong)} on which both are correct"
    return {
        "groups": {
            label: [
                {"pixels": first["images"][chosen[i]], **row}
                for i, row in enumerate(images)
                if row["bucket"] == key
            ]
            for key, label in labels.BUCKETS.items()
        },
        "rule": rule,
        # Nothing in it can end the element that it stands in.
        "data": json.dumps(held, allow_nan=False).replace("<", "\\u003c"),
        "script": script,
        "script_sha256": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "html": _static("explorer.html"),
        "css": _static("explorer.css"),
    }


def _held(heatmap: Float[np.ndarray, "8 8"], *, refused: bool) -> list[str] | None:
    """A map as 64 bytes in base 64, 0 for its lowest value, and where it is highest."""
    if refused:
        return None
    levels = np.round(255 * figures.stretched(heatmap)).astype(np.uint8)
    return [base64.b64encode(levels.tobytes()).decode(), figures.where(heatmap)]


def _script() -> str:
    """The pages' own modules in one, which a file without a server can run."""
    lines = "\n".join(_static(f"{name}.js") for name in ("heat", "explore", "report")).split("\n")
    kept = [line.removeprefix("export ") for line in lines if not line.startswith("import ")]
    return "\n".join(kept)


def _static(name: str) -> str:
    return (resources.files("visavis.report") / "static" / name).read_text(encoding="utf-8")
