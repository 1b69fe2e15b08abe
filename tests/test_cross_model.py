import dataclasses
import shutil

import numpy as np
import pytest
import torch

import tiny
from test_explain import CONFIG, trained_folder
from visavis import models, run_folder
from visavis.data import Dataset, shapes
from visavis.data.batches import to_images
from visavis.errors import CheckpointError
from visavis.metrics import baselines, composites
from visavis.metrics.composites import energy
from visavis.stages.cross_model import _composites, cross_evaluate
from visavis.stages.explain import explain


@pytest.fixture(scope="module", autouse=True)
def _few_points():
    with tiny.few_points():
        yield


@pytest.fixture(scope="module")
def dataset():
    pixels, labels, masks = shapes.draw(100, seed=3)
    return Dataset(
        source="shapes",
        description="shapes",
        class_names=shapes.CLASS_NAMES,
        train_pixels=pixels[:40],
        train_labels=labels[:40],
        test_pixels=pixels[40:],
        test_labels=labels[40:],
        test_masks=masks[40:],
    )


@pytest.fixture(scope="module")
def twins(tmp_path_factory, dataset):
    """Twice the same CNN, confident in its predictions, one of them in place of the ViT."""
    model = tiny.model("cnn")
    images = to_images(dataset.test_pixels)
    with torch.no_grad():
        model.head.weight.mul_(300)
        model.head.bias.sub_(model(images).mean(dim=0))  # else it predicts one class for everything
        logits = model(images)
    folder = tmp_path_factory.mktemp("twins")
    trained_folder(folder / "cnn", model, dataset)
    stored = run_folder.read_arrays(folder / "cnn" / run_folder.PREDICTIONS)
    run_folder.write_arrays(
        folder / "cnn" / run_folder.PREDICTIONS, **(stored | {"logits": logits.numpy()})
    )
    explain(folder / "cnn", dataset, CONFIG)
    shutil.copytree(folder / "cnn", folder / "vit")
    cross_evaluate(folder, dataset, CONFIG)
    return folder


def test_a_model_keeps_all_of_its_gain_with_its_own_twins_maps(twins):
    found = run_folder.read_json(twins / run_folder.CROSS_MODEL)
    assert found["n"] == 40  # they agree on every image
    assert [p["first_method"] for p in found["transfer"]] == [
        "grad_cam",
        "integrated_gradients",
        "occlusion",
    ]
    for pair in found["transfer"]:
        assert pair["first_method"] == pair["second_method"]
        for key in ("first_transfer", "second_transfer"):
            ends = list((pair[key] or {}).values())
            assert ends == pytest.approx([1] * len(ends), abs=0.02)
    assert found["transfer"][-1]["first_transfer"] is not None


def test_rankings_are_of_every_map_on_both_models(twins):
    rows = run_folder.read_json(twins / run_folder.CROSS_MODEL)["rankings"]
    assert len(rows) == 6
    explanations = run_folder.read_json(twins / "cnn" / run_folder.EXPLANATIONS)["methods"]
    for row in rows:
        assert row["srg"]["first"] == pytest.approx(row["srg"]["second"], abs=0.02)
    by_occlusion = next(row for row in rows if row["method"] == "occlusion")
    own = explanations["occlusion"]["scores"]["srg"]
    assert by_occlusion["srg"]["second"]["value"] == pytest.approx(own["value"], rel=0.05)


def test_composites_are_those_that_both_recognise(twins):
    found = run_folder.read_json(twins / run_folder.CROSS_MODEL)["composites"]
    for kind in ("halves", "box"):
        assert found[kind]["chance"] == 0.5
        assert found[kind]["recognised"]["first"] == found[kind]["recognised"]["second"] < 0.5
        assert found[kind]["n"] == round(
            found[kind]["candidates"] * found[kind]["recognised"]["first"]
        )


@pytest.mark.parametrize("kind", composites.KINDS)
def test_the_true_region_scores_one_and_the_same_map_chance(dataset, monkeypatch, kind):
    made = composites.composites(kind, dataset.test_pixels, dataset.test_labels, count=600, grid=8)
    monkeypatch.setattr(
        "visavis.metrics.composites.recognised",
        lambda logits, classes: np.ones(len(classes), bool),
    )

    def maps(model, images, targets, method, **settings):
        region = made.region[: len(images)].astype(np.float32)
        if method == "grad_cam":
            return [region, 1 - region]
        even = np.ones_like(region)
        return [even, even]

    monkeypatch.setattr("visavis.stages.cross_model.grid_maps", maps)
    of_each = {"methods": {"grad_cam": {}, "occlusion": {}}, "layer": "stages.2.activation2"}
    explanations = {"first": of_each, "second": of_each}
    both = {"first": tiny.subject("cnn"), "second": tiny.subject("vit")}
    found = _composites(both, dataset, kind, explanations, count=30)
    assert found["n"] == 30
    for role in ("first", "second"):
        of = found["methods"][role]
        assert of["grad_cam"]["energy"]["low"] == pytest.approx(1)
        assert of["occlusion"]["energy"]["value"] == pytest.approx(found["chance"])


def test_a_model_trained_again_since_it_was_explained_is_an_error(twins, dataset, tmp_path):
    copy = shutil.copytree(twins, tmp_path / "copy")
    explanations = run_folder.read_json(copy / "vit" / run_folder.EXPLANATIONS)
    run_folder.write_json(
        copy / "vit" / run_folder.EXPLANATIONS, explanations | {"weights_sha256": "0" * 64}
    )
    with pytest.raises(CheckpointError, match="trained again since it was explained"):
        cross_evaluate(copy, dataset, CONFIG)


def test_other_images_and_a_missing_stage_are_errors(twins, dataset, tmp_path):
    copy = shutil.copytree(twins, tmp_path / "copy")
    (copy / run_folder.CROSS_MODEL).unlink()
    brighter = dataclasses.replace(dataset, test_pixels=dataset.test_pixels | 1)
    with pytest.raises(CheckpointError, match="was trained on shapes"):
        cross_evaluate(copy, brighter, CONFIG)
    (copy / "vit" / run_folder.HEATMAPS).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        cross_evaluate(copy, dataset, CONFIG)
    models.save(models.build(tiny.CNN_CONFIG, 10), copy / "cnn" / run_folder.WEIGHTS)
    with pytest.raises(CheckpointError, match="not the file that the training wrote"):
        cross_evaluate(copy, dataset, CONFIG)
    assert not (copy / run_folder.CROSS_MODEL).exists()


@pytest.mark.parametrize("columns", [4, 2])
def test_maps_that_know_no_class_get_exactly_chance(columns):
    region = np.zeros((30, 8, 8))
    region[:, :, :columns] = 1
    maps = baselines.random_maps(30, 8, seed=0)
    found = energy(maps, maps, region, np.zeros(30, dtype=np.int64))
    assert found["energy"] == pytest.approx({"value": 0.5, "low": 0.5, "high": 0.5})
    nothing = energy(-maps, -maps, region, np.zeros(30, dtype=np.int64))
    assert nothing == {"energy": found["energy"], "degenerate_fraction": 1.0}
