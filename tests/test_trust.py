"""The report on how far maps can be trusted, from made-up numbers on both sides."""

import copy
from pathlib import Path
from typing import Any

import pytest

from fake_runs import interval, write_experiment
from visavis import run_folder
from visavis.report import page
from visavis.report.text import agreement, findings, trust
from visavis.stages.compare import compare

Facts = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = write_experiment(tmp_path_factory.mktemp("experiment"), sample=120)
    compare(written)
    return written


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, Facts]:
    return {
        "cnn": run_folder.read_json(folder / "cnn" / run_folder.EXPLANATIONS),
        "vit": run_folder.read_json(folder / "vit" / run_folder.EXPLANATIONS),
        "comparison": run_folder.read_json(folder / run_folder.COMPARISON),
        "cross_model": run_folder.read_json(folder / run_folder.CROSS_MODEL),
    }


def explained(files: dict[str, Facts]) -> dict[str, Facts]:
    return {"first": files["cnn"], "second": files["vit"]}


def sound(files: dict[str, Facts]) -> tuple[Facts, Facts]:
    """The CNN's explanations and a cross_model in which its Grad-CAM passes every check."""
    cnn, cross_model = copy.deepcopy(files["cnn"]), copy.deepcopy(files["cross_model"])
    method = cnn["methods"]["grad_cam"]
    method["mask_ahead_of"] = {key: interval(0.3) for key in method["mask_ahead_of"]}
    return cnn, cross_model


def test_a_map_that_passes_every_check_is_named(files: dict[str, Facts]) -> None:
    cnn, cross_model = sound(files)
    card = trust.scorecard(cnn, cross_model, "first")["grad_cam"]
    assert card.keys() == trust.CHECKS.keys()
    assert {verdict for verdict, _ in card.values()} == {1}
    assert trust.trusted(cnn, cross_model, "first") == (
        "Of the CNN's 3 methods, Grad-CAM passed every applicable check."
    )


def without(cnn: Facts, cross_model: Facts, check: str, value: float) -> None:
    method = cnn["methods"]["grad_cam"]
    if check == "blob":
        method["srg_ahead_of"]["blob"] = interval(value)
    elif check == "trivial_baselines":
        method["srg_ahead_of"]["mean"] = interval(value)
    elif check == "fills":
        method["srg_blur_fill_ahead_of"]["edges"] = interval(value)
    elif check == "contrast":
        method["scores"]["contrast"] = interval(value)
    elif check == "weights":
        method["randomised"]["above_chance"] = interval(trust.MAX_AGREEMENT_RANDOMISED - value)
    elif check == "class":
        box = cross_model["composites"]["box"]["methods"]["first"]["grad_cam"]
        box["energy"] = interval(0.5 + value)
    else:
        method["mask_ahead_of"]["edges"] = interval(value)


@pytest.mark.parametrize("check", trust.CHECKS)
@pytest.mark.parametrize(("value", "verdict"), [(0.01, 0), (-0.2, -1)])
def test_each_check_alone_can_be_missed(
    files: dict[str, Facts], check: str, value: float, verdict: int
) -> None:
    cnn, cross_model = sound(files)
    without(cnn, cross_model, check, value)
    card = trust.scorecard(cnn, cross_model, "first")["grad_cam"]
    assert card.pop(check)[0] == verdict
    assert {found for found, _ in card.values()} == {1}
    text = trust.trusted(cnn, cross_model, "first")
    assert "none passed every applicable check" in text
    assert trust.CHECKS[check].lower() in text


def test_class_agnostic_maps_are_not_checked_for_the_class(
    files: dict[str, Facts],
) -> None:
    card = trust.scorecard(files["vit"], files["cross_model"], "second")
    for check in ("class", "contrast"):
        applicable = {name: checks[check][0] is not None for name, checks in card.items()}
        assert applicable == {n: m["class_specific"] for n, m in files["vit"]["methods"].items()}


