import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

import tiny
from visavis.attribution.batched import to_cells
from visavis.attribution.degenerate import degenerate_reasons
from visavis.metrics import baselines, localization
from visavis.metrics.bootstrap import interval
from visavis.metrics.faithfulness import contrast, kept_cells, measure, removal_order
from visavis.metrics.masking import fills_for, probabilities
from visavis.models.normalize import Normalize
from visavis.stages.explain import layers


class Linear(nn.Module):
    """Class 1's logit is a weighted sum of the cells' brightness: the truth is known."""

    def __init__(self, *, weight=1.0, seed=0):
        super().__init__()
        self.normalize = Normalize()
        self.head = nn.Linear(64, 2)
        cells = torch.rand(64, generator=torch.Generator().manual_seed(seed)) * weight
        with torch.no_grad():
            self.head.weight.copy_(torch.stack([torch.zeros(64), cells]))
            self.head.bias.copy_(torch.tensor([0.0, 0.0]))

    def forward(self, images):
        return self.head(avg_pool2d((images - self.normalize.mean).mean(dim=1), 4).flatten(1))

    def truth(self, images):
        """What each cell adds to class 1's logit."""
        cells = avg_pool2d((images - self.normalize.mean).mean(dim=1), 4)
        return (cells * self.head.weight[1].view(8, 8)).detach().numpy()


def bright(n):
    """Images of cells with different brightness, all above the mean colour."""
    cells = 0.5 + 0.5 * torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return cells.repeat_interleave(4, 2).repeat_interleave(4, 3).repeat(1, 3, 1, 1)


def ones(n):
    return torch.ones(n, dtype=torch.int64)


def test_on_a_linear_model_the_truth_has_the_highest_srg_its_opposite_minus_that_and_chance_none():
    model, images = Linear(), bright(150)
    truth = model.truth(images)
    maps = {
        "truth": truth,
        "other scale": 1000 * truth**3,
        "opposite": -truth,
        "zero": np.zeros_like(truth),
        **{f"random {seed}": baselines.random_maps(150, 8, seed=seed) for seed in range(5)},
        "blob": baselines.blob_maps(150, 8, seed=0),
    }
    removal = measure(tiny.subject(model), images, ones(150), maps)
    best = removal.srg("truth")
    assert best.min() > 0.05
    np.testing.assert_allclose(removal.srg("other scale"), best, atol=1e-6)
    np.testing.assert_allclose(removal.srg("opposite"), -best, atol=1e-6)
    for name in ("random 0", "random 1", "blob"):
        assert (removal.srg(name) < best).all()
        score = removal.scores(name)["srg"]
        assert score["low"] < 0.01 and score["high"] > -0.01
    assert set(removal.scores("zero").values()) == {None}
    lead = removal.ahead("truth", "random 0")
    assert lead["value"] == pytest.approx((best - removal.srg("random 0")).mean())
    assert lead["low"] > 0


class NeedsAll(nn.Module):
    """Class 1 has a probability of 0.9 if a region is untouched, otherwise of 0.1."""

    def __init__(self, region):
        super().__init__()
        self.normalize = Normalize()
        self.region = region

    def forward(self, images):
        cells = avg_pool2d((images - self.normalize.mean).mean(dim=1), 4)
        whole = (cells[:, self.region] > 0.3).all(dim=1)
        return torch.where(whole, 2.0, -2.0)[:, None] * torch.tensor([0.0, np.log(9) / 2])


def test_srg_of_a_region_that_must_be_whole_by_hand():
    region = torch.zeros(8, 8, dtype=torch.bool)
    region[2:4, 2:6] = True  # 8 cells: those of the first step
    model, images = NeedsAll(region), torch.full((30, 3, 32, 32), 0.9)
    truth = np.broadcast_to(region.numpy().astype(np.float32), (30, 8, 8))
    removal = measure(tiny.subject(model), images, ones(30), {"truth": truth, "not": -truth})
    # With the mean colour, the first step of deletion destroys the region, and no step of insertion
    # touches it. The blur of an even image is the image.
    np.testing.assert_allclose(removal.deletion["truth"], [[0.1, 0.9]] * 30, atol=1e-6)
    np.testing.assert_allclose(removal.insertion["truth"], [[0.9, 0.9]] * 30, atol=1e-6)
    assert removal.srg("truth").mean() == pytest.approx(0.4)
    assert removal.scores("truth")["srg_mean_fill"]["value"] == pytest.approx(0.8)
    assert removal.scores("truth")["srg_blur_fill"]["value"] == pytest.approx(0)
    np.testing.assert_allclose(removal.srg("not"), -0.4, atol=1e-6)


