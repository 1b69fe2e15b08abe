"""Occlusion with the Captum library."""

import torch
from jaxtyping import Float
from torch import Tensor

from visavis.attribution.frozen import BATCH, frozen
from visavis.attribution.subject import Subject
from visavis.data.batches import Images


def occlusion(subject: Subject, images: Images) -> Float[Tensor, "n classes g g"]:
    """How much each class's logit drops when one cell is masked, for all classes at once.

    A masked cell takes the training images' mean colour, as in the metrics of `faithfulness`.

    Returns:
        Signed, in units of the logit: below 0 a cell is evidence against the class.

    Source: Zeiler & Fergus 2014 (arXiv 1311.2901), section 4.2, with windows that do not overlap.
    """
    from captum.attr import Occlusion

    side = subject.cell_side
    with frozen(subject.model), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        # Each output of the forward function gets its own map: here each class of each image.
        attributions = Occlusion(subject).attribute(
            images,
            sliding_window_shapes=(3, side, side),
            strides=(3, side, side),
            baselines=subject.fill.expand_as(images),
            perturbations_per_eval=max(1, BATCH // max(len(images), 1)),
        )
    corners = attributions[:, 0, ::side, ::side]  # all pixels of a cell are equal
    return corners.float().unflatten(0, (len(images), -1))
