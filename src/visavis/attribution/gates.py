"""What a method must pass on a model before any of its maps is used."""

import torch
from jaxtyping import Float
from torch import Tensor

from visavis.attribution import methods
from visavis.attribution.subject import Subject
from visavis.data.batches import Images, Targets

TOLERANCE = 5e-3
"""Of a map's largest absolute value: more than float32 arithmetic in another order changes, also in
the small differences of large logits that occlusion takes."""


def invalid_because(
    subject: Subject, images: Images, targets: Targets, method: str, *, layer: str | None = None
) -> str | None:
    """Why the method's maps are not valid on this model, or None.

    The maps must be the same in a second call, and when each image is explained alone: a map that
    mixes the images of a batch explains none of them.
    """

    def maps(of: slice) -> Float[Tensor, "k g g"]:
        return methods.explain(subject, images[of], targets[of], method, layer=layer)

    together = maps(slice(None))
    if _differ(together, maps(slice(None))):
        return "not the same in a second call"
    alone = torch.cat([maps(slice(i, i + 1)) for i in range(len(images))])
    return "not the same in another batch" if _differ(together, alone) else None


def _differ(a: Float[Tensor, "n g g"], b: Float[Tensor, "n g g"]) -> bool:
    """Ignores maps that are not finite: each of them is excluded as degenerate."""
    allowed = TOLERANCE * a.abs().amax(dim=(1, 2)) + 1e-12
    apart = (a - b).abs().amax(dim=(1, 2)) > allowed
    return bool((apart & torch.isfinite(a).all(dim=2).all(dim=1)).any())
