"""What the trainings of a study show together: planted truths, the results and their page."""

import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import fake_runs
from visavis import run_folder
from visavis.cli import main
from visavis.compare import conclusions, decomposition, study_accuracy, training_pairs, trainings
from visavis.compare.behaviour import consistency
from visavis.errors import CheckpointError
from visavis.metrics import agreement as two_maps
from visavis.metrics import bootstrap, over_trainings
from visavis.metrics.classification import confusion_matrix, f1_macro
from visavis.report.page import report
from visavis.report.text import study as text
from visavis.stages.summarise import summarise

CLASSES = np.repeat(np.arange(10), 6)
CELLS = 36


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return fake_runs.write_study(tmp_path_factory.mktemp("study") / "out", variants=("cnn", "vit"))


@pytest.fixture(scope="module")
def results(study):
    return summarise(study)


def unit(vectors):
    centred = vectors - vectors.mean(axis=-1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=-1, keepdims=True)


def planted(seeds=(3, 3), **strengths):
    """The parts found in maps of 2 variants, some seeds and 3 methods that are made of known parts.

    Args:
        seeds: of either variant.
    """
    generator = np.random.default_rng(0)
    shapes = {
        "layout": (1, 1, 1, 10),
        "image": (1, 1, 1, 60),
        "architecture": (2, 1, 1, 60),
        "method": (1, 1, 3, 60),
        "architecture_method": (2, 1, 3, 60),
        "seed": (2, max(seeds), 1, 60),
        "seed_method": (2, max(seeds), 3, 60),
    }
    total = np.zeros((2, max(seeds), 3, 60, CELLS))
    for part, size in strengths.items():
        drawn = unit(generator.normal(size=(*shapes[part], CELLS)))
        if part == "layout":
            drawn = drawn[..., CLASSES, :]
        total = total + size**0.5 * drawn
    variant, seed, method = np.indices(total.shape[:3]).reshape(3, -1)
    there = seed < np.array(seeds)[variant]
    means = decomposition.shared(
        unit(total.reshape(-1, 60, CELLS))[there],
        variant[there],
        (max(seeds) * variant + seed)[there],
        method[there],
        CLASSES,
    )
    found = decomposition.parts_of(means.mean(axis=0, keepdims=True))
    return {part: float(value[0]) for part, value in found.items()}


@pytest.mark.parametrize("part", decomposition.PARTS)
def test_a_map_that_has_one_part_is_all_of_that_part(part):
    found = planted(**{part: 1.0})
    assert found[part] == pytest.approx(1, abs=0.06)
    for other in set(decomposition.PARTS) - {part}:
        assert found[other] == pytest.approx(0, abs=0.06), other


def test_the_parts_of_a_mixture_are_found_and_add_up():
    sizes = {"layout": 0.1, "image": 0.3, "architecture": 0.2, "method": 0.1, "seed_method": 0.3}
    found = planted(**sizes)
    assert sum(found.values()) == pytest.approx(1)
    for part in decomposition.PARTS:
        assert found[part] == pytest.approx(sizes.get(part, 0), abs=0.06), part


def test_a_variant_with_more_seeds_weighs_no_more():
    sizes = {"image": 0.2, "architecture": 0.5, "seed_method": 0.3}
    found = planted(seeds=(5, 2), **sizes)
    for part in decomposition.PARTS:
        assert found[part] == pytest.approx(sizes.get(part, 0), abs=0.07), part


def test_agreement_above_chance_is_that_of_the_report(study):
    """The products of unit vectors are the rank correlations that `metrics.agreement` computes."""
    found = [
        trainings.Training("cnn", seed, run_folder.ModelFolder(study / "cnn" / f"seed-{seed}"))
        for seed in (0, 1)
    ]
    rows = trainings.shared_images(found)
    classes = found[0].model.heatmaps["labels"][rows[0]]
    maps = [
        each.model.heatmaps["map_grad_cam_true"][at] for each, at in zip(found, rows, strict=True)
    ]
    expected = two_maps.rank_agreement(*maps).mean() - np.mean(
        [two_maps.permutation_baseline(a, b, classes).mean() for a, b in (maps, maps[::-1])]
    )
    assert training_pairs.agreement(found, rows)["above_chance"][0][1] == pytest.approx(
        expected, abs=1e-6
    )