def test_contrast_is_the_gain_that_the_runner_ups_map_has_not():
    model, images = Linear(), bright(30)
    truth, other = model.truth(images), baselines.random_maps(30, 8, seed=0)
    one, same, unlike = (
        measure(tiny.subject(model), images, ones(30), {"map": maps})
        for maps in (truth, truth.copy(), other)
    )
    np.testing.assert_array_equal(contrast(one, same, "map"), 0)
    np.testing.assert_allclose(contrast(one, unlike, "map"), one.srg("map") - unlike.srg("map"))


def test_cells_that_a_relu_made_equal_are_ordered_by_the_signed_map():
    model, images = Linear(), bright(30)
    truth = model.truth(images)
    signed = truth - np.median(truth, axis=(1, 2), keepdims=True)
    cut = np.maximum(signed, 0)
    of = tiny.subject(model)
    removal = measure(
        of, images, ones(30), {"tied": cut, "truth": truth, "cut": cut}, signed={"cut": signed}
    )
    np.testing.assert_allclose(removal.srg("cut"), removal.srg("truth"), atol=1e-6)
    assert (removal.srg("tied") < removal.srg("truth")).all()


def test_curves_equal_removing_cell_after_cell_by_hand():
    model, images = Linear(), bright(2)
    maps = np.random.default_rng(0).random((2, 8, 8))
    classes = torch.tensor([1, 0])
    removal = measure(tiny.subject(model), images, classes, {"map": maps})
    for i in range(2):
        order = np.argsort(-maps[i].ravel())
        deletion, insertion = [], []
        for step in range(1, 8):
            masked, island = images[i].clone(), torch.full_like(images[i], 0.5)
            for cell in order[: 8 * step]:
                where = (
                    slice(None),
                    slice(cell // 8 * 4, cell // 8 * 4 + 4),
                    slice(cell % 8 * 4, cell % 8 * 4 + 4),
                )
                masked[where] = 0.5
                island[where] = images[i][where]
            deletion.append(model(masked[None]).softmax(dim=1)[0, classes[i]].item())
            insertion.append(model(island[None]).softmax(dim=1)[0, classes[i]].item())
        assert removal.deletion["map"][i, 0] == pytest.approx(np.mean(deletion), abs=1e-6)
        assert removal.insertion["map"][i, 0] == pytest.approx(np.mean(insertion), abs=1e-6)


def test_a_masked_cell_takes_the_mean_colour_and_the_others_stay():
    class Watching(Linear):
        def forward(self, images):
            self.seen = images
            return super().forward(images)

    model, images = Watching(), tiny.images(1)
    model.normalize.mean.copy_(torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))
    kept = np.ones((1, 1, 8, 8), dtype=bool)
    kept[0, 0, 2, 5] = False
    of = tiny.subject(model)
    probabilities(of, images, torch.tensor([0]), kept, fills=fills_for(of, images, "mean"))
    cell = model.seen[0, :, 8:12, 20:24]
    torch.testing.assert_close(cell.mean(dim=(1, 2)), torch.tensor([0.1, 0.2, 0.3]))
    expected = images.clone()
    expected[:, :, 8:12, 20:24] = cell
    torch.testing.assert_close(model.seen, expected)


def test_ties_are_removed_in_exact_counts_and_in_random_order():
    maps = np.zeros((200, 8, 8))
    maps[:, 0, :5] = [5, 4, 3, 2, 1]
    orders = removal_order(maps, seed=0)
    assert (orders[:, :5] == np.arange(5)).all()
    assert (np.sort(orders, axis=1) == np.arange(64)).all()
    assert abs(orders[:, 5:].mean(axis=0) - 34).max() < 6  # no cell comes early more often
    kept = kept_cells(orders[:, None])
    assert (kept.sum(axis=(2, 3)) == [56, 48, 40, 32, 24, 16, 8]).all()
    assert not kept[:, 0, 0, :5].any()
    assert (removal_order(maps, seed=0) == orders).all()
    assert (removal_order(maps, seed=1) != orders).any()


def test_a_model_whose_prediction_no_order_changes_has_an_srg_of_zero():
    maps = {"map": baselines.random_maps(20, 8, seed=0)}
    removal = measure(tiny.subject(Linear(weight=0.0)), bright(20), ones(20), maps)
    assert removal.scores("map")["srg"] == {"value": 0, "low": 0, "high": 0}


