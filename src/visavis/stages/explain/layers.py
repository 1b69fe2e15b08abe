"""Which layer Grad-CAM should look at: decided by numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from visavis.attribution.grad_cam import default_layer, grad_cam
from visavis.config import GRID
from visavis.metrics.bootstrap import Interval
from visavis.metrics.faithfulness import measure, to_cells
from visavis.models.cnn import CNN
from visavis.models.vit import ViT

MAX_DEGENERATE = 0.1
"""A layer that has no map for more of the images is not chosen: its score is of the others."""


def candidates(model: CNN | ViT) -> list[str]:
    """From the image to the head: the CNN's activations, three in each stage; the ViT's norms.

    Not the convolutions before the activations: their outputs are not yet centred by the batch
    norm, and Grad-CAM's map is then zero everywhere for many images. Of the ViT's last block only
    the first norm: what comes after it is read at the class token alone.
    """
    if isinstance(model, ViT):
        norms = [
            f"blocks.{i}.{norm}" for i in range(len(model.blocks)) for norm in ("norm1", "norm2")
        ]
        return norms[:-1]
    parts = (".activation1", ".activation2", "")
    return [f"stages.{i}{part}" for i in range(len(model.stages)) for part in parts]


def sweep(
    model: CNN | ViT,
    images: Float[Tensor, "n 3 32 32"],
    *,
    random_orders: int,
    seed: int = 0,
    autocast: bool = False,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[str, Any]:
    """Score Grad-CAM at each candidate layer and choose one.

    Args:
        images: images that are not in the test set; each is explained for its predicted class.
        progress: told the number of images done since the last call.

    Returns:
        {"rows": [{"layer", "grid", "degenerate", "deletion", "insertion", …, "chosen"}],
        "reason": a sentence}.
    """
    with torch.inference_mode():
        classes = torch.cat([model(part).argmax(dim=1) for part in images.split(100)])
    raw = {
        name: torch.cat(
            [
                grad_cam(model, part, asked, layer=name)
                for part, asked in zip(images.split(100), classes.split(100), strict=True)
            ]
        )
        for name in candidates(model)
    }
    removal = measure(
        model,
        images,
        classes,
        {name: to_cells(maps).cpu().numpy() for name, maps in raw.items()},
        random_orders=random_orders,
        clusters=classes.cpu().numpy(),
        seed=seed,
        autocast=autocast,
        progress=progress,
    )
    rows: list[dict[str, Any]] = [
        {
            "layer": name,
            "grid": list(maps.shape[1:]),
            "degenerate": int(np.isnan(removal.deletion[name]).sum()),
            **removal.scores(name),
        }
        for name, maps in raw.items()
    ]
    chosen, reason = choose(rows, len(images), removal.ahead, fallback=default_layer(model))
    rows = [row | {"chosen": row["layer"] == chosen} for row in rows]
    return {"rows": rows, "reason": f"{reason} Measured on {len(images)} validation images."}


def choose(
    rows: list[dict[str, Any]],
    n: int,
    ahead: Callable[[str, str], Interval | None],
    *,
    fallback: str,
) -> tuple[str, str]:
    """The deepest layer that the best one was not shown to beat in deletion.

    Only layers with exactly the scoring grid, so that neither model's map is finer than the
    other's, and with a map for nearly every image. Of those that were shown to beat random orders
    and that the best was not shown to beat, the deepest: it has seen most of the image, and a
    lead that the images do not show is not a reason.

    Args:
        rows: from the image to the head.
        n: images that were explained.
        ahead: by how much the first layer's deletion score exceeds the second's, paired.

    Returns:
        Its name and, in a sentence or two, why.
    """
    scored = [
        r
        for r in rows
        if r["grid"] == [GRID, GRID]
        and r["deletion"] is not None
        and r["degenerate"] <= MAX_DEGENERATE * n
    ]
    if not scored:
        return fallback, (
            f"No layer with {GRID} × {GRID} cells has a score and a map for at least "
            f"{100 * (1 - MAX_DEGENERATE):.0f}\N{NARROW NO-BREAK SPACE}% of the images; "
            f"{fallback} is used because it is the last one that the answer depends on."
        )
    best = max(scored, key=lambda row: row["deletion"]["value"])
    leads = {row["layer"]: ahead(best["layer"], row["layer"]) for row in scored}
    level = [
        row
        for row in scored
        if row is best
        or (row["deletion"]["low"] > 0 and not ((lead := leads[row["layer"]]) and lead["low"] > 0))
    ]
    chosen = level[-1]
    left_out = [r["layer"] for r in rows if r["grid"] == [GRID, GRID] and r not in scored]
    besides = f" (too few of their maps say anything: {', '.join(left_out)})" if left_out else ""
    reason = (
        f"Of the layers whose maps have {GRID} × {GRID} cells{besides}, {best['layer']} has the "
        f"highest normalised deletion score, {_told(best['deletion'])}."
    )
    rivals = "; ".join(
        f"{row['layer']}{', by ' + _told(lead) if (lead := leads[row['layer']]) else ''}"
        for row in level
        if row is not best
    )
    if rivals:
        reason += (
            f" That it is ahead of {rivals}, was not shown; of such layers the deepest, "
            f"{chosen['layer']}, is used."
        )
    return chosen["layer"], reason


def _told(score: Interval) -> str:
    value, low, high = (f"{score[key]:z.2f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})".replace("-", "−")
