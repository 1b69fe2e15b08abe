import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from visavis.attribution import Subject
from visavis.metrics import shapley


def values(game, players, *, pairs=1):
    generator = np.random.default_rng(0)
    return shapley.shapley_values(game, players, pairs=pairs, generator=generator)


def test_in_an_additive_game_each_player_gets_its_own_weight():
    weights = np.random.default_rng(1).normal(size=7)
    np.testing.assert_allclose(values(lambda joined: 3 + joined @ weights, 7), weights)


def test_two_players_who_need_each_other_share_the_gain():
    found = values(lambda joined: (joined[:, 1] & joined[:, 4]).astype(float), 6)
    np.testing.assert_allclose(found, [0, 0.5, 0, 0, 0.5, 0])


def test_three_who_need_one_another_get_a_third_each_and_the_sum_is_exact():
    found = values(lambda joined: 2 - joined[:, :3].all(axis=1), 5, pairs=2_000)
    np.testing.assert_allclose(found, [-1 / 3, -1 / 3, -1 / 3, 0, 0], atol=0.03)
    assert found.sum() == pytest.approx(-1)


class Known(nn.Module):
    """The probability of class 1 is a function of the cells' brightness."""

    def __init__(self, probability):
        super().__init__()
        self.probability = probability

    def forward(self, images):
        chance = self.probability(avg_pool2d(images.mean(dim=1), 4))
        return torch.stack([1 - chance, chance], dim=1).log()


def of_cells(probability, images, fills, region, target=1):
    subject = Subject(Known(probability), torch.rand(2, 3, 32, 32), grid=8)
    targets = torch.full((len(images),), target)
    return shapley.of_cells(subject, images, targets, region, fills=fills, pairs=2)


def test_where_the_probability_is_a_sum_each_cell_of_the_region_gets_its_part():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(8, 8, generator=generator) / 64
    images, fills = torch.rand(2, 2, 3, 32, 32, generator=generator)
    region = np.zeros((2, 32, 32), dtype=bool)
    region[0, 3:10, 17:21] = True  # touches three rows and two columns of cells
    found = of_cells(lambda cells: (cells * weights).sum(dim=(1, 2)), images, fills, region)
    expected = weights * avg_pool2d((images - fills).mean(dim=1), 4)
    np.testing.assert_allclose(found[0, :3, 4:6], expected[0, :3, 4:6], atol=1e-6)
    assert np.count_nonzero(found) == 6  # the second image has no region


def test_two_cells_of_which_the_prediction_needs_both_share_its_probability():
    images, fills = torch.ones(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    everywhere = np.ones((1, 32, 32), dtype=bool)

    def both(cells):
        return 0.1 + 0.8 * cells[:, 2, 3] * cells[:, 6, 0]

    expected = np.zeros((1, 8, 8))
    expected[0, 2, 3] = expected[0, 6, 0] = 0.4
    np.testing.assert_allclose(of_cells(both, images, fills, everywhere), expected, atol=1e-6)
    other_class = of_cells(both, images, fills, everywhere, target=0)
    np.testing.assert_allclose(other_class, -expected, atol=1e-6)
