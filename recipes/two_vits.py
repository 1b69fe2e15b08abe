"""Two ViTs that differ in their patches alone: for recipes/two_vits.sh."""

from collections.abc import Callable

from visavis import register_model
from visavis.config import ViTConfig
from visavis.models.vit import ViT


def vit(patch_size: int) -> Callable[[int, int], ViT]:
    """The ViT of the preset `quick`, with patches of that side."""
    config = ViTConfig(patch_size=patch_size, width=192, depth=4)
    return lambda classes, side: ViT(config, classes, side)


register_model("vit-4", vit(4))
register_model("vit-8", vit(8))
