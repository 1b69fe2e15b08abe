"""The scores of maps are held against the known truth: SRG passes, and half of it would not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import small
import tiny
from visavis import run_folder
from visavis.config import CNNConfig, ExplainConfig
from visavis.data import Dataset, shapes
from visavis.errors import DataError
from visavis.metrics import faithfulness
from visavis.stages.evaluate import evaluate
from visavis.stages.explain import explain, validate_scores, validation
from visavis.stages.explain.selection import Sample
from visavis.stages.train import train


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    pixels, labels, _ = shapes.draw(3000, seed=0)
    return dataclasses.replace(
        small.dataset(test=300),
        train_pixels=pixels,
        train_labels=labels,
        redraw=lambda change: shapes.draw(300, seed=1000, change=change)[0],
    )


@pytest.fixture(scope="module")
def trained(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CNN that has learnt the shapes in some seconds."""
    folder = tmp_path_factory.mktemp("trained") / "cnn"
    config = small.experiment()
    cnn = CNNConfig(
        widths=(16, 32, 32),
        optim=dataclasses.replace(config.cnn.optim, epochs=4, batch_size=50, crop=0),
    )
    train(folder, dataclasses.replace(config, cnn=cnn), "cnn", dataset)
    evaluate(folder, dataset)
    assert run_folder.read_json(folder / run_folder.EVALUATION)["accuracy"] > 0.6
    return folder


def test_srg_orders_maps_as_the_truth_does_gives_a_blob_nothing_and_falls_as_a_map_is_spoilt(
    trained: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visavis.stages.explain.ALONE", 40)
    found = validate_scores(trained, dataset)
    assert found["passed"], found["failed_because"]
    srg = found["scores"]["srg"]
    assert min(srg["correlation"].values()) > 0.9
    course = list(srg["course"].values())
    assert course[:5] == sorted(course[:5], reverse=True)
    assert abs(course[4]) < 0.1  # noise alone
    assert {"blob", "random", "centre", "edges", "occlusion"} < set(found["maps"])
    assert 0 < srg["images_needed"] < 100


def test_half_of_the_score_alone_would_not_pass(
    trained: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visavis.stages.explain.ALONE", 20)

    def deletion_alone(removal, name, fill=None):
        return -removal.deletion[name].mean(axis=1)

    monkeypatch.setattr(faithfulness.Removal, "srg", deletion_alone)
    found = validate_scores(trained, dataset)
    assert not found["passed"]
    assert any("blob" in reason for reason in found["failed_because"])


@pytest.mark.usefixtures("few_points")
def test_explaining_such_images_tests_the_scores_and_exchanges_the_background(
    trained: Path, dataset: Dataset
) -> None:
    explain(trained, dataset, ExplainConfig(images=30, sweep_images=25))
    found = run_folder.read_json(trained / run_folder.EXPLANATIONS)
    tested, elsewhere = found["score_validation"], found["other_background"]
    assert tested["n"] == 24
    assert tested["scores"]["srg"]["correlation"]["clean_plate"] > 0.8
    assert any(name.startswith("grad_cam ") for name in tested["maps"])
    assert elsewhere["n"] == 30 and elsewhere["prediction"]["value"] > 0.5
    assert elsewhere["methods"].keys() == found["methods"].keys()
    for of in elsewhere["methods"].values():
        assert of["map"]["value"] > of["map_baseline"]["value"]


def test_images_whose_truth_is_not_known_are_an_error(trained: Path, dataset: Dataset) -> None:
    unknown = dataclasses.replace(dataset, redraw=None)
    with pytest.raises(DataError, match="whose truth is not known"):
        validate_scores(trained, unknown)


def test_a_sample_is_cut_with_all_of_its_rows() -> None:
    images, labels = tiny.images(5), np.arange(5)
    sample = Sample(tiny.subject("cnn"), images, labels, labels, np.ones((5, 8, 8)), None)
    first = sample.first(2)
    lengths = [len(of) for of in (first.images, first.predicted, first.labels, first.masks)]
    assert lengths == [2, 2, 2, 2]


def test_a_model_without_valid_maps_has_no_test_of_its_scores() -> None:
    subject, n = tiny.subject("vit"), 25
    images, labels, flat = tiny.images(n), np.zeros(n, np.int64), np.zeros((n, 8, 8), np.float32)
    subject.lacks = {"layers": "no layer keeps a grid"}
    sample = Sample(subject, images, labels, labels, flat, None)
    masks = np.ones((n, 32, 32), bool)
    maps = {"integrated_gradients": flat}
    nothing = faithfulness.Removal({}, {})
    assert validation.validate(sample, maps, subject, nothing, plates=images, masks=masks) is None


def test_a_score_that_is_the_same_for_every_map_follows_no_truth() -> None:
    """As keep-top-20 % accuracy is, of a model at chance; without a number it would be no JSON."""
    truth = {"a": np.array([0.1, 0.2]), "b": np.array([0.3, 0.4]), "c": np.array([0.5, 0.6])}
    assert validation.correlation(dict.fromkeys(truth, np.array([0.1, 0.1])), truth) == 0
    assert validation.correlation(truth, truth) == 1
