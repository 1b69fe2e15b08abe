"""Models and model files of somebody else, with a fault each: they work, or one sentence says why.

Whatever happens, the model keeps no hook, and what was finished is kept.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

import small
import tiny
from sites import ask, serving
from visavis import Subject, attribution, registry, run_folder
from visavis.attribution.batched import grid_maps
from visavis.data.images import png
from visavis.errors import ModelError

pytestmark = pytest.mark.usefixtures("few_images", "own_registry")

TINY = ("--preset", "smoke", "--optim.epochs", "2", "--train.device", "cpu", "--tracking.wandb")
NET = """
import torch, visavis
from torch import nn

class Net(nn.Module):
    calls = 0

    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        Net.calls += 1
        {before}
        return self.head(self.body(images).mean(dim=(2, 3)))

visavis.register_model("net", lambda classes, side: Net(classes))
"""


class Foreign(nn.Module):
    """A convolution, its mean, and a head; `forward` has the fault."""

    def __init__(self):
        super().__init__()
        self.first, self.act = nn.Conv2d(3, 8, 4, stride=4), nn.ReLU()
        self.head = nn.Linear(8, 10)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, images):
        return self.head(self.act(self.first(images)).mean(dim=(2, 3)))


class ReturnsAnObject(Foreign):
    def forward(self, images):
        return SimpleNamespace(logits=super().forward(images), attentions=None)


class ChangesItsInput(Foreign):
    def forward(self, images):
        return super().forward(images.sub_(0.5).mul_(2))


class LeavesDropoutOn(Foreign):
    def forward(self, images):
        return functional.dropout(super().forward(images))


class ReturnsATuple(Foreign):
    def forward(self, images):
        return super().forward(images), images


class AnswersElsewhere(Foreign):
    def forward(self, images):
        return super().forward(images).to("meta")


class WantsAnotherDevice(Foreign):
    def forward(self, images):
        return super().forward(images + torch.empty(1, device="meta"))


class Exits(Foreign):
    def forward(self, images):
        sys.exit(3)


@pytest.mark.parametrize("model", [ReturnsAnObject, ChangesItsInput])
def test_what_looks_unusual_is_explained_like_any_other(model):
    torch.manual_seed(0)
    foreign, plain = model().train(), Foreign()
    plain.load_state_dict(foreign.state_dict())
    images, shown, targets = tiny.images(), tiny.images(), torch.tensor([0, 1, 2, 3])
    subject = Subject(foreign, images)
    if model is ChangesItsInput:
        shown, alone = shown.sub(0.5).mul(2), tiny.images()
        assert torch.equal(subject.predict(images), plain(shown))
        assert torch.equal(images, alone), "the caller's images are not the model's to change"
    for method in attribution.methods_for(subject):
        found = attribution.explain(subject, images, targets, method)
        assert torch.equal(images, tiny.images()) and torch.isfinite(found).all()
        if model is ReturnsAnObject:
            same = attribution.explain(Subject(plain, images), images, targets, method)
            torch.testing.assert_close(found, same)
    assert foreign.training and tiny.hooks(foreign) == 0


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (LeavesDropoutOn, "logits differ between two calls in evaluation mode"),
        (ReturnsATuple, "the model returns a tuple; it must return a tensor of logits"),
        (AnswersElsewhere, "returns logits on meta, but its weights are on cpu"),
        (
            WantsAnotherDevice,
            "fails on images of 32 x 32 pixels, on cpu: RuntimeError: Tensor on device",
        ),
        (Exits, "fails on images of 32 x 32 pixels, on cpu: SystemExit: 3"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_sentence(model, expected):
    foreign = model().train()
    with pytest.raises(ModelError, match=expected) as caught:
        Subject(foreign, tiny.images())
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    assert foreign.training and tiny.hooks(foreign) == 0


def test_a_buffer_on_another_device_than_the_weights_is_told():
    foreign = Foreign()
    foreign.scale = foreign.scale.to("meta")
    with pytest.raises(ModelError, match="is on the meta device"):
        Subject(foreign, tiny.images())


@pytest.mark.parametrize("method", ["grad_cam", "integrated_gradients", "occlusion"])
def test_a_model_that_fails_in_the_third_batch_keeps_no_hook(method):
    foreign = Foreign()
    subject, calls, forward = Subject(foreign, tiny.images()), [], foreign.head.forward

    def third(features):
        calls.append(len(features))
        if len(calls) == 3:
            raise IndexError("from inside")
        return forward(features)

    foreign.head.forward = third
    targets = torch.zeros(160, dtype=torch.int64).numpy()
    with pytest.raises(IndexError, match="from inside"):
        grid_maps(subject, tiny.images(160), [targets], method)
    assert tiny.hooks(foreign) == 0 and all(p.requires_grad for p in foreign.parameters())
    assert len(grid_maps(subject, tiny.images(4), [targets[:4]], method)[0]) == 4


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("def broken(:", "mine.py: the file fails with SyntaxError"),
        ("import sys; sys.exit(0)", "mine.py: the file fails with SystemExit: 0"),
        ("raise KeyboardInterrupt", "stopped"),
        (NET + NET, "mine.py: two models are registered as 'net'; give each a name of its own"),
        (
            "import visavis; visavis.register_model('a b', print)",
            "mine.py: a model cannot be regist",
        ),
        (
            "import visavis; visavis.register_model('net', lambda *_: None)",
            "returns a NoneType; it must",
        ),
        (
            "import visavis; visavis.register_model('net', lambda *_: exit())",
            "net fails with SystemExit",
        ),
    ],
)
def test_a_models_file_that_will_not_do_is_refused(content, expected, tmp_path, visavis_command):
    file = tmp_path / "mine.py"
    file.write_text(content.replace("{before}", ""))
    code, out, err = visavis_command(
        "train", "net", "--models", file, "--out", tmp_path / "net", *TINY, "off"
    )
    assert (code, out) == (130 if expected == "stopped" else 2, "")
    assert expected in err and "Traceback" not in err
    assert not (tmp_path / "net" / run_folder.CONFIG).exists()


def test_what_a_models_file_prints_is_not_among_the_results(tmp_path, visavis_command):
    file = tmp_path / "mine.py"
    file.write_text("print('hello')\n" + NET.replace("{before}", ""))
    arguments = ("--models", file, "--out", tmp_path / "s", "--seeds", "1", *TINY, "off", "--print")
    code, out, err = visavis_command("study", "net", *arguments)
    assert code == 0 and "hello" in err
    (line,) = out.splitlines()
    assert f"study-job {tmp_path}/s/net/seed-0 --models {file}" in line


def test_a_model_that_fails_later_is_named_with_its_line_and_loses_nothing(
    tmp_path, visavis_command
):
    """In the second epoch of its training, and then while it is tested and served."""
    file, folder = tmp_path / "mine.py", tmp_path / "experiment" / "net"
    line = 1 + NET.splitlines().index("        {before}")
    fails = f"your own code fails in line {line} of mine.py with AssertionError: tired"

    history, tired = folder / run_folder.HISTORY, tmp_path / "tired"
    here = f"[__import__('os').path.exists(path) for path in ({str(history)!r}, {str(tired)!r})]"
    third = "torch.is_inference_mode_enabled() and Net.calls % 3 == 0"
    before = f"assert not (all({here}) and (self.training or {third})), 'tired'"
    file.write_text(NET.replace("{before}", before))
    tired.touch()
    train = ("train", "net", "--models", file, "--out", folder, *TINY, "off")
    code, _, err = visavis_command(*train)
    assert code == 2 and fails in err and "Traceback" not in err
    assert len(run_folder.read_history(folder)) == 1

    tired.unlink()
    code, _, err = visavis_command(*train)
    assert code == 0, err
    assert len(run_folder.read_history(folder)) == 2
    tired.touch()
    code, _, err = visavis_command("evaluate", folder)
    assert code == 2 and fails in err and err.count("\n") == 1
    assert (folder / run_folder.WEIGHTS).exists()
    image = png(small.dataset().test_pixels[0])
    with serving(folder.parent) as site:
        answers = [ask(site, "/api/predict", image) for _ in range(4)]
    refused = next(answer for answer in answers if answer.status != 200)
    assert refused.status == 500
    assert "fails on this image with AssertionError: tired" in refused.json["error"]


def test_what_a_library_raises_is_not_blamed_on_a_models_file_above_it(monkeypatch):
    monkeypatch.setattr(registry, "files", [Path("/models.py")])
    for fails in (lambda: json.loads("{"), lambda: nn.Linear(3, 4)(torch.ones(2))):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            fails()
        error = caught.value
        assert registry.failure(error), "this file lies there, too"
        inside = error.__traceback__.tb_next.tb_next  # below this function and the lambda
        assert registry.failure(error.with_traceback(inside)) is None