def test_degenerate_maps_are_left_out():
    ranks = unit(np.random.default_rng(0).normal(size=(2, 60, CELLS)))
    ranks[0, 7] = np.nan
    agreed = two_maps.pairwise(ranks)
    assert np.isnan(agreed[7, 0, 1])
    assert np.isfinite(np.delete(agreed[:, 0, 1], 7)).all()
    others = two_maps.of_other_images(ranks, CLASSES)
    assert np.isfinite(others).all()  # the image's classmates have other partners


@pytest.mark.parametrize(
    ("sides", "holds"),
    [
        ([1, 1, 1], "always"),
        ([-1, -1], "never"),
        ([1, 0, -1], "flips"),
        ([0, 1, 0], "sometimes"),
        ([0, -1, 0], "sometimes not"),
        ([0, 0, 0], "open"),
    ],
)
def test_a_conclusion_holds_only_if_every_training_shows_it(sides, holds):
    assert conclusions.conclusion("above_zero", "grad_cam", None, sides)["holds"] == holds


def test_trainings_that_err_alike_and_look_alike_are_found():
    """Two groups of four, alike within in both matrices; then one that is chance."""
    groups = np.repeat([0, 1], 4)
    noise = np.random.default_rng(0).normal(0, 0.01, (8, 8))
    alike = (groups[:, None] == groups) + noise + noise.T
    chance = [np.random.default_rng(seed).normal(size=(8, 8)) for seed in range(20)]
    chance = [of + of.T for of in chance]
    related = training_pairs.mantel(alike, alike + 0.01 * chance[0])
    assert related["correlation"] > 0.6
    assert related["p_value"] < 0.05
    assert sum(training_pairs.mantel(alike, of)["p_value"] < 0.05 for of in chance) <= 4
    assert training_pairs.mantel(alike[:4, :4], alike[:4, :4]) is None  # four have too few orders
    assert training_pairs.mantel(np.ones((8, 8)), alike) is None


def test_what_variants_explain_is_no_relation_of_their_trainings():
    groups = np.repeat([0, 1, 2], 4)
    same = (groups[:, None] == groups).astype(float)
    first, second, third = (
        0.1 * (of + of.T) for of in np.random.default_rng(0).normal(size=(3, 12, 12))
    )
    assert training_pairs.mantel(same + first, same + second)["p_value"] < 0.01
    assert training_pairs.mantel(same + first, same + second, groups)["p_value"] > 0.05
    assert training_pairs.mantel(same + first, same + first + 0.2 * third, groups)["p_value"] < 0.01


def test_distances_of_the_layout_are_those_of_the_maps(study):
    found = training_pairs.agreement(*_of(study, ("cnn", "vit")))
    points = np.array(found["layout"])
    assert points.shape == (6, 2)
    assert 0 < found["layout_share"] <= 1


def _of(study, names):
    found = [
        trainings.Training(name, seed, run_folder.ModelFolder(study / name / f"seed-{seed}"))
        for name in names
        for seed in range(3)
    ]
    return found, trainings.shared_images(found)


def test_results_are_those_of_the_trainings(study, results):
    for name in ("cnn", "vit"):
        models = [run_folder.ModelFolder(study / name / f"seed-{seed}") for seed in range(3)]
        of = results["variants"][name]
        assert of["accuracy"]["values"] == pytest.approx([m.correct.mean() for m in models])
        expected = [f1_macro(confusion_matrix(m.labels, m.predicted, 10)) for m in models]
        assert of["f1_macro"]["values"] == pytest.approx(expected)
        images = of["f1_macro"]["images"]
        assert images["low"] < np.mean(expected) < images["high"]
        srg = [
            (m.removal["insertion_grad_cam"] - m.removal["deletion_grad_cam"]).mean()
            for m in models
        ]
        assert of["methods"]["grad_cam"]["srg"]["values"] == pytest.approx(srg)
    kappa = np.array(results["errors"]["kappa"], dtype=float)
    assert kappa.shape == (6, 6)
    np.testing.assert_array_equal(kappa, kappa.T)
    first, second = (run_folder.ModelFolder(study / "cnn" / f"seed-{seed}") for seed in (0, 1))
    expected = consistency(first.correct, second.correct)["kappa"]["value"]
    assert kappa[0, 1] == pytest.approx(expected)
    assert sorted(results["agreement"]["order"]) == list(range(6))
    assert sum(of["value"] for of in results["decomposition"]["parts"].values()) == pytest.approx(1)


