import dataclasses

import numpy as np
import pytest
import torch

import tiny
from visavis import attribution, models, run_folder
from visavis.attribution.batched import to_cells
from visavis.config import ExplainConfig
from visavis.data import Dataset, describe
from visavis.data.batches import to_images
from visavis.errors import CheckpointError
from visavis.files import file_sha256
from visavis.metrics import localization, sanity
from visavis.stages.explain import explain, layers
from visavis.stages.explain.selection import choose_images
from visavis.stages.trained import load_trained, observed

CONFIG = ExplainConfig(images=40, sweep_images=20)
SCORES = {
    "srg",
    "srg_mean_fill",
    "srg_blur_fill",
    "deletion",
    "insertion",
    "contrast",
    "srg_runner_up",
    "central_mass",
    "relevance_mass",
    "pointing_hit",
    "mask_auc",
    "idsds",
    "keep_top_20",
    "gini",
    "largest_part",
}


@pytest.fixture(scope="module", autouse=True)
def _few_points():
    with tiny.few_points():
        yield


@pytest.fixture(scope="module")
def dataset():
    generator = np.random.default_rng(0)
    return Dataset(
        source="shapes",
        description="noise",
        class_names=tuple("abcdefghij"),
        train_pixels=generator.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8),
        train_labels=np.arange(40) % 10,
        test_pixels=generator.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8),
        test_labels=np.arange(60) % 10,
        test_masks=generator.random((60, 32, 32)) < 0.2,
    )


def trained_folder(folder, model, dataset, *, accuracy=0.5):
    """A folder as training and evaluation leave it, with about a given accuracy."""
    config = tiny.CNN_CONFIG if hasattr(model, "stages") else tiny.VIT_CONFIG
    folder.mkdir(exist_ok=True)
    run_folder.write_json(folder / run_folder.CONFIG, {"model": models.config_to_json(config)})
    models.save(model, folder / run_folder.WEIGHTS)
    run_folder.write_json(folder / run_folder.DATA, describe(dataset))
    checksum = file_sha256(folder / run_folder.WEIGHTS)
    run_folder.write_json(folder / run_folder.TRAINING, {"weights_sha256": checksum})
    run_folder.write_arrays(
        folder / run_folder.SPLIT,
        train=np.arange(20, dtype=np.int32),
        validation=np.arange(20, 40, dtype=np.int32),
    )
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 1, (60, 10)).astype(np.float32)
    predicted = np.where(
        generator.random(60) < accuracy, dataset.test_labels, logits.argmax(axis=1)
    )
    logits[np.arange(60), predicted] += 5
    run_folder.write_arrays(
        folder / run_folder.PREDICTIONS,
        logits=logits,
        labels=dataset.test_labels,
        indices=np.arange(60, dtype=np.int32),
    )
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory, dataset):
    """The folders of two explained models, one more accurate than the other."""
    found = {}
    for kind, accuracy in (("cnn", 0.4), ("vit", 0.7)):
        folder = tmp_path_factory.mktemp(kind)
        found[kind] = trained_folder(folder, tiny.model(kind), dataset, accuracy=accuracy)
        explain(folder, dataset, CONFIG)
    return found


@pytest.fixture(scope="module", params=["cnn", "vit"])
def explained(request, folders, dataset):
    """A subject with its explanations.json and the arrays of its heatmaps.npz."""
    folder = folders[request.param]
    return (
        # Loaded anew, with the memory format that the stage explained it in.
        observed(load_trained(folder), dataset.test_pixels),
        run_folder.read_json(folder / run_folder.EXPLANATIONS),
        run_folder.read_arrays(folder / run_folder.HEATMAPS),
    )


