"""Predictions of trained models for one's own images."""

import shutil

import numpy as np
import pytest
from PIL import Image

from visavis import run_folder
from visavis.data import images
from visavis.errors import CheckpointError
from visavis.stages.predict import predict
from visavis.stages.trained import load


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a image.png"
    noise = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def test_the_top_three_are_those_of_the_model(finished, image):
    (prediction,) = predict(finished, [image])
    assert prediction["image"] == str(image)
    assert list(prediction["models"]) == ["cnn", "vit"]
    for name, found in prediction["models"].items():
        model = load(finished / name)
        probabilities = model.predict(images.read_image(image)[None])[0]
        expected = sorted(zip(probabilities, model.class_names, strict=True), reverse=True)[:3]
        assert [guess["class"] for guess in found["top"]] == [label for _, label in expected]
        confidences = [guess["confidence"] for guess in found["top"]]
        assert confidences == pytest.approx([p for p, _ in expected])


def test_nothing_is_written_unless_asked(finished, image, tmp_path):
    before = sorted(path for path in finished.rglob("*"))
    predict(finished, [image])
    assert sorted(path for path in finished.rglob("*")) == before
    assert list(tmp_path.iterdir()) == [image]


def test_overlays_are_drawn_for_each_image_and_model(finished, image, tmp_path):
    predictions = predict(finished, [image, image], out=tmp_path / "out")
    named = [found["overlay"] for each in predictions for found in each["models"].values()]
    assert len(set(named)) == 4
    assert sorted(named) == sorted(str(path) for path in (tmp_path / "out").iterdir())
    for path in named:
        with Image.open(path) as overlay:
            assert overlay.size == (256, 256)


def test_one_model_is_enough(finished, image, tmp_path):
    shutil.copytree(finished / "vit", tmp_path / "lone" / "vit")
    (prediction,) = predict(tmp_path / "lone", [image])
    assert list(prediction["models"]) == ["vit"]


def test_a_bad_image_costs_only_its_own_prediction(finished, image, tmp_path):
    predictions = predict(finished, [tmp_path / "none.png", image], out=tmp_path / "out")
    assert "none.png" in predictions[0]["error"]
    assert set(predictions[1]["models"]) == {"cnn", "vit"}


def test_without_a_trained_model_it_says_so(finished, image, tmp_path):
    with pytest.raises(CheckpointError, match="no trained model"):
        predict(tmp_path, [image])
    shutil.copytree(finished / "cnn", tmp_path / "lone" / "cnn")
    (tmp_path / "lone" / "cnn" / run_folder.WEIGHTS).write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match="damaged"):
        predict(tmp_path / "lone", [image])
