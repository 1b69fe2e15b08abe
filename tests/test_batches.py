import numpy as np
import pytest
import torch

from visavis.config import OptimConfig
from visavis.data.batches import (
    EvaluationBatches,
    Stored,
    TrainingBatches,
    cutmix,
    hold,
    to_images,
)

PLAIN = OptimConfig(batch_size=7, flip=False, shift=0)


def numbered(n, *, side=32):
    """Images whose first pixel says which they are."""
    pixels = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(n)
    return pixels, torch.arange(n)


def test_images_are_channels_first_in_zero_to_one():
    pixels = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    pixels[1, 5, 6, 2] = 255
    images = to_images(pixels)
    assert images.shape == (2, 3, 32, 32)
    assert images[1, 2, 5, 6] == 1
    assert images.sum() == 1


def test_an_epoch_sees_each_image_at_most_once_and_leaves_out_less_than_a_batch():
    pixels, labels = numbered(50)
    batches = list(TrainingBatches(pixels, labels, PLAIN, seed=0, epoch=0))
    seen = torch.cat([batch_labels for _, batch_labels, *_ in batches])
    assert len(batches) == 7
    assert len(seen) == len(seen.unique()) == 49
    images = torch.cat([images for images, *_ in batches])
    assert torch.equal(images, pixels[seen].float() / 255)  # each with its own label


def test_an_epoch_repeats_from_seed_and_number_alone():
    pixels, labels = numbered(50)
    config = OptimConfig(batch_size=7, cutout=8)

    def epoch(seed, number):
        return torch.cat(
            [x for x, *_ in TrainingBatches(pixels, labels, config, seed=seed, epoch=number)]
        )

    assert torch.equal(epoch(0, 3), epoch(0, 3))
    assert not torch.equal(epoch(0, 3), epoch(0, 4))
    assert not torch.equal(epoch(0, 3), epoch(1, 3))


@pytest.mark.parametrize("crop", [0, 32])
def test_images_in_a_file_give_the_batches_of_images_in_memory(tmp_path, crop):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (60, 40, 40, 3), np.uint8)
    rows, labels = generator.permutation(60)[:45], torch.arange(45)
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    config = OptimConfig(batch_size=7, crop=crop, cutout=8, cutmix=0.5, epochs=3)
    held, stored = (hold(of, rows, torch.device("cpu")) for of in (pixels, mapped))
    assert isinstance(held, torch.Tensor) and isinstance(stored, Stored)
    assert held.shape == stored.shape and torch.equal(held[:9], stored[:9])
    for epoch in (0, 2):
        for one, other in zip(
            *(TrainingBatches(of, labels, config, seed=1, epoch=epoch) for of in (held, stored)),
            strict=True,
        ):
            assert all(map(torch.equal, one, other))
    for one, other in zip(
        *(EvaluationBatches(of, labels, batch_size=7) for of in (held, stored)), strict=True
    ):
        assert all(map(torch.equal, one, other))


def test_evaluation_sees_each_image_exactly_once_in_order():
    pixels, labels = numbered(50)
    seen = [y for _, y in EvaluationBatches(pixels, labels, batch_size=7)]
    assert torch.equal(torch.cat(seen), labels)


def test_one_half_is_mirrored_in_even_epochs_and_the_other_in_odd_ones():
    pixels, labels = numbered(200)
    config = OptimConfig(batch_size=200, shift=0)

    def mirrored(epoch):
        images, seen, *_ = next(iter(TrainingBatches(pixels, labels, config, seed=0, epoch=epoch)))
        plain = pixels[seen].float() / 255
        same = (images == plain).flatten(1).all(dim=1)
        flipped = (images == plain.flip(3)).flatten(1).all(dim=1)
        assert (same ^ flipped).all()
        return set(seen[flipped].tolist())

    assert 70 < len(mirrored(0)) < 130
    assert mirrored(1) == set(range(200)) - mirrored(0)
    assert mirrored(2) == mirrored(0)


def test_shift_moves_every_way_and_reflects_at_the_edge():
    config = OptimConfig(batch_size=300, flip=False, shift=2, epochs=1)
    pixels = torch.zeros(300, 3, 32, 32, dtype=torch.uint8)
    pixels[:, :, 16, 16] = 255
    moved = only_batch(pixels, config)
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in range(14, 19) for column in range(14, 19)}
    edge = torch.arange(32, dtype=torch.uint8).expand(300, 3, 32, 32).contiguous()
    moved = (only_batch(edge, config) * 255).round().int()
    assert {tuple(row[:3]) for row in moved[:, 0, 0].tolist()} == {
        (2, 1, 0), (1, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 4)
    }  # fmt: skip