def test_every_method_of_the_model_is_scored_beside_the_same_baselines(explained):
    subject, written, _ = explained
    assert written["n"] == 40
    usual = [m for m in attribution.methods_for(subject) if not attribution.METHODS[m].on_request]
    assert list(written["methods"]) == usual
    assert written["default_method"] in written["methods"]
    for name, method in written["methods"].items():
        assert method["label"] == attribution.METHODS[name].label
        assert method["scores"].keys() == SCORES | {"class_sensitivity"}
        assert method["randomised"].keys() == {"agreement", "permutation_baseline", "above_chance"}
        specific = attribution.METHODS[name].class_specific
        enough = method["degenerate"] <= 20
        assert (method["scores"]["central_mass"] is not None) == enough
        assert specific or method["scores"]["class_sensitivity"] is None
        if specific and not method["degenerate"]:
            assert method["scores"]["class_sensitivity"] is not None
        assert method["degenerate"] == sum(method["degenerate_because"].values())
        others = {*written["methods"], *written["baselines"]} - {name}
        for key in ("srg_ahead_of", "srg_mean_fill_ahead_of", "srg_blur_fill_ahead_of"):
            assert method[key].keys() == others
        assert method["trivial_baselines"].keys() == {"centre", "edges", "mean"}
        assert method["robustness"].keys() == {"noise", "mirrored", "shifted"}
        assert [step["part"] for step in method["cascading"]] == sanity.parts(subject.model)
        if name == "occlusion":  # others may have no map left of a randomised model
            assert all(step["agreement"] for step in method["cascading"])
    assert written["baselines"].keys() == {"random", "blob", "centre", "edges", "mean"}
    for baseline in written["baselines"].values():
        assert baseline["scores"].keys() == SCORES
    assert written["mask_chance"]["value"] == pytest.approx(0.2, abs=0.01)
    assert written["centre_chance"] == 0.25


def test_the_layer_of_each_model_is_swept(explained):
    subject, written, _ = explained
    sweep = written["layer_sweep"]
    assert (sweep["split"], sweep["n"]) == ("validation", 20)
    assert [row["layer"] for row in sweep["rows"]] == list(subject.layers)
    assert [row["layer"] for row in sweep["rows"] if row["chosen"]] == [written["layer"]]
    assert written["layer"] in sweep["reason"]


def test_maps_are_those_of_the_predicted_and_of_the_true_class(explained, dataset):
    subject, written, arrays = explained
    pixels = dataset.test_pixels[arrays["indices"]]
    np.testing.assert_array_equal(arrays["images"], pixels)
    np.testing.assert_array_equal(arrays["labels"], dataset.test_labels[arrays["indices"]])
    images = to_images(pixels)
    for method in written["methods"]:
        for name, classes in (("", "predicted"), ("_true", "labels")):
            if name and not attribution.METHODS[method].class_specific:
                assert f"map_{method}{name}" not in arrays
                continue
            expected = attribution.explain(
                subject,
                images,
                torch.from_numpy(arrays[classes]),
                method,
                layer=written["layer"] if method == "grad_cam" else None,
            )
            found = arrays[f"map_{method}{name}"]
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, to_cells(expected, 8), atol=1e-6, rtol=1e-3)
        degenerate = [not heatmap.any() for heatmap in arrays[f"map_{method}"]]
        assert arrays[f"degenerate_{method}"].tolist() == degenerate
    if "attention" in written["methods"]:
        heads = arrays["attention_heads"]
        assert heads.shape == (len(images), 2, 2, 8, 8)
        np.testing.assert_allclose(
            heads[:, -1].astype(np.float32).mean(axis=1), arrays["map_attention"], rtol=1e-2
        )


def test_relevance_masses_are_of_the_images_own_maps_and_masks(explained, dataset):
    _, written, arrays = explained
    sample = arrays["in_sample"]
    masks = localization.cell_means(dataset.test_masks[arrays["indices"][sample]], 8)
    for name, method in written["methods"].items():
        maps = arrays[f"map_{name}"][sample]
        for key, inside in (
            ("relevance_mass", masks),
            ("central_mass", localization.centre(len(maps), 8)),
        ):
            expected = np.nanmean(localization.relevance_mass(maps, inside))
            assert method["scores"][key]["value"] == pytest.approx(expected, rel=1e-5)


def test_the_layer_is_chosen_on_validation_images_alone(tmp_path, dataset, monkeypatch):
    seen = []

    def sweep(subject, images, **settings):
        seen.extend(images)
        raise KeyboardInterrupt  # what follows is the other tests'

    monkeypatch.setattr(layers, "sweep", sweep)
    folder = trained_folder(tmp_path, tiny.model("cnn"), dataset)
    with pytest.raises(KeyboardInterrupt):
        explain(folder, dataset, CONFIG)
    validation = to_images(dataset.train_pixels[20:40])
    assert len(seen) == 20
    assert all(any(torch.equal(image, own) for own in validation) for image in seen)


def test_sample_and_gallery_rows(explained):
    _, written, arrays = explained
    assert arrays["in_sample"].tolist() == [True] * 40 + [False] * (len(arrays["labels"]) - 40)
    correct = arrays["predicted"] == arrays["labels"]
    for kind, truth in (("correct", True), ("incorrect", False)):
        rows = written["gallery"][kind]
        assert len(set(rows)) == 8
        assert (correct[rows] == truth).all()
        assert len(set(arrays["labels"][rows])) == 8
    assert len(set(arrays["indices"])) == len(arrays["indices"])
    assert (arrays["runner_up"] != arrays["predicted"]).all()
    assert ((arrays["confidence"] > 0.1) & (arrays["confidence"] <= 1)).all()


