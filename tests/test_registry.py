"""Models that users bring: registered, from a library by name, or trained elsewhere."""

import dataclasses

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from small import dataset, experiment, train_interrupted
from visavis import models, registry, run_folder
from visavis.config import OptimConfig, RegisteredConfig
from visavis.errors import CheckpointError, ConfigError, ModelError
from visavis.registry import check_name, register_model, run_file
from visavis.stages.adopt import adopt
from visavis.stages.evaluate import evaluate
from visavis.stages.train import train
from visavis.stages.trained import load, observed

pytestmark = pytest.mark.usefixtures("own_registry")

FILE = """
import visavis
from torch import nn


def pooled(classes, side):
    return nn.Sequential(
        nn.Conv2d(3, 12, 4, stride=4), nn.ReLU(), nn.Flatten(2), nn.AdaptiveAvgPool1d(1),
        nn.Flatten(), nn.Linear(12, classes),
    )


visavis.register_model("pooled", pooled)
"""


class Net(nn.Module):
    """Two convolutions on an 8 x 8 grid."""

    def __init__(self, classes):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 12, 4, stride=4), nn.Conv2d(12, 12, 1)
        self.norm, self.act = nn.BatchNorm2d(12), nn.ReLU()
        self.head = nn.Linear(12, classes)

    def forward(self, images):
        return self.head(self.act(self.norm(self.second(self.first(images)))).mean(dim=(2, 3)))


def net(classes, side):
    return Net(classes)


CONFIG = RegisteredConfig(name="net", optim=OptimConfig())


def settings(**changes):
    return dataclasses.replace(experiment(), first="net", second="vit", **changes)


@pytest.mark.parametrize(
    "name",
    ["cnn", "vit", "My Net", "a/b", "../x", "", "wandb", "tensorboard", "seed-1", "report.html"],
)
def test_a_name_that_is_taken_or_is_no_folder_name_is_refused(name):
    with pytest.raises(ConfigError, match="cannot be registered as"):
        register_model(name, net)


def test_an_unknown_name_is_refused_with_those_that_are_known():
    register_model("net", net)
    check_name("net")
    check_name("timm/resnet18")
    with pytest.raises(ConfigError, match="there is no model 'resnet'; use cnn, vit, net, timm/"):
        check_name("resnet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("x = 1", "registers no model"),
        ("import nowhere_to_be_found", "fails with ModuleNotFoundError"),
        ("def broken(:", "fails with SyntaxError"),
        ("raise SystemExit(0)", "fails with SystemExit: 0"),
    ],
)
def test_a_file_that_registers_nothing_is_refused_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelError, match=message) as caught:
        run_file(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_may_import_its_neighbours_and_is_named_as_what_registers(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))  # so that the path is put back afterwards
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "my_neighbour.py").write_text("from torch.nn import Identity as net")
    path = tmp_path / "elsewhere" / "mine.py"
    path.write_text("import my_neighbour, visavis; visavis.register_model('n', my_neighbour.net)")
    run_file(path)
    assert registry.registered["n"].file == "mine.py"


def test_another_process_says_which_file_is_wanted_and_that_it_has_changed(tmp_path, caplog):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    run_file(path)
    config = RegisteredConfig(name="pooled", optim=OptimConfig())
    written = models.config_to_json(config)
    assert written["file"] == "mine.py" and len(written["file_sha256"]) == 64
    stored = models.config_from_json(written)
    assert not caplog.records
    registry.registered.clear()
    with pytest.raises(CheckpointError, match=r"is not known in this process; .*--models mine\.py"):
        models.build(models.config_from_json(written), 10, 32)
    path.write_text(FILE + "\n# changed\n")
    run_file(path)
    models.build(models.config_from_json(written), 10, 32)
    assert "mine.py is not the file" in caplog.text
    assert stored.file_sha256 == written["file_sha256"]


def test_a_library_builds_a_model_by_name_for_the_images_and_classes_at_hand():
    for name in ("timm/vit_tiny_patch16_224", "timm/resnet10t", "torchvision/resnet18"):
        config = RegisteredConfig(name=name, optim=OptimConfig())
        model = models.build(config, 7, 64).eval()
        assert model(torch.rand(2, 3, 64, 64)).shape == (2, 7)
    for name in ("timm/no_such_model", "torchvision/no_such_model"):
        with pytest.raises(ConfigError, match="cannot build no_such_model for images of 32 x 32"):
            models.build(RegisteredConfig(name=name, optim=OptimConfig()), 10, 32)


