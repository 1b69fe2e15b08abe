import shutil

import numpy as np
import pytest
import torch

import tiny
from test_explain import CONFIG, run_folder
from visavis import models, runs, shapes
from visavis.crosstest import crosstest
from visavis.data import Dataset
from visavis.errors import CheckpointError
from visavis.explain import explain
from visavis.loader import to_images


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
            assert pair[key] is None or pair[key] == {"value": 1, "low": 1, "high": 1}
    assert found["transfer"][-1]["cnn_keeps"] is not None


def test_rankings_are_of_every_map_on_both_models(twins):
    rows = runs.read_json(twins / runs.CROSSTEST)["rankings"]
    assert len(rows) == 6
    said = runs.read_json(twins / "cnn" / runs.EXPLANATIONS)["methods"]
    for row in rows:
        assert row["deletion"]["cnn"] == row["deletion"]["vit"]
    by_occlusion = next(row for row in rows if row["method"] == "occlusion")
    own = said["occlusion"]["scores"]["deletion"]
    assert by_occlusion["deletion"]["vit"]["value"] == pytest.approx(own["value"], rel=0.05)


def test_composites_are_those_that_both_recognise_and_chance_is_their_area(twins):
    found = runs.read_json(twins / runs.CROSSTEST)["composites"]
    for kind, chance in (("halves", 0.5), ("box", 0.25)):
        of = found[kind]
        assert of["chance"] == chance
        assert of["n"] <= of["candidates"] * of["recognised"]["cnn"] + 1
        assert of["recognised"]["cnn"] == of["recognised"]["vit"]
        assert of["methods"]["cnn"] == of["methods"]["vit"]


def test_other_pictures_and_a_missing_stage_are_refused(twins, dataset, tmp_path):
    copy = shutil.copytree(twins, tmp_path / "copy")
    (copy / runs.CROSSTEST).unlink()
    import dataclasses

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


def test_maps_that_know_no_class_get_exactly_chance_on_halves():
    from visavis.crosstest import _energy
    from visavis.saliency import placement

    region = np.zeros((30, 8, 8))
    region[:, :, :4] = 1
    maps = placement.random_maps(30, seed=0)
    found = _energy("halves", maps, maps, region, np.zeros(30, dtype=np.int64))
    assert found["energy"] == pytest.approx({"value": 0.5, "low": 0.5, "high": 0.5})
    nothing = _energy("halves", -maps, -maps, region, np.zeros(30, dtype=np.int64))
    assert nothing == {"energy": found["energy"], "without_evidence": 1.0}