def test_one_degenerate_map_is_excluded_and_the_others_count():
    model, images = Linear(), bright(30)
    maps = model.truth(images)
    maps[3], maps[4, 0, 0] = 0.25, np.nan
    removal = measure(tiny.subject(model), images, ones(30), {"m": maps})
    srg = removal.srg("m")
    assert np.flatnonzero(np.isnan(srg)).tolist() == [3, 4]
    assert removal.scores("m")["srg"]["value"] == pytest.approx(np.nanmean(srg))


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_measuring_leaves_the_model_alone_and_bf16_changes_little(kind):
    model, images = tiny.model(kind).train(), tiny.images(30)
    classes = torch.arange(30) % 10
    kept = np.random.default_rng(0).random((30, 9, 8, 8)) < 0.5
    of = tiny.subject(model)
    fills = fills_for(of, images, "mean")
    exact = probabilities(of, images, classes, kept, fills=fills)
    np.testing.assert_allclose(
        probabilities(of, images[:1], classes[:1], kept[:1], fills=fills[:1]), exact[:1], rtol=1e-4
    )
    rough = probabilities(of, images, classes, kept, fills=fills, autocast=True)
    assert 0 < abs(rough - exact).max() < 0.05
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert tiny.hooks(model) == 0


def test_maps_of_other_grids_come_to_eight_by_eight_by_area():
    fine = torch.arange(256.0).view(1, 16, 16)
    assert to_cells(fine, 8)[0, 0, 0] == (0 + 1 + 16 + 17) / 4
    coarse = torch.arange(16.0).view(1, 4, 4)
    assert torch.equal(to_cells(coarse, 8), coarse.repeat_interleave(2, 1).repeat_interleave(2, 2))
    many = torch.rand(3, 2, 8, 8)
    assert torch.equal(to_cells(many, 8), many)


def test_degenerate_maps_have_a_reason_whatever_their_scale():
    good = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    maps = np.stack([good, 1e-9 * good, 0 * good, 0 * good + 0.3, 1 + 1e-8 * good, good])
    maps[5, 0, 0] = np.inf
    assert degenerate_reasons(maps) == [
        None,
        None,
        "zero everywhere",
        "the same everywhere",
        "the same everywhere",
        "not finite",
    ]


def test_relevance_mass_against_its_chance():
    inside = localization.centre(500, 8)
    uniform = np.ones((1, 8, 8))
    assert localization.relevance_mass(uniform, inside[:1]) == [0.25]
    assert localization.relevance_mass(inside[:1], inside[:1]) == [1]
    share = interval(localization.relevance_mass(baselines.random_maps(500, 8, seed=0), inside))
    assert share["low"] < 0.25 < share["high"]
    assert np.isnan(localization.relevance_mass(-uniform, inside[:1])).all()
    signed = np.where(inside[:1] > 0, 1.0, -5.0)
    assert localization.relevance_mass(signed, inside[:1]) == [1]


def test_relevance_mass_a_mask_counts_cells_by_the_part_that_is_covered():
    mask = np.zeros((1, 32, 32), dtype=bool)
    mask[0, :4, :2] = True  # half of the first cell
    cells = localization.cell_means(mask, 8)
    assert cells[0, 0, 0] == 0.5
    assert cells.sum() == 0.5
    spot = np.zeros((1, 8, 8))
    spot[0, 0, 0] = 3
    assert localization.relevance_mass(spot, cells) == [0.5]


def test_class_sensitivity_from_none_to_full():
    maps, other = np.random.default_rng(0).random((2, 300, 8, 8))
    np.testing.assert_allclose(localization.class_sensitivity(maps, 2 * maps), 0, atol=1e-12)
    np.testing.assert_allclose(localization.class_sensitivity(maps, -maps), 1)
    assert localization.class_sensitivity(maps, other).mean() > 0.9
    zero = np.zeros_like(maps)
    assert np.isnan(localization.class_sensitivity(maps, zero)).all()
    assert np.isnan(localization.class_sensitivity(zero, maps)).all()


def test_baselines_are_what_they_are_called():
    image = np.zeros((1, 3, 32, 32))
    image[..., 16:] = 1
    edges = baselines.edge_maps(image, 8)
    assert (edges[0, :, 3:5] > 0).all()
    assert edges[0].sum() == edges[0, :, 3:5].sum()
    centred = baselines.centre_maps(1, 8)
    assert localization.relevance_mass(centred, localization.centre(1, 8))[0] == pytest.approx(
        0.51, abs=0.02
    )


def test_blobs_are_the_centred_gaussian_moved_anywhere():
    blobs = baselines.blob_maps(2000, 8, seed=0)
    centred = np.sort(baselines.centre_maps(1, 8).ravel())
    np.testing.assert_array_equal(np.sort(blobs.reshape(2000, -1), axis=1), [centred] * 2000)
    mean = blobs.mean(axis=0)
    assert mean.max() / mean.min() < 1.3  # no cell is favoured


