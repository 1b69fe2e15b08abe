from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_runs import write_experiment
from visavis import run_folder
from visavis.compare import seeds, similarity
from visavis.errors import CheckpointError
from visavis.stages.compare import compare, convergence

NAMES = {"first": "cnn", "second": "vit"}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("experiment"), sample=120)


@pytest.fixture(scope="module")
def comparison(experiment: Path) -> dict[str, Any]:
    compare(experiment)
    return run_folder.read_json(experiment / run_folder.COMPARISON)


def change(path: Path, **values: Any) -> None:
    run_folder.write_json(path, {**run_folder.read_json(path), **values})


def change_maps(folder: Path, **arrays: np.ndarray) -> None:
    run_folder.write_arrays(
        folder / run_folder.HEATMAPS,
        **{**run_folder.read_arrays(folder / run_folder.HEATMAPS), **arrays},
    )


def pair_of(experiment: Path, method: str) -> dict[str, Any]:
    compare(experiment)
    pairs = run_folder.read_json(experiment / run_folder.COMPARISON)["similarity"]["pairs"]
    return next(pair for pair in pairs if pair["second_method"] == method)


def test_agrees_with_each_models_own_test(experiment: Path, comparison: dict[str, Any]) -> None:
    assert comparison["labels"] == {"first": "CNN", "second": "ViT"}
    for role, name in NAMES.items():
        evaluation = run_folder.read_json(experiment / name / run_folder.EVALUATION)
        facts = comparison["models"][role]
        assert facts["accuracy"]["value"] == pytest.approx(evaluation["accuracy"])
        assert facts["f1_macro"]["value"] == pytest.approx(evaluation["f1_macro"])
        assert facts["confusion_matrix"] == evaluation["confusion_matrix"]
    assert "notice" not in comparison["data"]


def test_counts_add_up(comparison: dict[str, Any]) -> None:
    o = {name: bucket["n"] for name, bucket in comparison["buckets"].items()}
    models, n = comparison["models"], comparison["test_n"]
    assert sum(o.values()) == n
    assert (o["both_correct"] + o["only_first"]) / n == pytest.approx(
        models["first"]["accuracy"]["value"]
    )
    assert o["both_wrong_same"] > 0 and o["both_wrong_different"] > 0
    assert comparison["mcnemar"]["only_first"] == o["only_first"]
    assert comparison["mcnemar"]["only_second"] == o["only_second"]
    assert np.sum(comparison["confusion_difference"]) == 0
    assert np.trace(comparison["confusion_difference"]) == o["only_first"] - o["only_second"]


def test_the_better_model_is_found(comparison: dict[str, Any]) -> None:
    assert comparison["accuracy_difference"]["low"] > 0
    assert comparison["f1_macro_difference"]["low"] > 0
    assert comparison["mcnemar"]["p_value"] < 0.01


def test_accuracy_without_cues_agrees_with_each_models_own_test(
    experiment: Path, comparison: dict[str, Any]
) -> None:
    found = comparison["cues"]
    assert found["n"] == comparison["test_n"] and found["chance"] == 0.1
    for role, name in NAMES.items():
        own = run_folder.read_json(experiment / name / run_folder.EVALUATION)["cues"]
        assert {row["cue"]: row["accuracy"][role] for row in found["rows"]} == {
            cue: of["accuracy"] for cue, of in own.items()
        }
        assert found["unchanged"][role] == comparison["models"][role]["accuracy"]
    for row in found["rows"]:
        a, b = (row["accuracy"][role]["value"] for role in ("first", "second"))
        assert row["difference"]["value"] == pytest.approx(a - b)
        kept = [
            (row["accuracy"][role]["value"] - 0.1) / (found["unchanged"][role]["value"] - 0.1)
            for role in ("first", "second")
        ]
        assert row["kept_difference"]["value"] == pytest.approx(kept[0] - kept[1])


@pytest.mark.parametrize("key", ["fingerprint", "split_fingerprint"])
def test_rejects_other_data_or_another_split(tmp_path: Path, key: str) -> None:
    write_experiment(tmp_path)
    change(tmp_path / "vit" / run_folder.DATA, **{key: "0" * 64})
    with pytest.raises(CheckpointError, match=rf"vit was trained on other images .*their {key}"):
        compare(tmp_path)
    assert not (tmp_path / run_folder.COMPARISON).exists()


def test_rejects_other_test_images(tmp_path: Path) -> None:
    write_experiment(tmp_path)
    path = tmp_path / "vit" / run_folder.PREDICTIONS
    run_folder.write_arrays(path, **{k: v[:-1] for k, v in run_folder.read_arrays(path).items()})
    with pytest.raises(CheckpointError, match="not tested and explained alike"):
        compare(tmp_path)


