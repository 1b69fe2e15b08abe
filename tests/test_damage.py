"""Files of an experiment that are damaged, altered, or of another one: one sentence, exit code 4.

Each file is read by its stage's command, in this process, from a copy of a finished experiment.
"""

import json
import os
import shutil
import struct
import sys

import numpy as np
import pytest
from torch import nn

import small
from visavis import data, run_folder
from visavis.cli import main
from visavis.training import memory


@pytest.fixture
def experiment(finished, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(finished, tmp_path / "experiment")


@pytest.fixture
def refused(monkeypatch, capsys):
    """Call a command that must end with exit code 4; returns its sentence."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["visavis", *map(str, arguments)])
        monkeypatch.setattr(memory, "keep_freed_memory", lambda: None)
        monkeypatch.setattr(data, "resolve", lambda _: small.dataset())
        code = main()
        sentence = capsys.readouterr().err
        assert "this is a bug" not in sentence, sentence
        assert code == 4, sentence
        return sentence

    return call


def changed(path, change):
    values = run_folder.read_json(path)
    change(values)
    run_folder.write_json(path, values)


def changed_arrays(path, change):
    arrays = run_folder.read_arrays(path)
    change(arrays)
    run_folder.write_arrays(path, **arrays)


NESTED = "[" * 100_000
BIG = '{"epoch": 1' + "0" * 400 + "}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"schema": %d, "n": ' + NESTED, "recursion"),
        ('{"schema": %d, "n": NaN}', "changed since"),
        ('{"schema": %d, "n": 1e999}', "changed since"),
        ('{"schema": %d, "n": 1' + "0" * 5000 + "}", "5001 digits"),
        ('{"schema": %d, "n": "\\ud800"}', "changed since"),
        ('{"schema": %d, "sha256": [], "n": 1}', "changed since"),
        ('{"schema": %d}', "changed since"),
    ],
)
def test_a_json_file_that_cannot_be_ours(experiment, refused, text, fault):
    path = experiment / "cnn" / run_folder.EVALUATION
    path.write_text(text % run_folder.SCHEMA)
    sentence = refused("compare", experiment)
    assert str(path) in sentence and fault in sentence
    assert f"visavis evaluate {path.parent}" in sentence


@pytest.mark.parametrize(
    ("file", "command", "remedy"),
    [
        (run_folder.EVALUATION, "compare", "visavis evaluate"),
        (run_folder.EXPLANATIONS, "compare", "visavis explain"),
        (run_folder.DATA, "compare", "train again"),
        (run_folder.DATA, "evaluate", "train again"),
        (run_folder.CONFIG, "compare", "train again"),
        (run_folder.TRAINING, "evaluate", "train again"),
        (run_folder.PROVENANCE, "report", "train again"),
        (f"../{run_folder.COMPARISON}", "report", "visavis compare"),
        (f"../{run_folder.CROSS_MODEL}", "report", "visavis cross-model"),
    ],
)
@pytest.mark.parametrize("change", ["a value", "a key", "the checksum"])
def test_a_value_that_was_changed(experiment, refused, file, command, remedy, change):
    path = (experiment / "cnn" / file).resolve()
    values = json.loads(path.read_text())
    key = {"the checksum": "sha256"}.get(change, list(values)[-1])
    if change == "a value":
        values[key] = [values[key]]
    else:
        del values[key]
    path.write_text(json.dumps(values))
    sentence = refused(command, experiment / "cnn" if command == "evaluate" else experiment)
    assert f"{path} is not a file that visavis wrote: it was changed since" in sentence
    assert remedy in sentence


def test_a_file_of_another_version(experiment, refused):
    path = experiment / "cnn" / run_folder.EVALUATION
    path.write_text(path.read_text().replace(f'"schema": {run_folder.SCHEMA}', '"schema": 13'))
    assert f"{path} has schema 13; this version of visavis reads" in refused("compare", experiment)


@pytest.mark.parametrize(
    ("file", "name", "command"),
    [
        (run_folder.PREDICTIONS, "logits", "compare"),
        (run_folder.PREDICTIONS, "cue_blurred", "compare"),
        (run_folder.HEATMAPS, "indices", "compare"),
        (run_folder.HEATMAPS, "map_grad_cam", "compare"),
        (run_folder.SPLIT, "examples", "report"),
    ],
)
def test_arrays_that_are_missing(experiment, refused, file, name, command):
    """As in the folder of another seed, if a model was explained again with more methods."""
    path = experiment / "cnn" / file
    changed_arrays(path, lambda arrays: arrays.pop(name))
    sentence = refused(command, experiment)
    assert f"{path} lacks {name}" in sentence


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits + (np.arange(logits.size) == 7).reshape(logits.shape),
        lambda logits: logits.reshape(-1, 2),
        lambda logits: logits.view(np.int32),
        lambda logits: logits[1:],
    ],
)
def test_arrays_that_were_changed(experiment, refused, change):
    path = experiment / "cnn" / run_folder.PREDICTIONS
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays)
    run_folder.read_arrays(path)
    for name, values in (
        ("logits", change(arrays["logits"])),
        ("another", np.zeros(1)),
        ("sha256", np.zeros(3)),
    ):
        np.savez(path, **arrays | {name: values})
        assert f"{path} is damaged: it was changed since it was written; write it again" in refused(
            "compare", experiment
        )
    del arrays["sha256"]
    np.savez(path, **arrays)
    assert "it was changed since it was written" in refused("compare", experiment)


def test_arrays_that_would_fill_the_memory(experiment, refused):
    path = experiment / "cnn" / run_folder.PREDICTIONS
    with path.open("wb") as file:
        np.savez(file, logits=np.zeros(1))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"'shape': (1,), ", b"'shape': (9999999999,), "[:15]))
    assert "predictions.npz" in refused("compare", experiment)


@pytest.mark.parametrize(
    "rows", ['{"epoch": 1}', NESTED, '{"epoch": NaN}', "3", '{"epoch": "1"}', BIG]
)
def test_a_history_that_is_damaged(experiment, refused, rows):
    path = experiment / "cnn" / run_folder.HISTORY
    path.write_text(rows + "\n")
    sentence = refused("compare", experiment)
    assert str(path) in sentence and "train again" in sentence


@pytest.mark.fault(7)
def test_the_folders_of_two_models_that_changed_places(experiment, refused):
    (experiment / "cnn").rename(experiment / "moved")
    (experiment / "vit").rename(experiment / "cnn")
    (experiment / "moved").rename(experiment / "vit")
    for command in (["compare", experiment], ["report", experiment]):
        sentence = refused(*command)
        assert str(experiment / "cnn") in sentence and "vit" in sentence


@pytest.mark.parametrize(
    "file",
    [run_folder.CONFIG, run_folder.WEIGHTS, run_folder.PREDICTIONS, run_folder.HISTORY],
)
def test_a_pipe_is_not_waited_for(experiment, refused, file):
    path = experiment / "cnn" / file
    path.unlink()
    os.mkfifo(path)
    command = ["evaluate", experiment / "cnn"]
    if file in (run_folder.PREDICTIONS, run_folder.HISTORY):
        command = ["compare", experiment]
    sentence = refused(*command)
    assert str(path) in sentence and "not a file" in sentence


@pytest.mark.parametrize("content", [b"[" * 900_000, b'{"a":' * 100_000, b"[]", b"3"])
@pytest.mark.fault(6)
def test_a_weights_file_with_an_absurd_header(experiment, refused, content):
    path = experiment / "cnn" / run_folder.WEIGHTS
    path.write_bytes(struct.pack("<Q", len(content)) + content)
    sentence = refused("evaluate", experiment / "cnn")
    assert str(path) in sentence and "train" in sentence


@pytest.mark.parametrize(
    ("file", "change"),
    [
        (run_folder.CONFIG, lambda v: v["model"].update(width=8192, heads=1, depth=100)),
        (run_folder.DATA, lambda v: v.update(side=2**40)),
        (run_folder.DATA, lambda v: v.update(class_names=["x"] * 10**6)),
        (run_folder.DATA, lambda v: v.update(class_names=[3] * 10)),
    ],
)
@pytest.mark.fault(6)
def test_a_model_of_absurd_size_is_not_built(experiment, refused, monkeypatch, file, change):
    changed(experiment / "vit" / file, change)
    initialise = nn.Linear.reset_parameters

    def watched(self):
        assert self.weight.is_meta or self.weight.numel() < 1e6, "memory was used"
        initialise(self)

    monkeypatch.setattr(nn.Linear, "reset_parameters", watched)
    assert str(experiment / "vit") in refused("evaluate", experiment / "vit")
