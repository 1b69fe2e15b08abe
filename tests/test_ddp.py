"""One training in several processes: what each computes, and what is left when one ends."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from small import dataset
from visavis import data, models, run_folder
from visavis.cli import main
from visavis.config import CNNConfig, OptimConfig, RegisteredConfig
from visavis.data.batches import TrainingBatches, to_tensor
from visavis.errors import ConfigError
from visavis.files import TEMPORARY
from visavis.models.normalize import Normalized
from visavis.training import memory
from visavis.training.fit import synchronised

OPTIM = {
    "epochs": 3,
    "batch_size": 30,
    "crop": 24,
    "cutmix": 0.5,
    "learning_rate": 0.01,
    "muon_learning_rate": 0.05,
}
SIZES = {
    "vit": ["--vit.width", "16", "--vit.depth", "2", "--vit.heads", "2"],
    "cnn": ["--cnn.widths", "8", "8", "16"],
}


def command(name, out, *flags):
    """`visavis train` of a small model."""
    optim = [
        word
        for key, value in OPTIM.items()
        for word in (f"--{name}.optim.{key.replace('_', '-')}", str(value))
    ]
    return [
        *("train", name, "--out", str(out), *SIZES[name], *optim, "--tracking.wandb", "off"),
        *("--train.device", "cpu", "--train.precision", "float32", *flags),
    ]


@pytest.fixture
def visavis(monkeypatch, capsys):
    """Call the command line in this process, on few images; its exit code and stderr."""
    monkeypatch.setattr(data, "resolve", lambda wanted: dataset())
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: None)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["visavis", *arguments])
        return main(), capsys.readouterr().err

    return call


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_parts_of_a_batch_are_the_batch_of_one_process(ranks):
    pixels, labels = to_tensor(dataset().train_pixels), torch.from_numpy(dataset().train_labels)
    optim = OptimConfig(**OPTIM)
    for epoch in (0, 2):  # with CutMix, and of full images
        common = {"seed": 3, "epoch": epoch}
        whole = list(TrainingBatches(pixels, labels, optim, **common))
        parts = [
            TrainingBatches(pixels, labels, optim, **common, rank=rank, world_size=ranks)
            for rank in range(ranks)
        ]
        assert {len(part) for part in parts} == {len(whole)}
        for batch, *of in zip(whole, *parts, strict=True):
            assert [len(part[0]) for part in of] == [30 // ranks] * ranks
            for joint, *pieces in zip(batch, *of, strict=True):
                assert torch.equal(joint, torch.cat(pieces))


def torchrun(records, what, *commands):
    """Train in two processes; the exit code, and what was printed."""
    records.mkdir(exist_ok=True)
    tests = Path(__file__).parent
    words = itertools.chain.from_iterable(["+", *map(str, command)] for command in commands)
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", tests / "ddp_worker.py", records, what, *list(words)[1:]),
        ],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{tests.parent / 'src'}:{tests}",
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Both models, each trained by two processes; what was printed, and what each process saw."""
    folder = tmp_path_factory.mktemp("two")
    commands = [command(name, folder / name, "--train.devices", "2") for name in SIZES]
    code, out, err = torchrun(folder, "none", *commands)
    assert code == 0, err
    seen = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    return folder, out, seen


def test_two_processes_share_each_epoch_and_end_with_the_same_weights(undisturbed):
    folder, out, seen = undisturbed
    assert out.count("visavis evaluate") == len(SIZES), "rank 0 alone reports"
    for first, second in zip(*seen, strict=True):
        assert first["weights"] == second["weights"]
        # Lightning's handler would wait for the other process, which waits for this one.
        assert first["sigterm"] == second["sigterm"] == "visavis.cli.exit_codes"
        for epoch in ("0", "1", "2"):
            of = [each["epochs"][epoch] for each in (first, second)]
            assert [len(set(images)) for images in of] == [90, 90]
            assert set(of[0]) | set(of[1]) == set(range(180))
    for name in SIZES:
        assert run_folder.read_json(folder / name / run_folder.PROVENANCE)["devices"] == 2