def test_without_composites_no_check_is_missed(files: dict[str, Facts]) -> None:
    cnn, cross_model = sound(files)
    cross_model["composites"]["box"]["methods"]["first"]["grad_cam"]["energy"] = None
    assert trust.scorecard(cnn, cross_model, "first")["grad_cam"]["class"] == (
        None,
        "too few images",
    )
    assert "Grad-CAM passed every applicable" in trust.trusted(cnn, cross_model, "first")
    halves = cross_model["composites"]["halves"]["methods"]["first"]["grad_cam"]
    halves["energy"] = interval(0.4)  # what is known fails
    assert trust.scorecard(cnn, cross_model, "first")["grad_cam"]["class"][0] == -1


def test_without_masks_no_check_needs_them(files: dict[str, Facts]) -> None:
    cnn, cross_model = sound(files)
    cnn["mask_chance"] = None
    assert "mask" not in trust.scorecard(cnn, cross_model, "first")["grad_cam"]


def test_missing_scores_are_not_passed(files: dict[str, Facts]) -> None:
    cnn, cross_model = sound(files)
    method = cnn["methods"]["grad_cam"]
    method["scores"] = dict.fromkeys(method["scores"])
    for key in ("srg_ahead_of", "srg_mean_fill_ahead_of", "srg_blur_fill_ahead_of"):
        method[key] = dict.fromkeys(method[key])
    method["randomised"] = dict.fromkeys(method["randomised"])
    card = trust.scorecard(cnn, cross_model, "first")["grad_cam"]
    assert not any(
        card[check][0] == 1 for check in ("blob", "trivial_baselines", "fills", "contrast", "mask")
    )
    assert card["weights"] == (None, "no map left")
    method["keep_top_ahead_of"] = {"blob": None}
    assert "not available" in trust.keep_top(cnn, "CNN")


def test_keep_top_follows_the_intervals(files: dict[str, Facts]) -> None:
    cnn, _ = sound(files)
    method = cnn["methods"]["grad_cam"]
    for value, text in (
        (-0.1, "lower than that with a blob"),
        (0.0, "not significantly different"),
        (0.4, "higher than that with a blob"),
    ):
        method["keep_top_ahead_of"]["blob"] = interval(value)
        assert text in trust.keep_top(cnn, "CNN")


def test_methods_that_survive_randomisation_are_named(files: dict[str, Facts]) -> None:
    cnn, _ = sound(files)
    for method in cnn["methods"].values():
        method["randomised"]["above_chance"] = interval(0.0)
    assert "no method agrees" in trust.randomised(cnn, "CNN")
    cnn["methods"]["occlusion"]["randomised"]["above_chance"] = interval(0.3)
    assert "above chance: occlusion (" in trust.randomised(cnn, "CNN")


def test_composites_explain_the_score_of_class_agnostic_maps(files: dict[str, Facts]) -> None:
    cross_model = copy.deepcopy(files["cross_model"])
    text = " ".join(trust.composites(explained(files), cross_model))
    assert "more than chance" in text
    assert "sum to exactly 100 %" in text
    energies = cross_model["composites"]["halves"]["methods"]
    energies["first"]["grad_cam"]["energy"] = interval(0.5)
    assert "not significantly different from chance" in " ".join(
        trust.composites(explained(files), cross_model)
    )
    cross_model["composites"]["halves"]["n"] = 3
    assert "too few composites" in " ".join(trust.composites(explained(files), cross_model))


def test_the_larger_gap_is_named_only_where_the_intervals_part(files: dict[str, Facts]) -> None:
    comparison = copy.deepcopy(files["comparison"])
    for value, text in (
        (-0.3, "Maps differ more between models"),
        (0.3, "Maps differ more between methods"),
        (0.0, "do not differ significantly"),
    ):
        comparison["grid"]["gap"] = interval(value)
        assert text in agreement.gap(comparison)
    comparison["grid"]["groups"]["same_method"]["above_chance"] = None
    assert "Too few images" in agreement.gap(comparison)
    comparison["grid"]["groups"]["same_method"] = None
    assert "share too few methods" in agreement.gap(comparison)