def test_says_which_stage_is_missing(tmp_path: Path) -> None:
    write_experiment(tmp_path)
    (tmp_path / "vit" / run_folder.HEATMAPS).unlink()
    with pytest.raises(CheckpointError, match=r"vit.*heatmaps"):
        compare(tmp_path)


def test_a_test_of_an_earlier_version_is_to_be_made_again(tmp_path: Path) -> None:
    write_experiment(tmp_path)
    path = tmp_path / "vit" / run_folder.PREDICTIONS
    stored = run_folder.read_arrays(path)
    del stored["validation_logits"]
    run_folder.write_arrays(path, **stored)
    with pytest.raises(CheckpointError, match="lacks validation_logits; write it again"):
        compare(tmp_path)


def test_convergence_has_not_reached_as_a_value() -> None:
    def history(*accuracies: float) -> list[dict[str, Any]]:
        return [
            {"epoch": e, "val_accuracy": a, "elapsed_train_seconds": 10.0 * e}
            for e, a in enumerate(accuracies, 1)
        ]

    rows = convergence({"first": history(0.4, 0.75, 0.65), "second": history(0.2, 0.35)})
    assert rows == [
        {
            "val_accuracy": 0.3,
            "first": {"epochs": 1, "seconds": 10.0},
            "second": {"epochs": 2, "seconds": 20.0},
        },
        {"val_accuracy": 0.5, "first": {"epochs": 2, "seconds": 20.0}, "second": None},
        {"val_accuracy": 0.6, "first": {"epochs": 2, "seconds": 20.0}, "second": None},
        {"val_accuracy": 0.7, "first": {"epochs": 2, "seconds": 20.0}, "second": None},
    ]


def test_similarity_of_the_same_maps_is_one(tmp_path: Path) -> None:
    write_experiment(tmp_path, sample=120)
    cnn = run_folder.read_arrays(tmp_path / "cnn" / run_folder.HEATMAPS)
    vit = run_folder.read_arrays(tmp_path / "vit" / run_folder.HEATMAPS)
    maps = np.random.default_rng(0).random((400, 8, 8)).astype(np.float32)
    change_maps(tmp_path / "cnn", map_grad_cam=maps[cnn["indices"]])
    change_maps(tmp_path / "vit", map_rollout=maps[vit["indices"]])
    pair = pair_of(tmp_path, "rollout")
    assert pair["agreement"]["value"] == pytest.approx(1)
    assert pair["permutation_baseline"]["low"] < 0 < pair["permutation_baseline"]["high"]
    assert pair["above_chance"]["low"] > 0.8


def test_maps_that_share_only_a_centre_do_not_agree_above_chance(tmp_path: Path) -> None:
    write_experiment(tmp_path, sample=200, accuracy=(0.99, 0.99))
    distance = np.hypot(*np.meshgrid(np.arange(8) - 3.5, np.arange(8) - 3.5))
    for name, method in (("cnn", "map_grad_cam"), ("vit", "map_rollout")):
        n = len(run_folder.read_arrays(tmp_path / name / run_folder.HEATMAPS)["indices"])
        noise = np.random.default_rng(len(name + method)).normal(0, 1, (n, 8, 8))
        change_maps(tmp_path / name, **{method: (noise - distance).astype(np.float32)})
    pair = pair_of(tmp_path, "rollout")
    assert pair["agreement"]["low"] > 0.3
    assert pair["permutation_baseline"]["low"] > 0.3
    assert abs(pair["above_chance"]["value"]) < 0.03


def test_side_by_side_finds_the_planted_pair_and_skips_degenerate_maps(tmp_path: Path) -> None:
    write_experiment(tmp_path, sample=120, gallery=0)
    n = len(run_folder.read_arrays(tmp_path / "cnn" / run_folder.HEATMAPS)["indices"])
    rng = np.random.default_rng(0)
    cnn, vit = rng.random((2, n, 8, 8)).astype(np.float32)
    found = [
        run_folder.read_arrays(tmp_path / model / run_folder.HEATMAPS) for model in ("cnn", "vit")
    ]
    correct = [maps["predicted"] == maps["labels"] for maps in found]
    excluded, same, opposite = np.flatnonzero(correct[0] & correct[1])[:3]
    vit[excluded], vit[same], vit[opposite] = cnn[excluded], cnn[same], -cnn[opposite]
    wrong = np.flatnonzero(~correct[0])[0]
    vit[wrong] = cnn[wrong]
    change_maps(tmp_path / "cnn", map_grad_cam=cnn)
    change_maps(
        tmp_path / "vit",
        map_integrated_gradients=vit,
        degenerate_integrated_gradients=np.arange(n) == excluded,
    )
    compare(tmp_path)
    pair = run_folder.read_json(tmp_path / run_folder.COMPARISON)["side_by_side"]
    assert pair["highest_agreement"]["row_first"] == pair["highest_agreement"]["row_second"] == same
    assert pair["highest_agreement"]["agreement"] == pytest.approx(1)
    assert pair["lowest_agreement"]["row_first"] == opposite


