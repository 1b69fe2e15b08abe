"""What is left of an image without a cue, and what a model without it can still tell."""

import numpy as np
import pytest
import torch

from visavis.metrics import cues

GREY = torch.full((3,), 0.5)


def images(n=4, *, side=32, low=0.0, high=1.0):
    drawn = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))
    return low + (high - low) * drawn


def cells_of(image, cells):
    """The cells of one image, each as bytes, row by row."""
    side = image.shape[-1] // cells
    return [
        image[:, row : row + side, column : column + side].contiguous().numpy().tobytes()
        for row in range(0, cells * side, side)
        for column in range(0, cells * side, side)
    ]


def test_low_and_high_frequencies_add_up_to_the_image():
    original, colour = images(low=0.4, high=0.6), torch.tensor([0.45, 0.5, 0.55])
    low, high = cues.low_pass(original, 1 / 16), cues.high_pass(original, 1 / 16, colour)
    torch.testing.assert_close(low + high - colour[:, None, None], original)
    assert low.std() < 0.3 * original.std()
    torch.testing.assert_close(high.mean(dim=(0, 2, 3)), colour, atol=0.002, rtol=0)


def test_an_image_of_one_colour_has_no_high_frequencies_and_a_blur_leaves_it():
    plain = torch.tensor([0.2, 0.5, 0.9])[None, :, None, None].expand(2, 3, 32, 32)
    torch.testing.assert_close(cues.low_pass(plain, 1 / 16), plain)
    torch.testing.assert_close(cues.high_pass(plain, 1 / 16, GREY), torch.full_like(plain, 0.5))


def test_blur_is_relative_to_the_side_and_never_mixes_images_or_channels():
    small = images(2, side=32)
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    blurred = cues.low_pass(large, 1 / 16)
    halved = torch.nn.functional.avg_pool2d(blurred, 2)
    torch.testing.assert_close(halved, cues.low_pass(small, 1 / 16), atol=0.02, rtol=0)
    torch.testing.assert_close(blurred[1:], cues.low_pass(large[1:], 1 / 16))
    assert cues.low_pass(small * torch.tensor([1.0, 0, 0])[:, None, None], 1 / 16)[:, 1:].max() == 0


def test_greyscale_keeps_luma_and_nothing_else():
    original = images()
    grey = cues.greyscale(original)
    luma = torch.tensor(cues.LUMA)[:, None, None]
    torch.testing.assert_close((grey * luma).sum(1), (original * luma).sum(1))
    assert (grey == grey[:, :1]).all()


@pytest.mark.parametrize(("side", "cells"), [(32, 4), (32, 8), (56, 8), (64, 4)])
def test_shuffling_permutes_cells_exactly_and_is_the_same_twice(side, cells):
    original, seeds = images(side=side), np.array([7, 8, 9, 7])
    moved = cues.shuffled(original, cells, seeds)
    orders = []
    for before, after in zip(original, moved, strict=True):
        found = cells_of(before, cells)
        orders.append([found.index(cell) for cell in cells_of(after, cells)])
        assert sorted(orders[-1]) == list(range(cells**2)) != orders[-1]
    assert orders[0] == orders[3] != orders[1]
    torch.testing.assert_close(cues.shuffled(original, cells, seeds), moved)
    torch.testing.assert_close(cues.shuffled(original[2:], cells, seeds[2:]), moved[2:])


@pytest.mark.parametrize("side", [32, 56])
def test_every_cue_gives_images_again_and_leaves_the_original(side):
    original = images(3, side=side)
    before = original.clone()
    for cue in cues.CUES.values():
        changed = cue.remove(original, GREY, np.arange(3))
        assert changed.shape == original.shape
        assert changed.min() >= 0 and changed.max() <= 1
        assert (changed - original).abs().max() > 0.1
    torch.testing.assert_close(original, before)


def test_a_model_that_reads_colour_alone_falls_to_chance_without_it():
    """Red and green of the same luma, each a class, on bright and dark noise."""
    red, green, _ = cues.LUMA
    tint = torch.tensor([[green, -red, 0.0], [-green, red, 0.0]])
    labels = torch.arange(400) % 2
    noise = images(400, low=0.3, high=0.7).mean(1, keepdim=True)
    drawn = noise + 0.3 * tint[labels][:, :, None, None]

    def accuracy(cue):
        changed = cues.CUES[cue].remove(drawn, GREY, np.arange(400)) if cue else drawn
        redness = (changed[:, 0] - changed[:, 1]).mean(dim=(1, 2))
        return ((redness <= 1e-6).long() == labels).float().mean().item()

    assert accuracy("") == 1
    assert accuracy("greyscale") == 0.5
    assert accuracy("high_pass") == pytest.approx(0.5, abs=0.1)
    for cue in ("blurred", "strongly_blurred", "shuffled_4", "shuffled_8"):
        assert accuracy(cue) == 1