def test_the_mean_map_is_that_of_the_valid_maps_of_other_images_each_scaled_to_one():
    maps = np.zeros((3, 8, 8), dtype=np.float32)
    maps[0, 0, 0], maps[1, 0, 1] = 2, 50
    mean = baselines.mean_maps(maps)
    assert mean.shape == maps.shape
    np.testing.assert_array_equal(mean[:, 0, 0], [0, 1, 0.5])
    np.testing.assert_array_equal(mean[:, 0, 1], [1, 0, 0.5])
    np.testing.assert_array_equal(mean.sum(axis=(1, 2)), 1)
    assert not baselines.mean_maps(np.zeros_like(maps)).any()


def test_pointing_hit_and_mask_auc_from_the_truth_to_chance():
    inside = np.zeros((400, 8, 8))
    inside[:, 2:4, 2:6] = 1  # 8 of 64 cells
    inside[:, 4, 2:6] = 0.4  # less than half is not the region
    for maps, hit, area in ((inside, 1, 1), (-inside, 0, 0), (np.ones_like(inside), 1 / 8, 0.5)):
        assert localization.pointing_hit(maps, inside).mean() == pytest.approx(hit)
        curve = localization.mask_auc(maps, inside)
        assert curve.mean() == pytest.approx(area, abs=0.04)
    chance = baselines.random_maps(400, 8, seed=2)
    assert localization.pointing_hit(chance, inside).mean() == pytest.approx(1 / 8, abs=0.05)
    assert localization.mask_auc(chance, inside).mean() == pytest.approx(0.5, abs=0.02)
    assert np.isnan(localization.mask_auc(chance[:1], np.zeros((1, 8, 8)))).all()


def row(layer, side, value, width=0.05):
    score = {"value": value, "low": value - width, "high": value + width}
    return {"layer": layer, "grid": [side, side], "degenerate": 0, "srg": score}


def choose(rows, *, lead_width=0.05, fallback="late"):
    values = {r["layer"]: r["srg"] for r in rows}

    def ahead(a, b):
        lead = values[a]["value"] - values[b]["value"]
        return {"value": lead, "low": lead - lead_width, "high": lead + lead_width}

    of = tiny.subject("cnn")
    of.layers = {fallback: 8}
    return layers.choose(rows, 100, ahead, of)


def test_the_layer_with_the_highest_srg_of_those_with_the_scoring_grid_is_chosen():
    rows = [row("too fine", 16, 0.8), row("early", 8, 0.6), row("late", 8, 0.3)]
    chosen, reason = choose([*rows, row("too coarse", 4, 0.9)])
    assert chosen == "early"
    assert "0.60 (0.55 to 0.65)" in reason
    assert "not significantly" not in reason


def test_of_layers_that_do_not_differ_significantly_the_deepest_is_chosen():
    rows = [row("first", 8, 0.2), row("early", 8, 0.6), row("late", 8, 0.55)]
    chosen, reason = choose(rows, lead_width=0.1)
    assert chosen == "late"
    assert "not significantly better than late (by 0.05 (−0.05 to 0.15))" in reason
    assert "first" not in reason


def test_a_layer_with_a_wide_interval_or_many_degenerate_maps_is_no_rival():
    precise = row("early", 8, 0.5)
    assert choose([precise, row("late", 8, -0.1, width=0.8)], lead_width=2)[0] == "early"
    degenerate = row("late", 8, 0.9) | {"degenerate": 90}
    chosen, reason = choose([precise, degenerate])
    assert chosen == "early"
    assert "(too few valid maps: late)" in reason
    chosen, reason = choose([degenerate], fallback="last")
    assert chosen == "last"
    assert "a map for at least 90\N{NARROW NO-BREAK SPACE}% of the images" in reason


def test_without_scores_the_last_layer_is_used_and_the_reason_given():
    chosen, reason = choose([row("early", 16, 0.5) | {"srg": None}], fallback="last")
    assert chosen == "last"
    assert "No layer with 8 × 8 cells has a score" in reason


def test_the_sweep_scores_each_layer_of_the_cnn_on_its_own_grid():
    found = layers.sweep(tiny.subject("cnn"), tiny.images(12))
    grids = {row["layer"]: row["grid"] for row in found["rows"]}
    assert grids == {
        "stages.0.activation1": [16, 16],
        "stages.0.activation2": [16, 16],
        "stages.0": [16, 16],
        "stages.1.activation1": [8, 8],
        "stages.1.activation2": [8, 8],
        "stages.1": [8, 8],
        "stages.2.activation1": [8, 8],
        "stages.2.activation2": [8, 8],
        "stages.2": [8, 8],
    }
    assert sum(row["chosen"] for row in found["rows"]) == 1
    assert "12 validation images" in found["reason"]