def test_accuracy_and_f1_over_trainings_have_the_bootstrap_of_other_scores(study, results):
    models = [run_folder.ModelFolder(study / "cnn" / f"seed-{seed}") for seed in range(3)]
    expected = over_trainings.spread(np.stack([1.0 * model.correct for model in models]))
    found = results["variants"]["cnn"]["accuracy"]
    for question in ("images", "trainings", "both"):
        assert found[question] == pytest.approx(expected[question])


def test_scores_on_few_images_have_no_interval():
    few = study_accuracy.Score(np.array([0.5, 0.7]), np.full(bootstrap.RESAMPLES, 0.6), 19)
    found = study_accuracy.spreads({"accuracy": few})["accuracy"]
    assert found["value"] == pytest.approx(0.6)
    assert found["images"] is None and found["both"] is None
    assert found["trainings"] is not None


def test_agreement_relative_to_the_noise_ceiling(results):
    groups = {tuple(group["variants"]): group for group in results["agreement"]["groups"]}
    within = [groups[name, name]["agreement"]["value"] for name in ("cnn", "vit")]
    across = groups["cnn", "vit"]
    assert [groups[name, name]["pairs"] for name in ("cnn", "vit")] == [3, 3]
    assert across["pairs"] == 9
    assert across["relative"]["value"] == pytest.approx(
        across["agreement"]["value"] / np.prod(within) ** 0.5
    )


def test_what_is_not_finished_is_named_and_left_out(study, tmp_path):
    out = fake_runs.write_study(tmp_path / "out", variants=("cnn", "vit"), seeds=2)
    (out / "vit" / "seed-1" / run_folder.EXPLANATIONS).unlink()
    assert summarise(out)["missing"] == ["vit/seed-1"]
    failed = out / "vit" / "seed-1" / run_folder.FAILED
    run_folder.write_json(failed, {"reason": "training diverged"})
    found = summarise(out)
    assert found["missing"] == ["vit/seed-1 (training diverged)"]
    assert len(found["trainings"]) == 3
    assert found["decomposition"] is None  # it needs two seeds of each
    assert text.few(found).startswith("One training")
    page = report(out).read_text()
    assert "vit/seed-1" in page
    for folder in out.glob("*/*"):
        (folder / run_folder.EXPLANATIONS).unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="no training"):
        summarise(out)


def test_a_method_without_a_valid_map_has_no_score(tmp_path):
    out = fake_runs.write_study(tmp_path / "out", variants=("cnn", "vit"), seeds=1)
    for path in out.glob(f"*/*/{run_folder.REMOVAL}"):
        arrays = run_folder.read_arrays(path)
        gains = {key: np.full_like(of, np.nan) for key, of in arrays.items() if key != "indices"}
        run_folder.write_arrays(path, **arrays | gains)
    found = summarise(out)["variants"]["cnn"]["methods"]["grad_cam"]
    assert found["srg"] is None
    assert found["best_in"] == 0
    assert "not available" in report(out).read_text()


@pytest.mark.parametrize(
    ("file", "changed", "expected"),
    [
        (run_folder.EXPLANATIONS, {"n": 50}, "n in explanations.json differs"),
        (run_folder.CONFIG, {"seed": 3}, "plans vit with seed 0"),
    ],
)
def test_trainings_that_do_not_belong_together_are_refused(tmp_path, file, changed, expected):
    out = fake_runs.write_study(tmp_path / "out", variants=("cnn", "vit"), seeds=1)
    path = out / "vit" / "seed-0" / file
    run_folder.write_json(path, {**run_folder.read_json(path), **changed})
    with pytest.raises(CheckpointError, match=expected):
        summarise(out)


def test_a_copied_training_is_refused_and_settings_without_an_effect_are_not(tmp_path):
    out = fake_runs.write_study(tmp_path / "out", variants=("cnn", "vit"), seeds=2)
    same = {"weights_sha256": "b" * 64}
    for folder in ("cnn/seed-0", "vit/seed-0"):
        path = out / folder / run_folder.TRAINING
        run_folder.write_json(path, run_folder.read_json(path) | same)
    assert not summarise(out)["missing"]
    path = out / "vit" / "seed-1" / run_folder.TRAINING
    run_folder.write_json(path, run_folder.read_json(path) | same)
    with pytest.raises(CheckpointError, match="hold the same weights"):
        summarise(out)