def test_two_processes_learn_what_one_does_with_the_same_batches(undisturbed, tmp_path, visavis):
    folder, _, _ = undisturbed
    code, err = visavis(*command("vit", tmp_path))
    assert code == 0, err
    one, two = (run_folder.read_history(of) for of in (tmp_path, folder / "vit"))
    for key in ("train_loss", "val_loss", "learning_rate"):
        assert [row[key] for row in two] == pytest.approx([row[key] for row in one], rel=1e-4)


@pytest.mark.fault(22, 23)
def test_a_process_that_ends_or_hangs_ends_the_other_and_nothing_finished_is_lost(
    undisturbed, tmp_path, visavis
):
    out = tmp_path / "run"
    two = command("vit", out, "--train.devices", "2")
    for finished, what in ((1, "killed"), (2, "hangs")):
        code, _, err = torchrun(tmp_path, what, two)
        assert code != 0
        assert len(run_folder.read_history(out)) == finished
        assert not list(out.glob(f".*{TEMPORARY}"))
    assert "visavis: another process of this training ended, or did not answer within 3 s" in err

    code, err = visavis(*command("vit", out))
    assert code == 4 and "began with --train.devices 2 and would end with other weights on 1" in err
    assert err.count("\n") == 1

    code, _, err = torchrun(tmp_path, "none", two)
    assert code == 0, err
    assert (out / run_folder.WEIGHTS).read_bytes() == (
        undisturbed[0] / "vit" / run_folder.WEIGHTS
    ).read_bytes()


@pytest.mark.parametrize(
    ("started", "arguments", "code", "expected"),
    [
        (1, command("vit", "o", "--train.devices", "2"), 2, "torchrun --standalone --nproc-per-no"),
        (2, command("vit", "o"), 2, "torchrun started 2 processes, but --train.devices is 1"),
        (3, command("vit", "o", "--train.devices", "2"), 2, "torchrun started 3 processes, but"),
        (4, command("vit", "o", "--train.devices", "4"), 2, "does not divide a batch of 30"),
        (2, ["evaluate", "o"], 2, "run this command without it"),
        (1, ["run", "--train.devices", "2"], 2, "only `visavis train` trains one model on several"),
        (1, ["study", "cnn", "--out", "o", "--train.devices", "2"], 2, "only `visavis train`"),
        (1, command("vit", "o", "--train.devices", "0"), 2, "--train.devices 0: use 1 to 64"),
    ],
)
def test_other_ways_to_start_several_processes_are_refused(
    started, arguments, code, expected, tmp_path, monkeypatch, visavis
):
    monkeypatch.chdir(tmp_path)
    if started > 1:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
        for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
            monkeypatch.setenv(name, str(started))
        monkeypatch.setenv("RANK", "0")
    found, err = visavis(*arguments)
    assert found == code and expected in " ".join(err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_batch_norms_are_synchronised_unless_they_would_lose_what_they_do():
    """On GPUs; the layers are the same on a CPU until they train."""
    images = torch.rand(4, 3, 32, 32)
    for name in ("cnn", "timm/test_efficientnet"):
        optim = OptimConfig(**OPTIM)
        config = CNNConfig() if name == "cnn" else RegisteredConfig(name=name, optim=optim)
        model = models.build(config, 10).eval()
        before, keys = model(images), list(model.state_dict())
        found = synchronised(model, name)
        norms = [part for part in found.modules() if isinstance(part, _BatchNorm)]
        assert norms and all(isinstance(part, nn.SyncBatchNorm) for part in norms)
        assert list(found.state_dict()) == keys
        torch.testing.assert_close(found(images), before)

    class WithActivation(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    with pytest.raises(ConfigError, match=r"batch norms of own \(WithActivation\) cannot be"):
        synchronised(Normalized(nn.Sequential(WithActivation(3)), None, None), "own")