def test_images_are_matched_by_index_not_by_row(tmp_path: Path) -> None:
    write_experiment(tmp_path, sample=120)
    before = pair_of(tmp_path, "rollout")
    arrays = run_folder.read_arrays(tmp_path / "vit" / run_folder.HEATMAPS)
    turned = {key: value[::-1] for key, value in arrays.items()}
    run_folder.write_arrays(tmp_path / "vit" / run_folder.HEATMAPS, **turned)
    assert pair_of(tmp_path, "rollout") == before


def test_nothing_in_common_gives_no_number(tmp_path: Path) -> None:
    write_experiment(tmp_path, accuracy=(1.0, 0.0))
    compare(tmp_path)
    comparison = run_folder.read_json(tmp_path / run_folder.COMPARISON)
    assert comparison["similarity"]["n"] == 0
    assert comparison["similarity"]["pairs"][0]["agreement"] is None
    assert comparison["side_by_side"]["highest_agreement"] is None
    assert comparison["mistakes"]["first"]["same_place"]["above_chance"] is None
    assert comparison["mistakes"]["second"]["same_place"]["n"] > 0


def test_a_model_that_reads_the_wrong_class_elsewhere(tmp_path: Path) -> None:
    write_experiment(tmp_path, sample=120, accuracy=(0.5, 0.5))
    maps = run_folder.read_arrays(tmp_path / "cnn" / run_folder.HEATMAPS)["map_grad_cam"]
    change_maps(tmp_path / "cnn", map_grad_cam_true=-maps)
    compare(tmp_path)
    mistakes = run_folder.read_json(tmp_path / run_folder.COMPARISON)["mistakes"]
    assert mistakes["first"]["same_place"]["agreement"]["value"] == pytest.approx(-1)
    assert mistakes["first"]["same_place"]["above_chance"]["high"] < 0
    assert mistakes["second"]["same_place"]["agreement"]["value"] == pytest.approx(1)
    assert mistakes["second"]["same_place"]["above_chance"]["low"] > 0


def test_the_grid_parts_the_gap_of_methods_from_the_gap_of_models() -> None:
    """One thing that both models see by the first method, another by the second."""
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 100, 8, 8))
    labels = np.arange(100) % 10

    def noisy(values: np.ndarray) -> np.ndarray:
        return values + 0.3 * generator.random(values.shape)

    maps = [
        similarity.Kind(model, method, noisy(values))
        for model in ("first", "second")
        for method, values in (("one", first), ("two", second))
    ]
    found = similarity.grid(maps, labels)
    groups = found["groups"]
    assert {name: group["pairs"] for name, group in groups.items()} == {
        "same_model": 2,
        "same_method": 2,
        "neither": 2,
    }
    assert found["gap"]["low"] > 0.7
    assert groups["same_method"]["above_chance"]["low"] > 0.8
    for name in ("same_model", "neither"):
        assert abs(groups[name]["above_chance"]["value"]) < 0.05
    table = np.array(found["above_chance"], dtype=float)
    np.testing.assert_array_equal(table, table.T)
    assert np.isnan(table.diagonal()).all()


def test_the_grid_of_maps_with_a_shared_centre_does_not_agree_above_chance() -> None:
    generator = np.random.default_rng(1)
    centre = np.exp(-0.1 * sum((x - 3.5) ** 2 for x in np.meshgrid(np.arange(8), np.arange(8))))
    a, b = (centre + 0.2 * generator.random((100, 8, 8)) for _ in range(2))
    maps = [
        similarity.Kind("first", "one", a),
        similarity.Kind("second", "one", b),
        similarity.Kind("second", "two", np.full((100, 8, 8), np.nan)),
    ]
    found = similarity.grid(maps, np.arange(100) % 10)
    assert abs(found["groups"]["same_method"]["above_chance"]["value"]) < 0.03
    assert found["above_chance"][0][2] is found["above_chance"][2][0] is None
    assert found["groups"]["same_model"] is None  # no method but one is shared


