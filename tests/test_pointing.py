import numpy as np
import pytest

from visavis.metrics import baselines
from visavis.metrics.composites import Composites, composites, energies, recognised


@pytest.fixture(scope="module")
def images():
    """Pixel values encode the image, the column and the row, so that each can be traced."""
    pixels = np.zeros((40, 32, 32, 3), dtype=np.uint8)
    pixels[..., 0] = np.arange(40)[:, None, None]
    pixels[..., 1] = np.arange(32)[None, None, :]
    pixels[..., 2] = np.arange(32)[None, :, None]
    return pixels, np.arange(40) % 4


def test_halves_are_the_middles_of_two_images_of_different_classes(images):
    pixels, labels = images
    made: Composites = composites("halves", pixels, labels, grid=8, count=100)
    left, right = made.pixels[:, :, :16], made.pixels[:, :, 16:]
    for half, classes in ((left, made.classes[:, 0]), (right, made.classes[:, 1])):
        which = half[:, 0, 0, 0]
        assert (half[..., 0] == which[:, None, None]).all()
        np.testing.assert_array_equal(labels[which], classes)
        assert (half[..., 1] == np.arange(8, 24)).all()  # cropped, not resized
        assert (half[..., 2] == np.arange(32)[:, None]).all()
    assert (made.classes[:, 0] != made.classes[:, 1]).all()
    assert (made.region[:, :, :4] == 1).all() and (made.region[:, :, 4:] == 0).all()


def test_a_box_lies_in_whole_cells_where_its_region_says(images):
    pixels, labels = images
    made = composites("box", pixels, labels, grid=8, count=100)
    assert set(made.region.sum(axis=(1, 2))) == {16.0}
    made = composites(
        "box", np.repeat(pixels, 10, axis=0), np.repeat(labels, 10), grid=8, count=400
    )
    covered = made.region.mean(axis=0)
    assert covered.min() > 0.17 and covered.max() < 0.33  # no cell has an advantage
    inside = made.region.repeat(4, axis=1).repeat(4, axis=2) == 1
    for image, where, (box, around) in zip(made.pixels, inside, made.classes, strict=True):
        assert labels[np.unique(image[where][:, 0])].tolist() == [box]
        assert labels[np.unique(image[~where][:, 0])].tolist() == [around]


def test_a_centred_map_has_chance_on_boxes():
    labels = np.arange(1000) % 10
    made = composites("box", np.zeros((1000, 32, 32, 3), np.uint8), labels, grid=8, count=1000)
    centred = baselines.centre_maps(len(made.region), 8)
    share = energies(centred, centred, made.region)[:, 0].mean()
    assert share == pytest.approx(0.25, abs=0.005)


def test_each_image_is_used_once_on_each_side(images):
    made = composites("halves", *images, grid=8, count=100)
    assert len(made.pixels) <= 40
    for column in (0, 31):
        used = made.pixels[:, 0, column, 0]
        assert len(set(used.tolist())) == len(used)


def test_the_same_composites_every_time_and_others_with_another_seed(images):
    first, again, other = (composites("box", *images, grid=8, count=30, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


def test_one_class_alone_makes_no_composite(images):
    made = composites("halves", images[0], np.zeros(40, dtype=np.int64), grid=8, count=3)
    assert made.pixels.shape == (0, 32, 32, 3)


def test_both_classes_must_be_the_two_highest():
    classes = np.array([[0, 2], [0, 2], [0, 2]])
    logits = np.array([[5, 1, 4], [1, 5, 4], [4.0, 1, 5]])
    assert recognised(logits, classes).tolist() == [True, False, True]


def test_energies_of_a_class_agnostic_map_sum_to_one_and_the_truth_has_one_each():
    made = composites(
        "halves", np.zeros((300, 32, 32, 3), np.uint8), np.arange(300) % 5, grid=8, count=300
    )
    agnostic = baselines.random_maps(len(made.region), 8, seed=1)
    both = energies(agnostic, agnostic, made.region)
    np.testing.assert_allclose(both.sum(axis=1), 1, rtol=1e-6)
    assert both.mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(energies(made.region, 1 - made.region, made.region), 1)
    np.testing.assert_allclose(energies(1 - made.region, made.region, made.region), 0)
    negative = energies(-made.region, -made.region, made.region)
    assert np.isnan(negative).all()  # negative relevance is not counted
