"""What trained models say about pictures of one's own."""

import shutil

import numpy as np
import pytest
from PIL import Image

from visavis import pictures, runs
from visavis.errors import CheckpointError
from visavis.predict import predict
from visavis.trained import load


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a picture.png"
    noise = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def test_the_top_three_are_those_of_the_model(finished, picture):
    (answer,) = predict(finished, [picture])
    assert answer["image"] == str(picture)
    assert list(answer["models"]) == ["cnn", "vit"]
    for name, found in answer["models"].items():
        model = load(finished / name)
        probabilities = model.predict(pictures.read_picture(picture)[None])[0]
        expected = sorted(zip(probabilities, model.class_names, strict=True), reverse=True)[:3]
        assert [guess["class"] for guess in found["top"]] == [label for _, label in expected]
        confidences = [guess["confidence"] for guess in found["top"]]
        assert confidences == pytest.approx([p for p, _ in expected])


def test_nothing_is_written_unless_asked(finished, picture, tmp_path):
    before = sorted(path for path in finished.rglob("*"))
    predict(finished, [picture])
    assert sorted(path for path in finished.rglob("*")) == before
    assert list(tmp_path.iterdir()) == [picture]


def test_overlays_are_drawn_for_each_picture_and_model(finished, picture, tmp_path):
    answers = predict(finished, [picture, picture], out=tmp_path / "out")
    named = [found["overlay"] for answer in answers for found in answer["models"].values()]
    assert len(set(named)) == 4
    assert sorted(named) == sorted(str(path) for path in (tmp_path / "out").iterdir())
    for path in named:
        with Image.open(path) as overlay:
            assert overlay.size == (256, 256)


def test_one_model_is_enough(finished, picture, tmp_path):
    shutil.copytree(finished / "vit", tmp_path / "lone" / "vit")
    (answer,) = predict(tmp_path / "lone", [picture])
    assert list(answer["models"]) == ["vit"]


def test_a_bad_picture_costs_only_its_own_answer(finished, picture, tmp_path):
    answers = predict(finished, [tmp_path / "none.png", picture], out=tmp_path / "out")
    assert "none.png" in answers[0]["error"]
    assert set(answers[1]["models"]) == {"cnn", "vit"}


def test_without_a_trained_model_it_says_so(finished, picture, tmp_path):
    with pytest.raises(CheckpointError, match="no trained model"):
        predict(tmp_path, [picture])
    shutil.copytree(finished / "cnn", tmp_path / "lone" / "cnn")
    (tmp_path / "lone" / "cnn" / runs.WEIGHTS).write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match="damaged"):
        predict(tmp_path / "lone", [picture])