def test_both_models_have_the_same_sample(folders):
    cnn, vit = (
        run_folder.read_arrays(folders[kind] / run_folder.HEATMAPS)["indices"][:40]
        for kind in ("cnn", "vit")
    )
    assert cnn.tolist() == vit.tolist()


def test_a_constant_model_has_degenerate_maps_and_no_scores(tmp_path, dataset):
    """A new ViT: its head is zero, so every map is zero."""
    folder = trained_folder(tmp_path, models.build(tiny.VIT_CONFIG, 10), dataset)
    explain(folder, dataset, dataclasses.replace(CONFIG, images=20))
    written = run_folder.read_json(folder / run_folder.EXPLANATIONS)
    for name in ("grad_cam", "gradient_attention"):
        method = written["methods"][name]
        assert (method["degenerate"], method["degenerate_because"]) == (20, {"zero everywhere": 20})
        assert set(method["scores"].values()) == {None}
    edges = written["baselines"]["edges"]["scores"]
    assert set(edges["srg"].values()) == {0}
    assert edges["central_mass"] is not None


def test_other_pixels_and_other_weights_are_errors(tmp_path, dataset):
    folder = trained_folder(tmp_path, tiny.model("cnn"), dataset)
    brighter = dataclasses.replace(dataset, test_pixels=dataset.test_pixels | 1)  # same labels
    with pytest.raises(CheckpointError, match="was trained on noise"):
        explain(folder, brighter, CONFIG)
    models.save(models.build(tiny.CNN_CONFIG, 10), folder / run_folder.WEIGHTS)
    with pytest.raises(CheckpointError, match="not the file that the training wrote"):
        explain(folder, dataset, CONFIG)
    assert not (folder / run_folder.EXPLANATIONS).exists()


def test_predictions_or_a_split_of_other_images_are_errors(tmp_path, dataset):
    folder = trained_folder(tmp_path, tiny.model("cnn"), dataset)
    stored = run_folder.read_arrays(folder / run_folder.PREDICTIONS)
    for change, expected in (
        ({"labels": stored["labels"][::-1]}, "one prediction for each test image of shapes"),
        ({"logits": stored["logits"][:30]}, "one prediction for each test image"),
        ({"logits": stored["logits"] * np.float32(np.nan)}, "one prediction for each test image"),
    ):
        run_folder.write_arrays(folder / run_folder.PREDICTIONS, **(stored | change))
        with pytest.raises(CheckpointError, match=expected):
            explain(folder, dataset, CONFIG)
    run_folder.write_arrays(folder / run_folder.PREDICTIONS, **stored)
    run_folder.write_arrays(folder / run_folder.SPLIT, validation=np.arange(100, dtype=np.int32))
    with pytest.raises(CheckpointError, match="names no validation images"):
        explain(folder, dataset, CONFIG)
    (folder / run_folder.PREDICTIONS).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        explain(folder, dataset, CONFIG)
    assert not (folder / run_folder.EXPLANATIONS).exists()


def test_the_gallery_is_varied_first_then_filled_and_its_rule_names_what_is_missing():
    labels = np.repeat(np.arange(3), 100)
    logits = np.eye(3)[labels]
    wrong = np.array([5, 105, 106, 107])
    logits[wrong] = np.eye(3)[(labels[wrong] + 1) % 3]
    chosen = choose_images(logits, labels, sample=50)
    correct, incorrect = chosen.gallery["correct"], chosen.gallery["incorrect"]
    assert len(correct) == 8
    assert set(chosen.labels[correct[:3]]) == {0, 1, 2}
    assert sorted(chosen.indices[incorrect]) == wrong.tolist()
    assert set(chosen.labels[incorrect[:2]]) == {0, 1}
    assert "only 4 incorrect" in chosen.gallery["rule"]
    assert "correct test" not in chosen.gallery["rule"].replace("incorrect", "")
    assert chosen.sample == 50
    everything = choose_images(logits, labels, sample=10_000)
    assert everything.sample == len(everything.indices) == 300


def test_the_runner_up_has_the_second_highest_logit():
    logits = np.random.default_rng(0).normal(0, 1, (200, 10))
    chosen = choose_images(logits, np.arange(200) % 10, sample=200)
    assert (
        np.sort(chosen.logits, axis=1)[:, -2] == chosen.logits[np.arange(200), chosen.runner_up]
    ).all()
