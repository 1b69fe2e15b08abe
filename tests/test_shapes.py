import numpy as np
import pytest

from visavis import shapes


@pytest.fixture(scope="module")
def drawn():
    return shapes.draw(1_200, seed=5)


def test_same_seed_same_bytes_and_another_seed_others(drawn):
    again = shapes.draw(1_200, seed=5)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
    other_pixels, other_labels, _ = shapes.draw(1_200, seed=6)
    assert not np.array_equal(drawn[0], other_pixels)
    assert not np.array_equal(drawn[1], other_labels)


def test_types_and_balance(drawn):
    pixels, labels, masks = drawn
    assert pixels.dtype == np.uint8 and pixels.shape == (1_200, 32, 32, 3)
    assert labels.dtype == np.int64 and masks.dtype == bool and masks.shape == (1_200, 32, 32)
    assert np.bincount(labels).tolist() == [120] * 10
    assert len(shapes.CLASS_NAMES) == 10


def test_no_drawing_twice(drawn):
    pixels, _, _ = drawn
    assert len({picture.tobytes() for picture in pixels}) == len(pixels)


def test_shapes_vary_in_size_and_place_and_lie_inside(drawn):
    _, _, masks = drawn
    rows = np.flatnonzero(masks.any(axis=(0, 2)))
    columns = np.flatnonzero(masks.any(axis=(0, 1)))
    assert rows[0] <= 1 and rows[-1] >= 30 and columns[0] <= 1 and columns[-1] >= 30
    area = masks.mean(axis=(1, 2))
    assert area.min() > 0.03 and area.max() < 0.4 and area.max() > 4 * area.min()


def test_what_the_mask_covers_stands_out_from_its_surroundings(drawn):
    pixels, _, masks = drawn
    brightness = pixels.mean(axis=3)
    inside = np.array([p[m].mean() for p, m in zip(brightness, masks, strict=True)])
    outside = np.array([p[~m].mean() for p, m in zip(brightness, masks, strict=True)])
    assert np.mean(np.abs(inside - outside) > 25) > 0.95
    # The mask is the shape and not a box around it: inside it, the colour is one.
    spread = np.array([p[m].std(axis=0).mean() for p, m in zip(pixels, masks, strict=True)])
    assert np.median(spread) < 30


def test_mirroring_and_a_small_tilt_keep_the_class_apart(drawn):
    """Two classes never look alike: centred and scaled masks of a class resemble each other most."""
    _, labels, masks = drawn
    prints = np.array([_fingerprint(mask) for mask in masks])
    means = np.array([prints[labels == label].mean(axis=0) for label in range(10)])
    distance = ((prints[:, None] - means[None]) ** 2).sum(axis=(2, 3))
    assert np.mean(distance.argmin(axis=1) == labels) > 0.95


def _fingerprint(mask):
    """The mask, moved to the centre and brought to one size, together with its mirror image."""
    rows, columns = np.nonzero(mask)
    half = max(np.ptp(rows), np.ptp(columns)) / 2 + 0.5
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    steps = np.linspace(-half, half, 16)
    at = [np.clip(np.rint(m + steps), 0, 31).astype(int) for m in middle]
    upright = mask[np.ix_(*at)].astype(float)
    return (upright + upright[:, ::-1]) / 2


def test_colours_place_and_background_do_not_tell_the_class(drawn):
    pixels, labels, masks = drawn
    inside = np.array([p[m].mean(axis=0) for p, m in zip(pixels, masks, strict=True)])
    outside = np.array([p[~m].mean(axis=0) for p, m in zip(pixels, masks, strict=True)])
    place = np.array([np.argwhere(m).mean(axis=0) for m in masks])
    for what in (inside, outside, place):
        of_classes = np.array([what[labels == label].mean(axis=0) for label in range(10)])
        error = what.std(axis=0) / np.sqrt(120)
        assert np.all(np.abs(of_classes - what.mean(axis=0)) < 4.5 * error)


def test_a_linear_classifier_stays_far_below_60_percent():
    """Ridge regression on pixels, the strongest of several penalties taken in its favour."""
    pixels, labels, _ = shapes.draw(3_000, seed=7)
    images = pixels.reshape(3_000, -1).astype(np.float32) / 255 - 0.5
    train, test = images[:2_400], images[2_400:]
    targets = np.eye(10, dtype=np.float32)[labels[:2_400]] - 0.1
    kernel = train @ train.T
    accuracies = []
    for penalty in (1e1, 1e3, 1e5):
        weights = np.linalg.solve(kernel + penalty * np.eye(2_400, dtype=np.float32), targets)
        predicted = (test @ train.T @ weights).argmax(axis=1)
        accuracies.append(np.mean(predicted == labels[2_400:]))
    assert max(accuracies) < 0.4
