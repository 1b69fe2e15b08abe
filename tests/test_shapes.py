from typing import get_args

import numpy as np
import pytest
from scipy import ndimage

from visavis.data import shapes
from visavis.data.dataset import Change


@pytest.fixture(scope="module")
def drawn():
    return shapes.draw(1_200, seed=5)


@pytest.fixture(scope="module")
def changed():
    return {change: shapes.draw(1_200, 5, change) for change in get_args(Change)}


@pytest.fixture(scope="module")
def dataset():
    return shapes.dataset()


def test_the_seed_determines_the_images(drawn):
    again = shapes.draw(1_200, seed=5)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
    other_pixels, other_labels, _ = shapes.draw(1_200, seed=6)
    assert not np.array_equal(drawn[0], other_pixels)
    assert not np.array_equal(drawn[1], other_labels)


def test_types_and_balance(drawn):
    pixels, labels, masks = drawn
    assert (pixels.dtype, pixels.shape) == (np.uint8, (1_200, 32, 32, 3))
    assert (labels.dtype, labels.shape) == (np.int64, (1_200,))
    assert (masks.dtype, masks.shape) == (bool, (1_200, 32, 32))
    assert np.bincount(labels).tolist() == [120] * 10
    assert len(shapes.CLASS_NAMES) == 10


def test_no_image_occurs_twice(drawn):
    pixels, _, _ = drawn
    assert len({image.tobytes() for image in pixels}) == len(pixels)


def test_shapes_vary_in_size_and_place_and_lie_inside(drawn):
    _, _, masks = drawn
    rows = np.flatnonzero(masks.any(axis=(0, 2)))
    columns = np.flatnonzero(masks.any(axis=(0, 1)))
    assert max(rows[0], columns[0]) <= 1  # they reach every edge
    assert min(rows[-1], columns[-1]) >= 30
    area = masks.mean(axis=(1, 2))
    assert 0.03 < area.min() < 0.06
    assert 0.2 < area.max() < 0.4


def test_what_the_mask_covers_contrasts_with_its_surroundings(drawn):
    pixels, _, masks = drawn
    clear = _clear(pixels, masks)
    assert 0.94 < clear.mean() < 0.99  # all but the few that are faint on purpose
    pixels, masks = pixels[clear], masks[clear]
    # The mask is the shape and not a box around it: inside it there is one colour.
    spread = [p[m].std(axis=0).mean() for p, m in zip(pixels, masks, strict=True)]
    assert np.median(spread) < 20


def _clear(pixels, masks):
    inside, outside = _mean_colours(pixels, masks), _mean_colours(pixels, ~masks)
    return np.abs(inside - outside).max(axis=1) > 45


def _mean_colours(pixels, masks):
    return np.array([p[m].mean(axis=0) for p, m in zip(pixels, masks, strict=True)])


def test_mirroring_and_a_small_tilt_keep_the_class_apart(drawn):
    """After centring and scaling, the masks of a class are closest to their own mean."""
    _, labels, masks = drawn
    assert np.mean(_closest(masks, drawn) == labels) > 0.95


def _closest(masks, drawn):
    """The class whose mean mask is closest to each mask."""
    prints, all_prints = (np.array([_fingerprint(m) for m in of]) for of in (masks, drawn[2]))
    means = np.array([all_prints[drawn[1] == label].mean(axis=0) for label in range(10)])
    return ((prints[:, None] - means[None]) ** 2).sum(axis=(2, 3)).argmin(axis=1)


def _fingerprint(mask):
    """The mask, centred and scaled, averaged with its mirror image."""
    rows, columns = np.nonzero(mask)
    half = max(np.ptp(rows), np.ptp(columns)) / 2 + 0.5
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    steps = np.linspace(-half, half, 16)
    at = [np.clip(np.rint(m + steps), 0, 31).astype(int) for m in middle]
    upright = mask[np.ix_(*at)].astype(float)
    return (upright + upright[:, ::-1]) / 2


def test_colours_place_and_background_do_not_reveal_the_class(drawn):
    pixels, labels, masks = drawn
    inside, outside = _mean_colours(pixels, masks), _mean_colours(pixels, ~masks)
    place = np.array([np.argwhere(m).mean(axis=0) for m in masks])
    for what, slack in ((inside, 0), (outside, 0), (place, 1)):  # no outline is exactly centred
        of_classes = np.array([what[labels == label].mean(axis=0) for label in range(10)])
        error = what.std(axis=0) / np.sqrt(120)
        assert np.all(np.abs(of_classes - what.mean(axis=0)) < 4.5 * error + slack)


