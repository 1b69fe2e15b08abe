import numpy as np
import pytest
import torch

from small import dataset, experiment, train_interrupted
from visavis import attribution, run_folder
from visavis.data.batches import to_images
from visavis.stages.train import train
from visavis.stages.trained import load_trained, observed
from visavis.training.snapshots import Snapshots, shown_epochs


def test_the_first_epochs_are_shown_more_closely_and_the_last_is_there():
    assert shown_epochs(1) == [0, 1]
    assert shown_epochs(3) == [0, 1, 2, 3]
    assert shown_epochs(8) == [0, 1, 2, 4, 8]
    assert shown_epochs(12) == [0, 1, 2, 4, 8, 12]


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_snapshots_change_no_bit_of_the_training_and_show_the_model_as_it_was(
    tmp_path, monkeypatch, name
):
    data, config = dataset(), experiment()
    train(tmp_path / "tracked", config, name, data)
    with monkeypatch.context() as patch:
        patch.setattr(Snapshots, "_take", lambda self, epoch, module: None)
        train(tmp_path / "alone", config, name, data)
    assert not (tmp_path / "alone" / run_folder.SNAPSHOTS).exists()
    tracked, alone = (load_trained(tmp_path / f) for f in ("tracked", "alone"))
    for key, value in tracked.state_dict().items():
        assert torch.equal(value, alone.state_dict()[key])

    strip = run_folder.read_arrays(tmp_path / "tracked" / run_folder.SNAPSHOTS)
    assert strip["epochs"].tolist() == [0, 1, 2]
    labels = strip["labels"]
    assert len(set(labels.tolist())) == len(labels)  # one of each class
    best = run_folder.read_json(tmp_path / "tracked" / run_folder.TRAINING)["best_epoch"]
    subject = observed(tracked, data.train_pixels)
    method = attribution.default_method(subject)
    expected = attribution.explain(
        subject, to_images(strip["images"]), torch.from_numpy(labels), method
    )
    np.testing.assert_allclose(strip[f"map_{method}"][best], expected, atol=1e-5, rtol=1e-3)


def test_the_snapshots_of_a_resumed_training_are_complete(tmp_path, monkeypatch):
    data, config = dataset(), experiment()
    train(tmp_path / "uninterrupted", config, "vit", data)
    train_interrupted(monkeypatch, tmp_path / "parts", config, "vit")
    train(tmp_path / "parts", config, "vit", data)
    uninterrupted = run_folder.read_arrays(tmp_path / "uninterrupted" / run_folder.SNAPSHOTS)
    parts = run_folder.read_arrays(tmp_path / "parts" / run_folder.SNAPSHOTS)
    assert uninterrupted.keys() == parts.keys()
    for key in uninterrupted:
        np.testing.assert_array_equal(uninterrupted[key], parts[key])
