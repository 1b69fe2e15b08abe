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


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"schema": %d, "n": ' + NESTED, "nested too deeply"),
        ('{"schema": %d, "n": NaN}', "NaN"),
        ('{"schema": %d, "n": 1e999}', "1e999"),
        ('{"schema": %d, "n": 1' + "0" * 400 + "}", "too large"),
        ('{"schema": %d, "n": "\\ud800"}', "surrogates"),
        ('{"schema": %d, "n": "many"}', "n is a str"),
        ('{"schema": %d}', "lacks"),
    ],
)
def test_a_json_file_that_cannot_be_ours(experiment, refused, text, fault):
    path = experiment / "cnn" / run_folder.EVALUATION
    path.write_text(text % run_folder.SCHEMA)
    sentence = refused("compare", experiment)
    assert str(path) in sentence and fault in sentence
    assert f"visavis evaluate {path.parent}" in sentence


def test_a_value_that_was_changed(experiment, refused):
    path = experiment / "vit" / run_folder.EVALUATION
    path.write_text(path.read_text().replace('"n": 60', '"n": 61'))
    assert f"{path} is not a file that visavis wrote: it was changed since" in refused(
        "compare", experiment
    )


@pytest.mark.parametrize(
    ("file", "keys", "command", "remedy"),
    [
        (run_folder.EVALUATION, ["accuracy"], "compare", "visavis evaluate"),
        (run_folder.EVALUATION, ["cues", "blurred", "label"], "compare", "visavis evaluate"),
        (run_folder.EXPLANATIONS, ["default_method"], "compare", "visavis explain"),
        (run_folder.EXPLANATIONS, ["gallery"], "report", "visavis explain"),
        (run_folder.EXPLANATIONS, ["methods", "grad_cam", "scores"], "report", "visavis explain"),
        (run_folder.DATA, ["counts", "test"], "compare", "train again"),
        (run_folder.DATA, ["side"], "evaluate", "train again"),
        (run_folder.CONFIG, ["model", "name"], "compare", "train again"),
        (run_folder.CONFIG, ["seed"], "compare", "train again"),
        (run_folder.TRAINING, ["weights_sha256"], "evaluate", "train again"),
        (run_folder.PROVENANCE, ["threads"], "report", "train again"),
    ],
)
def test_a_key_that_is_missing(experiment, refused, file, keys, command, remedy):
    path = experiment / "cnn" / file

    def remove(values):
        for key in keys[:-1]:
            values = values[key]
        del values[keys[-1]]

    changed(path, remove)
    sentence = refused(command, experiment / "cnn" if command == "evaluate" else experiment)
    assert str(path) in sentence and keys[-1] in sentence and remedy in sentence


@pytest.mark.parametrize("file", [run_folder.COMPARISON, run_folder.CROSS_MODEL])
@pytest.mark.parametrize("key", ["labels", "heatmaps_sha256", "composites", "buckets"])
def test_a_result_that_is_incomplete(experiment, refused, file, key):
    path = experiment / file
    if key not in json.loads(path.read_text()):
        pytest.skip("not in this file")
    changed(path, lambda values: values.pop(key))
    sentence = refused("report", experiment)
    assert key in sentence and str(path) in sentence
    assert {"comparison.json": "visavis compare", "cross_model.json": "visavis cross-model"}[
        file
    ] in sentence


@pytest.mark.parametrize(
    ("file", "change", "command", "fault"),
    [
        (run_folder.PREDICTIONS, lambda a: a.pop("logits"), "compare", "lacks logits"),
        (run_folder.PREDICTIONS, lambda a: a["logits"].fill(np.nan), "compare", "NaN"),
        (run_folder.PREDICTIONS, lambda a: a["logits"].fill(np.inf), "compare", "infinity"),
        (
            run_folder.PREDICTIONS,
            lambda a: a.update(logits=a["logits"].ravel()),
            "compare",
            "logits has",
        ),
        (
            run_folder.PREDICTIONS,
            lambda a: a.update(logits=a["logits"][1:]),
            "compare",
            "has",
        ),
        (run_folder.PREDICTIONS, lambda a: a["labels"].fill(-1), "compare", "labels"),
        (run_folder.PREDICTIONS, lambda a: a.pop("cue_blurred"), "compare", "lacks cue_blurred"),
        (run_folder.HEATMAPS, lambda a: a.pop("indices"), "compare", "lacks indices"),
        (run_folder.HEATMAPS, lambda a: a.pop("map_grad_cam"), "compare", "lacks map_grad_cam"),
        (
            run_folder.HEATMAPS,
            lambda a: a.update(map_grad_cam=a["map_grad_cam"][:, :, :3]),
            "compare",
            "map_grad_cam has",
        ),
        (run_folder.HEATMAPS, lambda a: a.update(labels=a["labels"][:4]), "compare", "has"),
        (run_folder.SPLIT, lambda a: a.pop("examples"), "report", "lacks examples"),
        (run_folder.SPLIT, lambda a: a.update(train=np.zeros((2, 2))), "report", "train has"),
    ],
)
def test_arrays_that_are_missing_or_of_another_shape(
    experiment, refused, file, change, command, fault
):
    path = experiment / "cnn" / file
    changed_arrays(path, change)
    sentence = refused(command, experiment)
    assert str(path) in sentence and fault in sentence


def test_arrays_that_would_fill_the_memory(experiment, refused):
    path = experiment / "cnn" / run_folder.PREDICTIONS
    with path.open("wb") as file:
        np.savez(file, logits=np.zeros(1))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"'shape': (1,), ", b"'shape': (9999999999,), "[:15]))
    assert "predictions.npz" in refused("compare", experiment)


@pytest.mark.parametrize("rows", ['{"epoch": 1}', NESTED, '{"epoch": NaN}', "3", '{"epoch": "1"}'])
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