def test_a_linear_classifier_stays_far_below_60_percent():
    """Ridge regression on pixels, the strongest of several penalties chosen in its favour."""
    pixels, labels, _ = shapes.draw(1_500, seed=7)
    images = pixels.reshape(1_500, -1).astype(np.float32) / 255 - 0.5
    train, test = images[:1_100], images[1_100:]
    targets = np.eye(10, dtype=np.float32)[labels[:1_100]] - 0.1
    kernel = train @ train.T
    accuracies = []
    for penalty in (1e1, 1e3, 1e5):
        weights = np.linalg.solve(kernel + penalty * np.eye(1_100, dtype=np.float32), targets)
        predicted = (test @ train.T @ weights).argmax(axis=1)
        accuracies.append(np.mean(predicted == labels[1_100:]))
    assert max(accuracies) < 0.4


def test_the_built_in_data_set_never_changes(dataset):
    """Results on the shapes are comparable between versions and machines."""
    expected = "d66df1487d4e6fb3cff21d8d9a4d427dfcadd06379e311c174dfbbe9c05bec1a"
    assert dataset.fingerprint == expected


def test_a_clean_plate_is_the_image_without_its_shape(drawn, changed):
    pixels, labels, masks = drawn
    plates, plate_labels, plate_masks = changed["clean_plate"]
    assert np.array_equal(plates[~_with_rim(masks)], pixels[~_with_rim(masks)])
    clear = _clear(pixels, masks)
    assert (plates != pixels)[clear].any(axis=-1)[masks[clear]].mean() > 0.99
    assert _clear(plates, masks)[clear].mean() < 0.05  # clutter that lay behind the shape
    assert np.array_equal(plate_labels, labels)
    assert not plate_masks.any()


def test_another_shape_takes_the_place_of_the_first(drawn, changed):
    pixels, labels, masks = drawn
    others, other_labels, other_masks = changed["other_shape"]
    outside = ~_with_rim(masks | other_masks)
    assert np.array_equal(others[outside], pixels[outside])
    assert (other_labels != labels).all()
    assert np.bincount(other_labels).min() > 80
    assert np.mean(_closest(other_masks, drawn) == other_labels) > 0.95
    clear = _clear(pixels, masks)
    both = _without_rim(masks[clear] & other_masks[clear])
    assert both.any(axis=(1, 2)).mean() > 0.4  # not where one is thin
    assert np.array_equal(others[clear][both], pixels[clear][both])


def test_another_colour_changes_the_shape_alone(drawn, changed):
    pixels, labels, masks = drawn
    others, other_labels, other_masks = changed["other_colour"]
    assert np.array_equal(other_labels, labels) and np.array_equal(other_masks, masks)
    assert np.array_equal(others[~_with_rim(masks)], pixels[~_with_rim(masks)])
    clear = _clear(pixels, masks)
    assert np.array_equal(_clear(others, masks), clear)
    inside, other_inside = _mean_colours(pixels, masks), _mean_colours(others, masks)
    assert np.median(np.abs(inside - other_inside).max(axis=1)[clear]) > 60


def test_another_background_leaves_the_shape_as_it_was_and_as_clear(drawn, changed):
    pixels, labels, masks = drawn
    others, other_labels, other_masks = changed["other_background"]
    assert np.array_equal(other_labels, labels) and np.array_equal(other_masks, masks)
    clear = _clear(pixels, masks)
    inside = _without_rim(masks[clear])
    assert np.array_equal(others[clear][inside], pixels[clear][inside])
    assert (others != pixels).any(axis=-1)[~masks].mean() > 0.95
    assert np.mean(_clear(others, masks)[clear]) > 0.97


def test_changes_of_the_test_images_go_with_the_data_set(dataset):
    outside = ~_with_rim(dataset.test_masks)
    plates, labels, _ = shapes.draw_test("clean_plate")
    assert np.array_equal(plates[outside], dataset.test_pixels[outside])
    assert np.array_equal(labels, dataset.test_labels)


def _with_rim(masks):
    """All pixels that the shape covers, if only in part; thin tips reach beyond the mask."""
    return ndimage.binary_dilation(masks, np.ones((1, 7, 7)))


def _without_rim(masks):
    """Pixels that the shape covers in full."""
    return ndimage.binary_erosion(masks, np.ones((1, 5, 5)), border_value=1)