def test_trainings_that_were_tested_on_other_images_are_refused(tmp_path):
    out = fake_runs.write_study(tmp_path / "out", variants=("cnn", "vit"), seeds=1)
    path = out / "vit" / "seed-0" / run_folder.PREDICTIONS
    arrays = run_folder.read_arrays(path)
    run_folder.write_arrays(path, **arrays | {"labels": arrays["labels"][::-1]})
    with pytest.raises(CheckpointError, match="not tested and explained alike"):
        summarise(out)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (
            0.02,
            0.18,
            "The CNN is more accurate than the ViT, in 9 of 9 pairs of trainings: by 10.0",
        ),
        (
            -0.18,
            -0.02,
            "The ViT is more accurate than the CNN, in 9 of 9 pairs of trainings: by 10.0",
        ),
        (-0.02, 0.22, "Which of the CNN and the ViT is more accurate is open"),
    ],
)
def test_a_sentence_follows_the_interval_over_both(results, low, high, expected):
    both = {"value": (low + high) / 2, "low": low, "high": high}
    pairs_of = {"pairs": 9, "pairs_above": 9 * (high > 0), "pairs_below": 9 * (high < 0)}
    row = {"variants": ["cnn", "vit"], "accuracy": {"images": both, "both": both, **pairs_of}}
    (found,) = [
        line
        for line in text.findings({**results, "differences": [row]})
        if line.startswith(expected)
    ]
    if "open" not in expected:
        assert "10.0 percentage points (2.0 to 18.0)" in found.replace("−", "-")


def test_sentences_about_maps_follow_their_intervals(results):
    def group(low, high):
        interval = {"value": (low + high) / 2, "low": low, "high": high}
        return [{"variants": ["cnn", "vit"], "relative": interval}]

    by_method = {"grad_cam": group(0.4, 0.6), "occlusion": group(0.9, 1.1)}
    changed = {**results, "agreement": {**results["agreement"], "by_method": by_method}}
    (sentence,) = text.agreement(changed)
    assert "of the CNN and the ViT is 0.50 (0.40 to 0.60) with Grad-CAM and " in sentence
    assert sentence.endswith(
        "significantly below 1 with Grad-CAM; not significantly different from 1 with occlusion."
    )
    found = {"correlation": 0.8, "p_value": 0.001}
    alone = text.errors({"with_agreement": found, "within_variants": {**found, "p_value": 0.4}})
    assert "nothing was shown beyond" in alone
    both = text.errors({"with_agreement": found, "within_variants": found})
    assert both.endswith("those that err alike look alike.")


def test_conclusions_that_flip_are_named():
    flips = conclusions.conclusion("ahead_of", "grad_cam", "centre", [1, 0, -1])
    holds = conclusions.conclusion("above_zero", "grad_cam", None, [1, 1, 1])
    of = {
        "label": "CNN",
        "accuracy": {"values": [0.8, 0.9, 0.85]},
        "methods": {"grad_cam": {"label": "Grad-CAM"}},
        "conclusions": [flips, holds],
    }
    sentence = text.methods(of)
    assert "1 in all 3 trainings, 0 in only some, and 1 that flips between trainings" in sentence
    assert sentence.endswith("Grad-CAM is ahead of the centre map.")


def test_trainings_under_other_conditions_are_noticed(results):
    assert text.notice(results) is None
    rows = [*results["trainings"]]
    rows[1] = {**rows[1], "precision": "fp16"}
    assert text.notice({**results, "trainings": rows}).startswith("The trainings of the CNN were")


class Page(HTMLParser):
    """Anchors, ids and addresses of a page."""

    def __init__(self, html):
        super().__init__()
        self.loaded, self.ids = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.loaded += [found[key] for key in ("src", "href") if key in found]
        self.ids += [found["id"]] if "id" in found else []


def test_the_page_is_self_contained_and_has_every_figure(study, results):
    html = report(study).read_text()
    page = Page(html)
    assert all(address.startswith(("#", "data:")) for address in page.loaded)
    assert len(page.ids) == len(set(page.ids))
    links = {address[1:] for address in page.loaded if address.startswith("#")}
    assert "definition-srg" in links <= set(page.ids)
    # accuracy, F1, learning, agreement, kappa, layout, parts, errors, and methods of each variant
    assert html.count("<svg ") == 10
    assert "None" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)


def test_report_makes_the_page_of_a_study_again(study, monkeypatch, capsys):
    for name in (run_folder.RESULTS, run_folder.STUDY_REPORT):
        (study / name).unlink(missing_ok=True)
    monkeypatch.setattr(sys, "argv", ["visavis", "report", str(study)])
    assert not main()
    assert capsys.readouterr().out.strip() == str(study / run_folder.STUDY_REPORT)
    assert json.loads((study / run_folder.RESULTS).read_text())["test_n"] == 400