def test_an_unmeasured_noise_ceiling_is_reported_as_such(files: dict[str, Facts]) -> None:
    comparison = copy.deepcopy(files["comparison"])
    assert "not measured" in agreement.noise_ceiling(comparison)
    assert agreement.other_seeds(comparison) is None
    kinds = {"models": interval(0.3), "first": interval(0.6), "second": interval(0.5)}
    for value, text in ((0.5, "differ more than two trainings"), (1.0, "not significantly less")):
        relative = {"normalised": interval(value)}
        comparison["grid"]["noise_ceiling"] = kinds | relative
        assert text in agreement.noise_ceiling(comparison)
    comparison["grid"]["noise_ceiling"] = kinds | {"normalised": None}
    assert "could not be computed" in agreement.noise_ceiling(comparison)
    rows = [
        {"model": m, "seed": s, "accuracy": 0.5 + s / 10}
        for s in (0, 1)
        for m in ("first", "second")
    ]
    comparison["seeds"] = rows
    assert "60.0\u202f% (seed 1)" in str(agreement.other_seeds(comparison))


def test_transfer_follows_the_intervals(files: dict[str, Facts]) -> None:
    cross_model = copy.deepcopy(files["cross_model"])
    main = cross_model["transfer"][0]
    for value, text in (
        (0.5, "less than its own"),
        (0.98, "not significantly less"),
        (1.5, "more than with its own"),
        (0.0, "no SRG significantly above 0"),
    ):
        main["second_transfer"] = interval(value)
        assert text in agreement.transfer(cross_model)[0]
    main["second_transfer"] = None
    assert "could not be computed" in agreement.transfer(cross_model)[0]


def test_findings_cover_both_models(files: dict[str, Facts]) -> None:
    sentences = findings(explained(files), files["comparison"], files["cross_model"])
    assert len(sentences) == 9
    assert "the CNN" in sentences[3] and "the ViT" in sentences[3]
    assert "Of the CNN's 3 methods" in sentences[4]
    assert "Of the ViT's 6 methods" in sentences[4]
    assert "after Holm's correction" in sentences[8]


def test_the_marks_of_the_report_are_those_of_the_scorecard(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "svg", lambda figure, name="": "")  # slow, and not looked at
    html = page.report(folder).read_text(encoding="utf-8")
    table = html[html.index('class="plain marks"') : html.index("● passed")]
    cross_model = run_folder.read_json(folder / run_folder.CROSS_MODEL)
    verdicts = [
        verdict
        for role, model in run_folder.model_folders(folder).items()
        for checks in trust.scorecard(model.explanations, cross_model, role).values()
        for verdict, _ in checks.values()
    ]
    marks = {1: "●", 0: "○", -1: "✕"}
    for verdict, mark in marks.items():
        assert table.count(mark) == verdicts.count(verdict)


def test_idsds_names_the_higher_only_where_intervals_part(
    files: dict[str, Facts],
) -> None:
    cnn, vit = copy.deepcopy(files["cnn"]), copy.deepcopy(files["vit"])
    vit["methods"]["integrated_gradients"]["scores"]["idsds"] = interval(0.5)
    both = {"first": cnn, "second": vit}
    for value, text in (
        (0.9, "the CNN's is higher"),
        (0.1, "the ViT's is higher"),
        (0.5, "no significant"),
    ):
        cnn["methods"]["grad_cam"]["scores"]["idsds"] = interval(value)
        assert text in trust.idsds(both, files["comparison"]["labels"])
    cnn["methods"]["grad_cam"]["scores"]["idsds"] = None
    assert "Too few" in trust.idsds(both, files["comparison"]["labels"])