class Wrong(Net):
    """A net with one fault."""

    fault = ""

    def forward(self, images):
        fault, _, training = self.fault.partition(" in ")
        logits = super().forward(images)
        if training and not self.training:
            return logits
        if fault == "raises":
            raise IndexError("from inside")
        return logits * float("nan") if fault == "nan" else {"x": logits}


def faulty(fault):
    def factory(classes, side):
        if fault == "classes":
            return Net(classes + 1)
        if fault == "no module":
            return "a net"
        if fault == "factory":
            raise KeyError("width")
        model = Wrong(classes)
        model.fault = fault
        return model

    return factory


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", "the model fails on images of 32 x 32 pixels, on cpu: IndexError: from inside"),
        ("nan", "logits are NaN or infinite"),
        ("raises in training", "fails in training mode: IndexError: from inside"),
        ("nan in training", "NaN or infinite in training mode"),
        ("object", "returns a dict"),
        ("classes", "returns 11 logits for each image, but the data have 10 classes"),
        ("no module", "returns a str"),
        ("factory", "factory of the model net fails with KeyError"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_before_anything_is_written(
    tmp_path, fault, message
):
    register_model("net", faulty(fault))
    with pytest.raises(ModelError, match=message) as caught:
        train(tmp_path / "net", settings(), "net", dataset())
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "net").glob("*") if path.name != ".lock"]


def test_a_layer_that_does_not_exist_is_refused_before_anything_is_written(tmp_path):
    register_model("net", net, layers=["third"])
    with pytest.raises(ModelError, match="layer third is not a module"):
        train(tmp_path / "net", settings(), "net", dataset())
    assert not (tmp_path / "net" / run_folder.CONFIG).exists()


def test_a_training_is_not_resumed_with_a_model_whose_code_changed(tmp_path, monkeypatch):
    register_model("net", net)
    train_interrupted(monkeypatch, tmp_path / "net", settings(), "net")
    registry.registered.clear()
    register_model("net", lambda classes, side: nn.Sequential(Net(classes)))
    with pytest.raises(CheckpointError, match=r"holds other weights .* code was changed since"):
        train(tmp_path / "net", settings(), "net", dataset())


def test_layers_have_the_names_that_their_author_gave_them():
    register_model("net", net, layers=["second", "act"])
    model = models.build(CONFIG, 10, 32)
    assert observed(model, dataset().train_pixels).layers == {"second": 8, "act": 8}
    assert [part["name"] for part in models.modules_of(model)] == [
        "first",
        "second",
        "norm",
        "head",
    ]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_trained_elsewhere_are_evaluated_as_they_are(tmp_path, suffix):
    register_model("net", net)
    torch.manual_seed(0)
    brought, path = Net(10).eval(), tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": brought.state_dict()}, path)
    else:
        safetensors.torch.save_file(brought.state_dict(), path)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    folder, data = tmp_path / "net", dataset()
    adopt(folder, settings(), "net", path, data, normalisation=(mean, std))
    evaluate(folder, data)
    shown = torch.from_numpy(data.test_pixels).permute(0, 3, 1, 2).float() / 255
    by_hand = (shown - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    found = run_folder.read_arrays(folder / run_folder.PREDICTIONS)["logits"]
    np.testing.assert_allclose(found, brought(by_hand).detach(), atol=1e-4)
    assert load(folder).name == "net"


@pytest.mark.fault(4)
def test_weights_of_another_model_or_no_weights_are_refused(tmp_path):
    register_model("net", net)
    path = tmp_path / "weights.pt"
    for content, message in (
        (nn.Linear(3, 4).state_dict(), "does not fit the model"),
        ({"epoch": 3}, "holds no state dict"),
        (Net(10), "cannot be read as weights"),  # a pickled module is not loaded
        (None, "cannot be read as weights"),
    ):
        if content is None:
            path.write_text("hello")
        else:
            torch.save(content, path)
        with pytest.raises(CheckpointError, match=message):
            adopt(tmp_path / "net", settings(), "net", path, dataset())
    assert not (tmp_path / "net" / run_folder.CONFIG).exists()
