import dataclasses
import shutil

import numpy as np
import pytest
import torch

import tiny
from test_explain import CONFIG, run_folder
from visavis import models, runs, shapes
from visavis.crosstest import _composites, _energy, crosstest
from visavis.data import Dataset
from visavis.errors import CheckpointError
from visavis.explain import explain
from visavis.loader import to_images
from visavis.saliency import placement, pointing


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
    """Twice the same CNN, sure of its answers, one of them in the ViT's place."""
    model = tiny.model("cnn")
    images = to_images(dataset.test_pixels)
    with torch.no_grad():
        model.head.weight.mul_(300)
        model.head.bias.sub_(model(images).mean(dim=0))  # else it says the same to everything
        logits = model(images)
    folder = tmp_path_factory.mktemp("twins")
    run_folder(folder / "cnn", model, dataset)
    stored = runs.read_arrays(folder / "cnn" / runs.PREDICTIONS)
    runs.write_arrays(folder / "cnn" / runs.PREDICTIONS, **(stored | {"logits": logits.numpy()}))
    explain(folder / "cnn", dataset, CONFIG)
    shutil.copytree(folder / "cnn", folder / "vit")
    crosstest(folder, dataset, CONFIG)
    return folder


def test_a_model_keeps_all_of_its_gain_with_its_own_twins_maps(twins):
    found = runs.read_json(twins / runs.CROSSTEST)
    assert found["n"] == 40  # they agree on every picture
    assert [p["cnn_method"] for p in found["transfer"]] == [
        "grad_cam",
        "integrated_gradients",
        "occlusion",
    ]
    for pair in found["transfer"]:
        assert pair["cnn_method"] == pair["vit_method"]
        for key in ("cnn_keeps", "vit_keeps"):
            whole = {"value": 1, "low": 1, "high": 1}
            assert pair[key] is None or pair[key] == pytest.approx(whole, abs=0.02)
    assert found["transfer"][-1]["cnn_keeps"] is not None


def test_rankings_are_of_every_map_on_both_models(twins):
    rows = runs.read_json(twins / runs.CROSSTEST)["rankings"]
    assert len(rows) == 6
    said = runs.read_json(twins / "cnn" / runs.EXPLANATIONS)["methods"]
    for row in rows:
        apart = 0.3 if row["method"] == "grad_cam" else 0.02  # its zeros tie, in random order
        assert row["deletion"]["cnn"] == pytest.approx(row["deletion"]["vit"], abs=apart)
    by_occlusion = next(row for row in rows if row["method"] == "occlusion")
    own = said["occlusion"]["scores"]["deletion"]
    assert by_occlusion["deletion"]["vit"]["value"] == pytest.approx(own["value"], rel=0.05)


def test_composites_are_those_that_both_recognise(twins):
    found = runs.read_json(twins / runs.CROSSTEST)["composites"]
    for kind in ("halves", "box"):
        assert found[kind]["chance"] == 0.5
        assert found[kind]["recognised"]["cnn"] == found[kind]["recognised"]["vit"] < 0.5
        assert found[kind]["n"] == round(
            found[kind]["candidates"] * found[kind]["recognised"]["cnn"]
        )


@pytest.mark.parametrize("kind", pointing.KINDS)
def test_the_truth_points_at_its_class_the_same_map_has_chance_and_a_fault_has_no_number(
    dataset, monkeypatch, kind
):
    made = pointing.composites(kind, dataset.test_pixels, dataset.test_labels, count=600)
    monkeypatch.setattr(
        "visavis.crosstest._recognised", lambda model, images, classes: np.ones(len(images), bool)
    )

    def maps(model, images, asked, method, **settings):
        region = made.region[: len(images)].astype(np.float32)
        if method == "grad_cam":
            return [region, 1 - region]
        even = np.ones_like(region)
        return [even, even]

    monkeypatch.setattr("visavis.crosstest.grid_maps", maps)
    methods = {"grad_cam": None, "occlusion": None, "integrated_gradients": "not the same"}
    said = {
        name: {
            "methods": {m: {"fault": f} for m, f in methods.items()},
            "layer": "stages.2.activation2",
        }
        for name in ("cnn", "vit")
    }
    both = {"cnn": tiny.model("cnn"), "vit": tiny.model("vit")}
    found = _composites(both, dataset, kind, said, count=30)
    assert found["n"] == 30
    for name in ("cnn", "vit"):
        of = found["methods"][name]
        assert of["grad_cam"]["energy"] == pytest.approx({"value": 1, "low": 1, "high": 1})
        assert of["occlusion"]["energy"]["value"] == pytest.approx(found["chance"])
        assert of["integrated_gradients"]["energy"] is None


def test_a_model_trained_anew_since_it_was_explained_is_refused(twins, dataset, tmp_path):
    copy = shutil.copytree(twins, tmp_path / "copy")
    said = runs.read_json(copy / "vit" / runs.EXPLANATIONS)
    runs.write_json(copy / "vit" / runs.EXPLANATIONS, said | {"weights_sha256": "0" * 64})
    with pytest.raises(CheckpointError, match="trained anew since it was explained"):
        crosstest(copy, dataset, CONFIG)


def test_other_pictures_and_a_missing_stage_are_refused(twins, dataset, tmp_path):
    copy = shutil.copytree(twins, tmp_path / "copy")
    (copy / runs.CROSSTEST).unlink()
    brighter = dataclasses.replace(dataset, test_pixels=dataset.test_pixels | 1)
    with pytest.raises(CheckpointError, match="was trained on shapes"):
        crosstest(copy, brighter, CONFIG)
    (copy / "vit" / runs.HEATMAPS).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        crosstest(copy, dataset, CONFIG)
    models.save(models.build(tiny.CNN_CONFIG), copy / "cnn" / runs.WEIGHTS)
    with pytest.raises(CheckpointError, match="not the file that the training wrote"):
        crosstest(copy, dataset, CONFIG)
    assert not (copy / runs.CROSSTEST).exists()


@pytest.mark.parametrize("columns", [4, 2])
def test_maps_that_know_no_class_get_exactly_chance(columns):
    region = np.zeros((30, 8, 8))
    region[:, :, :columns] = 1
    maps = placement.random_maps(30, seed=0)
    found = _energy(maps, maps, region, np.zeros(30, dtype=np.int64))
    assert found["energy"] == pytest.approx({"value": 0.5, "low": 0.5, "high": 0.5})
    nothing = _energy(-maps, -maps, region, np.zeros(30, dtype=np.int64))
    assert nothing == {"energy": found["energy"], "without_evidence": 1.0}
