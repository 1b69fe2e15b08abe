import numpy as np
import pytest
import torch

import tiny
from small import dataset
from test_faithfulness import Linear, bright
from visavis.config import OptimConfig
from visavis.metrics import baselines
from visavis.metrics.idsds import logit_drops, score, single_deletions
from visavis.stages.explain.in_domain import adapted, with_masked_regions


def test_on_a_linear_model_the_truth_scores_one_and_chance_zero():
    model, images = Linear(), bright(200)
    drops = logit_drops(tiny.subject(model), images, torch.ones(200, dtype=torch.int64))
    truth = model.truth(images).astype(np.float32)
    np.testing.assert_allclose(
        drops, truth.reshape(200, 4, 2, 4, 2).sum(axis=(2, 4)), atol=1e-5, rtol=0
    )
    np.testing.assert_allclose(score(truth, drops), 1)
    np.testing.assert_allclose(score(-truth, drops), -1)
    assert score(baselines.random_maps(200, 8, seed=1), drops).mean() == pytest.approx(0, abs=0.06)
    assert np.isnan(score(np.zeros_like(truth), drops)).all()


def test_each_of_the_sixteen_cells_is_deleted_once():
    left = single_deletions(8)
    assert left.shape == (16, 8, 8)
    assert ((~left).sum(axis=0) == 1).all()
    assert ((~left).sum(axis=(1, 2)) == 4).all()
    assert not left[6, 2:4, 4:6].any()  # second row, third column


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_the_copy_learns_and_the_model_stays(kind):
    model, data = tiny.model(kind), dataset()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = np.arange(100)
    settings = OptimConfig(batch_size=20)
    copies = [adapted(tiny.subject(model), settings, data, rows, sample=40) for _ in range(2)]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training and not copies[0].model.training
    first, again = (copied.model.state_dict() for copied in copies)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], before[name]) for name in first)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_half_of_the_images_have_one_cell_masked_by_the_mean_colour():
    model, images = tiny.model("cnn"), tiny.images(400)
    masked = with_masked_regions(tiny.subject(model), images, np.random.default_rng(0))
    changed = (masked != images).any(dim=1)
    counts = changed.flatten(1).sum(dim=1)
    assert set(counts.tolist()) == {0, 64}
    assert 160 < (counts > 0).sum() < 240
    mean = model.normalize.mean.expand_as(images)
    assert (
        masked[changed[:, None].expand_as(masked)] == mean[changed[:, None].expand_as(masked)]
    ).all()
    assert (
        (
            with_masked_regions(tiny.subject(model), images, np.random.default_rng(0), fraction=1.0)
            != images
        )
        .any(dim=(1, 2, 3))
        .all()
    )