def test_the_grid_of_a_comparison_has_every_map_of_both(comparison: dict[str, Any]) -> None:
    found = comparison["grid"]
    assert len(found["maps"]) == 9
    assert found["n"] == comparison["similarity"]["n"]
    pair = next(p for p in comparison["similarity"]["pairs"] if p["second_method"] == "grad_cam")
    names = [(m["model"], m["method"]) for m in found["maps"]]
    row, column = names.index(("first", "grad_cam")), names.index(("second", "grad_cam"))
    assert found["above_chance"][row][column] == pytest.approx(pair["above_chance"]["value"])


def test_another_seed_gives_the_ceiling_and_its_accuracy(tmp_path: Path) -> None:
    """All maps of the made-up runs show the same places, so two models agree as two seeds do."""
    write_experiment(tmp_path, sample=200)
    write_experiment(tmp_path / "seed-1", sample=200, seed=1)
    write_experiment(tmp_path / "seed-2", sample=200, seed=2)
    (tmp_path / "seed-2" / "vit" / run_folder.HEATMAPS).unlink()  # not done yet
    compare(tmp_path)
    found = run_folder.read_json(tmp_path / run_folder.COMPARISON)
    trained = [(row["model"], row["seed"]) for row in found["seeds"]]
    assert trained == [("first", 0), ("second", 0), ("first", 1), ("second", 1)]
    for row in found["seeds"]:
        folder = tmp_path / ("seed-1" if row["seed"] else "") / NAMES[row["model"]]
        assert row["accuracy"] == run_folder.read_json(folder / run_folder.EVALUATION)["accuracy"]
    assert len(found["grid"]["maps"]) == 9
    assert found["grid"]["n"] == found["similarity"]["n"]  # other seeds take no images from it
    ceiling = found["grid"]["noise_ceiling"]
    assert min(ceiling[kind]["low"] for kind in ("models", "first", "second")) > 0.1
    assert ceiling["normalised"]["value"] == pytest.approx(1, abs=0.15)


def test_a_seed_of_other_images_is_an_error(tmp_path: Path) -> None:
    write_experiment(tmp_path)
    write_experiment(tmp_path / "seed-1", seed=1)
    change(tmp_path / "seed-1" / "vit" / run_folder.DATA, fingerprint="0" * 64)
    with pytest.raises(CheckpointError, match="seed-1/vit was trained on other images"):
        compare(tmp_path)


def test_a_ceiling_that_was_not_shown_normalises_nothing() -> None:
    generator = np.random.default_rng(3)
    maps = [
        similarity.Kind(model, method, generator.random((100, 8, 8)))
        for model, method in (("first", "grad_cam"), ("second", "integrated_gradients"))
        for _ in range(2)  # seeds
    ]
    found = seeds.noise_ceiling(maps, np.arange(100) % 10)
    assert found is not None
    assert found["normalised"] is None
    assert seeds.noise_ceiling(maps[::2], np.arange(100) % 10) is None  # one seed


def test_the_default_methods_are_those_of_the_explanations(tmp_path: Path) -> None:
    write_experiment(tmp_path, names=("vit", "resnet20"))
    compare(tmp_path)
    found = run_folder.read_json(tmp_path / run_folder.COMPARISON)
    assert found["labels"] == {"first": "ViT", "second": "resnet20"}
    pairs = found["similarity"]["pairs"]
    assert {pair["first_method"] for pair in pairs} == {"integrated_gradients"}
    assert [pair["second_method"] for pair in pairs][:1] == ["grad_cam"]
    assert found["side_by_side"]["second_method"] == "grad_cam"
    assert found["mistakes"]["first"]["method"] == "integrated_gradients"


def test_a_model_that_was_not_trained_here_has_no_times(tmp_path: Path) -> None:
    write_experiment(tmp_path, names=("resnet20", "vit"), untrained=["resnet20"], grid=7)
    compare(tmp_path)
    found = run_folder.read_json(tmp_path / run_folder.COMPARISON)
    assert found["models"]["first"]["parameters"] > 0
    assert found["models"]["first"]["epochs"] is found["models"]["first"]["train_seconds"] is None
    assert found["convergence"]
    assert all(row.keys() == {"val_accuracy", "second"} for row in found["convergence"])


def test_maps_of_two_grids_are_not_compared(tmp_path: Path) -> None:
    write_experiment(tmp_path)
    change(tmp_path / "vit" / run_folder.EXPLANATIONS, grid=[7, 7])
    with pytest.raises(CheckpointError, match=r"8 x 8 cells .* 7 x 7; .*same --explain\.grid"):
        compare(tmp_path)
