import numpy as np
import pytest

from visavis.metrics.background import background_independence

generator = np.random.default_rng(0)
CLASSES = generator.integers(0, 10, 400)


def spots(rows, columns):
    """Maps with a bump around one cell each, as on a torus: no cell is special."""
    row, column = np.mgrid[:8, :8]
    down, across = row - rows[:, None, None], column - columns[:, None, None]
    return np.cos(down * np.pi / 4) + np.cos(across * np.pi / 4)


def test_a_map_of_the_shape_alone_stays_and_one_of_the_background_alone_does_not():
    here, there = generator.uniform(0, 8, (2, 2, 400))
    on_shape = background_independence(CLASSES, CLASSES, spots(*here), spots(*here))
    assert on_shape["map"] == pytest.approx(1)
    elsewhere = background_independence(CLASSES, CLASSES, spots(*here), spots(*there))
    for of in (elsewhere["map"], on_shape["map_baseline"], elsewhere["map_baseline"]):
        assert of.mean() == pytest.approx(0, abs=0.1)


def test_a_map_that_is_the_same_for_all_images_is_all_baseline():
    centred = spots(*np.full((2, 400), 3.5))
    found = background_independence(CLASSES, CLASSES, centred, centred)
    assert found["map"] == pytest.approx(1) and found["map_baseline"] == pytest.approx(1)


def test_predictions_that_stay_are_counted_and_degenerate_maps_are_left_out():
    maps = spots(*generator.uniform(0, 8, (2, 4)))
    flat = maps.copy()
    flat[2] = 0
    found = background_independence(np.array([1, 1, 2, 2]), np.array([1, 3, 2, 2]), maps, flat)
    assert found["prediction"].tolist() == [1, 0, 1, 1]
    assert np.isnan(found["map"]).tolist() == [False, False, True, False]
    assert np.isnan(found["map_baseline"]).tolist() == [False, False, False, True]
