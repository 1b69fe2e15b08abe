"""Which layer of the CNN Grad-CAM should look at: decided by numbers."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from visavis.config import GRID
from visavis.metrics import Interval
from visavis.models.cnn import CNN
from visavis.saliency.faithfulness import measure, to_cells
from visavis.saliency.gradcam import default_layer, grad_cam


def candidates(model: CNN) -> list[str]:
    """Both activations of each stage, from the picture to the head.

    Not the convolutions before them: their outputs are not yet centred by the batch norm, and
    Grad-CAM's map is then zero everywhere for many pictures.
    """
    parts = (".activation1", "")
    return [f"stages.{i}{part}" for i in range(len(model.stages)) for part in parts]


def sweep(
    model: CNN,
    images: Float[Tensor, "n 3 32 32"],
    *,
    random_orders: int,
    seed: int = 0,
    autocast: bool = False,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[str, Any]:
    """Score Grad-CAM at each candidate layer and choose one.

    Args:
        images: pictures that are not in the test set; each is explained for its predicted class.
        progress: told the number of pictures done since the last call.

    Returns:
        {"rows": [{"layer", "grid", "deletion", "insertion", "chosen"}], "reason": a sentence}.
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
        seed=seed,
        autocast=autocast,
        progress=progress,
    )
    rows: list[dict[str, Any]] = [
        {"layer": name, "grid": list(maps.shape[1:]), **removal.scores(name)}
        for name, maps in raw.items()
    ]
    chosen, reason = choose(rows, fallback=default_layer(model))
    rows = [row | {"chosen": row["layer"] == chosen} for row in rows]
    return {"rows": rows, "reason": f"{reason} Measured on {len(images)} validation pictures."}


def choose(rows: list[dict[str, Any]], *, fallback: str) -> tuple[str, str]:
    """The deepest layer that no other layer with the scoring grid was shown to beat in deletion.

    Only layers with exactly the scoring grid, so that neither model's map is finer than the
    other's. Among those whose interval reaches into that of the best, the deepest: it has seen most
    of the picture, and a lead that the pictures do not show is not a reason.

    Args:
        rows: from the picture to the head.

    Returns:
        Its name and, in a sentence or two, why.
    """
    scored = [r for r in rows if r["grid"] == [GRID, GRID] and r["deletion"] is not None]
    if not scored:
        return fallback, (
            f"No layer could be scored, since even the oracle is hardly better than random orders; "
            f"{fallback} is used because it is the last one with a grid."
        )
    best = max(scored, key=lambda row: row["deletion"]["value"])
    level = [row for row in scored if row["deletion"]["high"] >= best["deletion"]["low"]]
    chosen = level[-1]
    reason = (
        f"Of the {len(scored)} layers whose maps have {GRID} × {GRID} cells, as the ViT's have, "
        f"{best['layer']} has the highest normalised deletion score, {_told(best['deletion'])}."
    )
    rivals = "; ".join(f"{r['layer']}, {_told(r['deletion'])}" for r in level if r is not best)
    if rivals:
        reason += (
            f" Its interval overlaps with that of {rivals}: no difference to these was shown, and "
            f"of such layers the deepest, {chosen['layer']}, is used."
        )
    return chosen["layer"], reason


def _told(score: Interval) -> str:
    return f"{score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f})"