@pytest.mark.parametrize("side", [7, 8])
def test_cutout_masks_one_square(side):
    pixels = torch.zeros(50, 3, 32, 32, dtype=torch.uint8)
    pixels[:, :, ::2] = 255
    config = OptimConfig(batch_size=50, flip=False, shift=0, cutout=side, epochs=1)
    cut = only_batch(pixels, config) != pixels.float() / 255
    for masked in cut[:, 0]:
        rows, columns = masked.nonzero().T
        assert masked.sum() == len(rows.unique()) * len(columns.unique())
        assert 1 <= len(columns.unique()) <= side
    assert cut[:, 0].any(dim=1).sum(dim=1).max() == side  # the edge of the image cuts off some
    assert cut[:, 0].any(dim=2).sum(dim=1).max() == side


def only_batch(pixels, config):
    labels = torch.arange(len(pixels))
    ((images, *_),) = TrainingBatches(pixels, labels, config, seed=0, epoch=0)
    return images


@pytest.mark.parametrize(("side", "full"), [(24, 32), (25, 32), (40, 48)])
def test_the_first_epochs_see_random_crops_from_anywhere_inside_their_image(side, full):
    pixels, labels = numbered(400, side=full)
    config = OptimConfig(
        batch_size=400, flip=False, shift=2, crop=side, epochs=3, full_image_epochs=1
    )

    def epoch(number):
        return next(iter(TrainingBatches(pixels, labels, config, seed=0, epoch=number)))

    assert epoch(2)[0].shape[2:] == (full, full)
    images, seen, *_ = epoch(1)
    corners = []
    for image, original in zip(images, pixels[seen].float() / 255, strict=True):
        crops = original.unfold(1, side, 1).unfold(2, side, 1)
        same = (crops == image[:, None, None]).all(dim=(3, 4)).all(dim=0)
        assert same.sum() == 1
        corners.append(tuple(same.nonzero()[0].tolist()))
    assert {row for row, _ in corners} == set(range(full + 1 - side))
    assert {column for _, column in corners} == set(range(full + 1 - side))


def test_the_cost_of_epochs_is_their_fraction_of_the_area():
    config = OptimConfig(epochs=4, crop=16, full_image_epochs=1)
    assert [config.side(epoch, 32) for epoch in range(4)] == [16, 16, 16, 32]
    assert config.cost(32) == 3 / 4 + 1
    assert config.cost(32, 2) == 1 / 4 + 1
    assert OptimConfig(epochs=4).cost(64) == 4


def test_cutmix_is_off_in_the_full_image_epochs():
    pixels, labels = numbered(40)
    config = OptimConfig(batch_size=40, epochs=2, full_image_epochs=1, cutmix=1.0)

    def mixed(epoch):
        ((*_, fraction),) = TrainingBatches(pixels, labels, config, seed=0, epoch=epoch)
        return fraction

    assert (mixed(0) > 0).sum() > 30
    assert not mixed(1).any()


def test_cutmix_takes_a_rectangle_of_the_image_before_and_returns_its_fraction():
    images = torch.arange(2000).float()[:, None, None, None].expand(2000, 3, 24, 24)
    draws = torch.rand(4, 2000, generator=torch.Generator().manual_seed(0))
    mixed, share = cutmix(images, 0.5, draws)
    foreign = (mixed != images)[:, 0]
    assert torch.equal(mixed[:, 0][foreign], images.roll(1, 0)[:, 0][foreign])
    assert torch.equal((mixed != images).all(dim=1), foreign)
    assert torch.allclose(foreign.float().mean(dim=(1, 2)), share)
    assert 900 < (share > 0).sum() < 1050
    # s^2 is even from 0 to 1, s (1 - s / 4) of a side is left: (s - s^2 / 4)^2 is 0.32 in the mean.
    assert share[share > 0].mean() == pytest.approx(0.32, abs=0.03)
    assert foreign.any(dim=0).all()
    for rectangle in foreign[share > 0]:
        rows, columns = rectangle.nonzero().T
        assert rectangle.sum() == len(rows.unique()) * len(columns.unique())
