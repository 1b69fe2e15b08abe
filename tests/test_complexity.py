import numpy as np
import pytest

from visavis.metrics import baselines, complexity


def test_gini_from_equal_cells_to_a_single_one():
    equal, one = np.full((1, 8, 8), 3.0), np.zeros((1, 8, 8))
    one[0, 2, 5] = -7
    assert complexity.gini(equal)[0] == pytest.approx(0)
    assert complexity.gini(one)[0] == pytest.approx(1 - 1 / 64)
    by_hand = np.array([[[3.0, 0], [0, -1]]])  # (1 x 1 + 3 x 3) / (4 x 4)
    assert complexity.gini(by_hand)[0] == pytest.approx(10 / 16)
    maps = np.random.default_rng(0).normal(size=(5, 8, 8))
    np.testing.assert_allclose(complexity.gini(-9 * maps), complexity.gini(maps))
    assert np.isnan(complexity.gini(np.zeros((1, 8, 8))))[0]


def test_the_largest_part_is_connected_by_edges_and_counted_among_the_highest_fifth():
    maps = np.zeros((4, 8, 8))
    maps[0, :2, :6] = maps[0, 2, 0] = 1  # 13 cells in one piece
    maps[1, :2, :4] = maps[1, 5, :5] = 1  # 8 and 5
    maps[2, ::2, ::2] = 1  # 16 of which none touch another: 13 are drawn
    maps[3, [0, 1], [0, 1]] = 2  # corners do not connect
    maps[3, 4:6, :5] = maps[3, 6, 0] = 1
    np.testing.assert_allclose(complexity.largest_part(maps), [1, 8 / 13, 1 / 13, 11 / 13])
    scattered = baselines.random_maps(300, 8, seed=0)
    assert complexity.largest_part(scattered).mean() < 0.5
    assert (complexity.largest_part(baselines.centre_maps(2, 8)) == 1).all()
