"""Which layer Grad-CAM uses: the one with the highest SRG on validation images."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from visavis.attribution.batched import to_cells
from visavis.attribution.degenerate import Maps
from visavis.attribution.grad_cam import signed_grad_cam
from visavis.attribution.subject import Subject
from visavis.config import EXPLANATION_SEED as SEED
from visavis.data.batches import Images, in_batches
from visavis.metrics.bootstrap import Interval
from visavis.metrics.faithfulness import measure

MAX_DEGENERATE = 0.1
"""A layer with a larger fraction of degenerate maps is not chosen: its score excludes them."""


def sweep(subject: Subject, images: Images) -> dict[str, Any]:
    """Score Grad-CAM at each candidate layer and choose one.

    Args:
        images: images that are not in the test set; each is explained for its predicted class.

    Returns:
        {"rows": [{"layer", "grid", "degenerate", "srg", …, "chosen"}], "reason": a sentence}.
    """
    targets = subject.predict(images).argmax(dim=1)
    raw = {
        name: in_batches(functools.partial(signed_grad_cam, subject, layer=name), images, targets)
        for name in subject.layers
    }
    removal = measure(
        subject,
        images,
        targets,
        {name: _cells(maps.clamp(min=0), subject) for name, maps in raw.items()},
        signed={name: _cells(maps, subject) for name, maps in raw.items()},
        classes=targets.cpu().numpy(),
        seed=SEED,
    )
    rows: list[dict[str, Any]] = [
        {
            "layer": name,
            "grid": list(maps.shape[1:]),
            "degenerate": int(np.isnan(removal.srg(name)).sum()),
            **removal.scores(name),
        }
        for name, maps in raw.items()
    ]
    chosen, reason = choose(rows, len(images), removal.ahead, subject)
    rows = [row | {"chosen": row["layer"] == chosen} for row in rows]
    return {"rows": rows, "reason": f"{reason} Measured on {len(images)} validation images."}


def _cells(maps: Float[Tensor, "n h w"], subject: Subject) -> Maps:
    return to_cells(maps, subject.grid).cpu().numpy()


def choose(
    rows: list[dict[str, Any]],
    n: int,
    ahead: Callable[[str, str], Interval | None],
    subject: Subject,
) -> tuple[str, str]:
    """The deepest layer that the best one does not significantly exceed in SRG.

    Only layers with the scoring grid, or the closest to it that the model has, so that neither
    model's map is finer than the other's, and with few degenerate maps. A layer's SRG must also be
    significantly above 0. The deepest one has seen most of the image.

    Args:
        rows: from the image to the head.
        n: images that were explained.
        ahead: by how much the first layer's SRG exceeds the second's, paired.

    Returns:
        Its name and, in a sentence or two, why.
    """
    fallback = subject.default_layer
    assert fallback is not None  # else Grad-CAM is not offered
    closest = subject.layers[fallback]
    on_grid = [row for row in rows if row["grid"] == [closest, closest]]
    scored = [row for row in on_grid if row["srg"] and row["degenerate"] <= MAX_DEGENERATE * n]
    if not scored:
        return fallback, (
            f"No layer with {closest} × {closest} cells has a score and a map for at least "
            f"{100 * (1 - MAX_DEGENERATE):.0f}\N{NARROW NO-BREAK SPACE}% of the images; "
            f"{fallback} is used because it is the last one on which the prediction "
            "depends."
        )
    best = max(scored, key=lambda row: row["srg"]["value"])
    excluded = ", ".join(row["layer"] for row in on_grid if row not in scored)
    besides = f" (too few valid maps: {excluded})" if excluded else ""
    reason = (
        f"Of the layers whose maps have {closest} × {closest} cells{besides}, {best['layer']} has "
        f"the highest SRG, {_text(best['srg'])}."
    )
    deepest, rivals = best["layer"], []
    for row in scored:
        lead = ahead(best["layer"], row["layer"])
        if row is not best and row["srg"]["low"] > 0 and not (lead and lead["low"] > 0):
            rivals.append(row["layer"] + (f" (by {_text(lead)})" if lead else ""))
            if scored.index(row) > scored.index(best):
                deepest = row["layer"]
    if not rivals:
        return deepest, reason
    return deepest, (
        f"{reason} It was not significantly better than {'; '.join(rivals)}; of these layers the "
        f"deepest, {deepest}, is used."
    )


def _text(score: Interval) -> str:
    value, low, high = (f"{score[key]:z.2f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})".replace("-", "−")
