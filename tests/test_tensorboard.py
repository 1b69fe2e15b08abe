"""TensorBoard: what is logged can be read back, and nothing that goes wrong ends a run."""

import dataclasses
import sys

import pytest
from matplotlib.figure import Figure

import fake_runs
import small
from visavis import run_folder
from visavis.config import OptimConfig, TrackingConfig
from visavis.stages.train import train
from visavis.training import tensorboard

ON = TrackingConfig(wandb="off", tensorboard=True)


def events(folder):
    """What TensorBoard finds in a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder))
    found.Reload()
    return found


def test_a_training_is_logged_and_can_be_read_back(tmp_path):
    experiment = small.experiment(cnn=OptimConfig(epochs=2, batch_size=8))
    experiment = dataclasses.replace(experiment, tracking=ON)
    train(tmp_path / "cnn", experiment, "cnn", small.dataset(), tracked_in=tmp_path)
    logged = events(tmp_path / tensorboard.FOLDER / "cnn")
    epochs = run_folder.read_history(tmp_path / "cnn")
    for key, name in (("val/loss", "val_loss"), ("train/accuracy", "train_accuracy")):
        values = [event.value for event in logged.Scalars(key)]
        assert values == pytest.approx([epoch[name] for epoch in epochs])
    assert not (tmp_path / "wandb").exists()


def test_an_experiment_is_logged_with_scores_and_figures(tmp_path):
    folder = fake_runs.write_experiment(tmp_path / "experiment")
    tensorboard.log_experiment(ON, folder=folder, figures={"losses": Figure()})
    logged = events(folder / tensorboard.FOLDER / "comparison")
    for name in ("cnn", "vit"):
        accuracy = run_folder.read_json(folder / name / run_folder.EVALUATION)["accuracy"]
        (event,) = logged.Scalars(f"{name}/test/accuracy")
        assert event.value == pytest.approx(accuracy)
    assert logged.Tags()["images"] == ["losses"]


def test_it_is_off_unless_asked_for(tmp_path):
    assert tensorboard.logger(TrackingConfig(), folder=tmp_path, name="cnn") is None
    tensorboard.log_experiment(TrackingConfig(), folder=tmp_path, figures={})
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_run_goes_on_and_says_how_to_get_it(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert tensorboard.logger(ON, folder=tmp_path, name="cnn") is None
    (record,) = caplog.records
    assert "pip install 'visavis[tensorboard]'" in record.message and record.levelname == "WARNING"


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path, caplog):
    (tmp_path / tensorboard.FOLDER).write_text("a file where the folder would be")
    logger = tensorboard.logger(ON, folder=tmp_path, name="cnn")
    for step in range(3):
        logger.log_metrics({"train/loss": 0.5}, step=step)
    logger.finalize("success")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
