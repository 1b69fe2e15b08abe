import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from small import OPTIM, dataset, experiment
from visavis import load, overlay, run_folder
from visavis.config import CNNConfig, ExplainConfig
from visavis.errors import CheckpointError
from visavis.stages.explain import cost
from visavis.stages.run import _same_for_both, claim, run


@pytest.fixture(scope="module", autouse=True)
def _few_points():
    with tiny.few_points():
        yield


@pytest.fixture(scope="module")
def done(finished, tmp_path_factory):
    return shutil.copytree(finished, tmp_path_factory.mktemp("done") / "experiment")


@pytest.fixture
def undrawn(monkeypatch):
    """Reports without their charts, which take most of the time."""
    monkeypatch.setattr("visavis.report.page.svg", lambda figure, name="": "")


def test_a_run_leaves_every_file_that_the_architecture_names(done):
    assert {run_folder.EXPERIMENT, run_folder.COMPARISON, run_folder.REPORT} <= {
        p.name for p in done.iterdir()
    }
    stages = {
        run_folder.CONFIG,
        run_folder.PROVENANCE,
        run_folder.DATA,
        run_folder.SPLIT,
        run_folder.HISTORY,
        run_folder.WEIGHTS,
    }
    stages |= {
        run_folder.TRAINING,
        run_folder.PREDICTIONS,
        run_folder.EVALUATION,
        run_folder.HEATMAPS,
        run_folder.EXPLANATIONS,
    }
    for name in ("cnn", "vit"):
        files = {path.name for path in (done / name).iterdir()}
        assert stages <= files
        assert not [file for file in files if file.endswith((".tmp", ".ckpt"))]


@pytest.mark.fault(34)
def test_no_secret_of_the_environment_is_in_a_file_of_a_run(finished, secrets_in):
    assert not secrets_in(finished)


@pytest.mark.usefixtures("undrawn")
def test_a_finished_run_repeated_does_no_stage_again(done):
    before = {p: p.stat().st_mtime_ns for p in done.glob("*/*") if p.name != ".lock"}
    run(done, experiment(), "smoke", dataset())
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_another_seed_can_be_added_to_a_finished_experiment(done):
    before = (done / "cnn" / run_folder.WEIGHTS).read_bytes()
    run(done, dataclasses.replace(experiment(), seeds=2), "smoke", dataset())
    assert (done / "cnn" / run_folder.WEIGHTS).read_bytes() == before
    again = done / "seed-1"
    for name in ("cnn", "vit"):
        assert run_folder.read_json(again / name / run_folder.CONFIG)["seed"] == 1
        assert (again / name / run_folder.HEATMAPS).exists()
        assert not (again / name / run_folder.EXPLANATIONS).exists()
    assert (again / "cnn" / run_folder.WEIGHTS).read_bytes() != before
    found = run_folder.read_json(done / run_folder.COMPARISON)
    assert [row["seed"] for row in found["seeds"]] == [0, 0, 1, 1]
    assert "Each model was trained 2 times" in (done / run_folder.REPORT).read_text(
        encoding="utf-8"
    )


@pytest.mark.usefixtures("undrawn")
def test_a_missing_stage_alone_is_done_again(done):
    before = {p: p.stat().st_mtime_ns for p in done.glob("*/*") if p.name != ".lock"}
    (done / "vit" / run_folder.EXPLANATIONS).unlink()
    run(done, experiment(), "smoke", dataset())
    redone = {str(p.relative_to(done)) for p in before if p.stat().st_mtime_ns != before[p]}
    assert redone == {"vit/explanations.json", "vit/heatmaps.npz", "vit/removal.npz"}


def test_a_model_that_is_explained_decides_on_how_many_images_the_other_is(
    finished, tmp_path, monkeypatch
):
    out = shutil.copytree(finished, tmp_path / "experiment")
    (out / "vit" / run_folder.EXPLANATIONS).unlink()
    monkeypatch.setattr(cost, "seconds_per_image", lambda *_: 2.0)  # 280 images fit
    folders, config = run_folder.model_folders(out), ExplainConfig(images=0, sweep_images=20)
    both = _same_for_both(folders, dataset(), config, torch.device("cpu"))
    assert both.images == folders["first"].explanations["n"] < 280
    assert both.grid == folders["first"].explanations["grid"][0]
    (out / "cnn" / run_folder.EXPLANATIONS).unlink()
    both = _same_for_both(folders, dataset(), config, torch.device("cpu"))
    assert both.images == 280 and both.grid > 0


