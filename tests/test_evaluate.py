import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from small import dataset, experiment
from visavis import run_folder
from visavis.data.batches import to_images
from visavis.errors import CheckpointError, ModelError
from visavis.metrics.cues import CUES
from visavis.stages.evaluate import evaluate
from visavis.stages.train import train
from visavis.stages.trained import load_trained


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "cnn"
    train(folder, experiment(), "cnn", dataset())
    evaluate(folder, dataset())
    return folder


def test_every_test_image_is_seen_exactly_once_and_the_scores_follow_from_the_logits(tested):
    data = dataset()
    stored = run_folder.read_arrays(tested / run_folder.PREDICTIONS)
    evaluation = run_folder.read_json(tested / run_folder.EVALUATION)
    np.testing.assert_array_equal(stored["indices"], np.arange(len(data.test_labels)))
    np.testing.assert_array_equal(stored["labels"], data.test_labels)
    predicted = stored["logits"].argmax(axis=1)
    matrix = np.zeros((10, 10), int)
    for label, guess in zip(data.test_labels, predicted, strict=True):
        matrix[label, guess] += 1
    assert evaluation["confusion_matrix"] == matrix.tolist()
    assert evaluation["n"] == matrix.sum() == len(data.test_labels)
    assert evaluation["accuracy"] == pytest.approx((predicted == data.test_labels).mean())
    assert evaluation["f1_macro"] == pytest.approx(np.mean(evaluation["f1_per_class"]))


def test_the_validation_images_are_predicted_too(tested):
    data = dataset()
    stored = run_folder.read_arrays(tested / run_folder.PREDICTIONS)
    rows = run_folder.read_arrays(tested / run_folder.SPLIT)["validation"]
    np.testing.assert_array_equal(stored["validation_labels"], data.train_labels[rows])
    correct = stored["validation_logits"].argmax(axis=1) == stored["validation_labels"]
    reported = run_folder.read_json(tested / run_folder.TRAINING)["best_val_accuracy"]
    assert correct.mean() == pytest.approx(reported, abs=0.02)  # training may have measured in bf16


def test_the_same_images_are_predicted_without_each_cue(tested):
    data = dataset()
    stored = run_folder.read_arrays(tested / run_folder.PREDICTIONS)
    rows = stored["cue_indices"]
    np.testing.assert_array_equal(rows, np.arange(len(data.test_labels)))  # there are few
    images, model = to_images(data.test_pixels), load_trained(tested)
    colour, facts = images.mean(dim=(0, 2, 3)), run_folder.read_json(tested / run_folder.EVALUATION)
    assert list(facts["cues"]) == list(CUES)
    np.testing.assert_array_equal(stored["cue_examples"][0], data.test_pixels[0])
    for (name, cue), example in zip(CUES.items(), stored["cue_examples"][1:], strict=True):
        changed = cue.remove(images, colour, rows)
        np.testing.assert_allclose(example, 255 * changed[0].permute(1, 2, 0), rtol=0, atol=0.51)
        with torch.no_grad():
            predicted = model(changed).argmax(1).numpy()
        assert (predicted == stored[f"cue_{name}"]).mean() > 0.95  # ties, in other batches
        accuracy = (stored[f"cue_{name}"] == data.test_labels).mean()
        assert facts["cues"][name]["accuracy"]["value"] == pytest.approx(accuracy)


def test_altered_weights_are_errors(tested):
    path = tested / run_folder.WEIGHTS
    original = path.read_bytes()
    tensors = load_file(path)
    tensors["head.bias"] += 1
    try:
        save_file(tensors, path)
        with pytest.raises(CheckpointError, match="not the file that the training wrote"):
            evaluate(tested, dataset())
    finally:
        path.write_bytes(original)


def test_other_images_are_errors(tested):
    with pytest.raises(CheckpointError, match="was trained on built-in shapes"):
        evaluate(tested, dataset(seed=5))


def test_a_folder_without_a_finished_training_is_an_error_and_not_made(tmp_path):
    with pytest.raises(CheckpointError, match="is missing"):
        evaluate(tmp_path / "cnn", dataset())
    assert not (tmp_path / "cnn").exists()


def test_logits_that_are_not_finite_are_refused(tested, monkeypatch):
    model = load_trained(tested)
    predict = model.forward

    def dark_images_are_divided_by_zero(images):
        return predict(images) / (images.mean(dim=(1, 2, 3)) > 0.5)[:, None]

    monkeypatch.setattr(model, "forward", dark_images_are_divided_by_zero)
    monkeypatch.setattr("visavis.stages.evaluate.load_trained", lambda folder: model)
    before = (tested / run_folder.PREDICTIONS).read_bytes()
    with pytest.raises(ModelError, match=r"the logits of \d+ of the 60 test images are NaN or"):
        evaluate(tested, dataset())
    assert (tested / run_folder.PREDICTIONS).read_bytes() == before