@pytest.mark.fault(8)
def test_a_folder_of_another_experiment_is_an_error_and_left_alone(done):
    before = (done / run_folder.EXPERIMENT).read_bytes()
    other = dataclasses.replace(experiment(), cnn=CNNConfig(widths=(8, 16, 16)))
    with pytest.raises(CheckpointError, match=r"cnn\.widths"):
        run(done, other, "smoke", dataset())
    with pytest.raises(CheckpointError, match="fingerprint"):
        run(done, experiment(), "smoke", dataset(seed=4))
    assert (done / run_folder.EXPERIMENT).read_bytes() == before


def test_settings_may_change_until_a_model_has_finished_an_epoch(tmp_path):
    def with_batch(size, *models):
        of = {name: dataclasses.replace(OPTIM, batch_size=size) for name in models}
        return experiment(**of)

    def stored(name):
        return run_folder.read_json(tmp_path / run_folder.EXPERIMENT)["experiment"][name]["optim"]

    claim(tmp_path, experiment(), "smoke", dataset())
    claim(tmp_path, with_batch(20, "cnn", "vit"), "quick", dataset())
    assert stored("cnn")["batch_size"] == stored("vit")["batch_size"] == 20
    (tmp_path / "cnn").mkdir()
    run_folder.write_json(tmp_path / "cnn" / run_folder.TRAINING, {})
    with pytest.raises(CheckpointError, match=r"cnn\.optim\.batch_size is 20 there and 10 here"):
        claim(tmp_path, with_batch(10, "cnn"), "quick", dataset())
    claim(
        tmp_path,
        dataclasses.replace(
            with_batch(20, "cnn"), vit=dataclasses.replace(experiment().vit, depth=1)
        ),
        "quick",
        dataset(),
    )
    assert stored("vit")["batch_size"] == OPTIM.batch_size


def test_the_readmes_example_of_the_library_runs(done, tmp_path):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)  # the first one registers
    example, subject = blocks[1].split("# Any other PyTorch classifier")
    Image.new("RGB", (300, 200), "orange").save(tmp_path / "cat.jpg")
    example = example.replace("runs/standard-cifar10", str(done))
    names = {}
    exec(example.replace("cat.jpg", str(tmp_path / "cat.jpg")), names)
    assert names["probabilities"].shape == (1, 10)
    assert names["heatmaps"].shape == (1, 8, 8)
    assert names["image"].dtype == np.uint8
    names |= {"model": tiny.model("cnn"), "images": tiny.images(2), "targets": torch.arange(2)}
    exec(subject, names)
    assert names["heatmaps"].shape == (2, 8, 8)


def test_the_library_predicts_as_the_run_did(done):
    data = dataset()
    stored = run_folder.read_arrays(done / "cnn" / run_folder.PREDICTIONS)["logits"]
    heatmaps = run_folder.read_arrays(done / "cnn" / run_folder.HEATMAPS)
    cnn = load(done / "cnn")
    probabilities = cnn.predict(data.test_pixels)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), stored.argmax(axis=1))
    rows = heatmaps["indices"][:5]
    assert len(cnn.explain(data.test_pixels[rows])) == len(rows)
    vit = load(done / "vit")
    maps = vit.explain(data.test_pixels[rows], method="rollout")
    stored_maps = run_folder.read_arrays(done / "vit" / run_folder.HEATMAPS)
    image = {int(index): row for row, index in enumerate(stored_maps["indices"])}
    for index, heatmap in zip(rows, maps, strict=True):
        expected = stored_maps["map_rollout"][image[int(index)]]
        np.testing.assert_allclose(heatmap, expected, atol=1e-5)
    assert overlay(data.test_pixels[0], maps[0]).dtype == np.uint8
    with pytest.raises(ValueError, match="cannot explain this model"):
        cnn.explain(data.test_pixels[:1], method="rollout")
