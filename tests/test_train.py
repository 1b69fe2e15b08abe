import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from small import OPTIM, PLAIN, dataset, experiment, train_interrupted
from visavis import models, run_folder
from visavis.config import OptimConfig, TrainConfig
from visavis.data import split
from visavis.data.batches import to_images, to_tensor
from visavis.errors import CheckpointError, DataError, DivergedError, EnvironmentFault
from visavis.files import TEMPORARY
from visavis.models.cnn import CNN
from visavis.stages.evaluate import evaluate
from visavis.stages.train import train
from visavis.stages.trained import load_trained
from visavis.training.fit import warm_up
from visavis.training.module import Classifier, mixed_losses
from visavis.training.provenance import provenance


def weights(folder):
    return load_trained(folder).state_dict()


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)


def test_the_epoch_with_the_lowest_validation_loss_is_the_one_shipped_and_tested(
    tmp_path, monkeypatch
):
    step = Classifier.training_step

    def worse_after_the_first_epoch(self, batch, index):
        loss = step(self, batch, index)
        return loss if self.current_epoch == 0 else -loss

    monkeypatch.setattr(Classifier, "training_step", worse_after_the_first_epoch)
    optim = OptimConfig(epochs=3, batch_size=50, muon_learning_rate=0.1, learning_rate=0.03)
    data, config = dataset(), experiment(vit=optim)
    train(tmp_path, config, "vit", data)
    losses = [row["val_loss"] for row in run_folder.read_history(tmp_path)]
    assert losses[0] < min(losses[1:]), "this run was to get worse"
    assert run_folder.read_json(tmp_path / run_folder.TRAINING)["best_epoch"] == 1

    _, validation = split(data.train_labels, config.data.validation_fraction, 0)
    model = load_trained(tmp_path)
    with torch.no_grad():
        logits = model(to_images(data.train_pixels[validation]))
    shipped = F.cross_entropy(logits, torch.from_numpy(data.train_labels[validation])).item()
    assert shipped == pytest.approx(losses[0], rel=1e-4)
    assert shipped != pytest.approx(losses[-1], rel=1e-3)

    evaluate(tmp_path, data)
    with torch.no_grad():
        expected = model(to_images(data.test_pixels)).numpy()
    stored = run_folder.read_arrays(tmp_path / run_folder.PREDICTIONS)["logits"]
    np.testing.assert_allclose(stored, expected, atol=1e-4)


BF16 = TrainConfig(device="cpu", precision="bf16")


def test_the_step_before_the_clock_starts_leaves_no_trace():
    settings = OptimConfig(batch_size=50)
    pixels, labels = to_tensor(dataset().train_pixels), torch.from_numpy(dataset().train_labels)
    split_ = (pixels, labels)
    module = Classifier(tiny.model("cnn"), settings, training=split_, validation=split_, seed=0)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert warm_up(module, torch.device("cpu"))
    assert same(before, module.state_dict())
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "epoch", "settings"),
    [
        ("cnn", 1, PLAIN),
        ("vit", 1, PLAIN),
        ("cnn", 2, PLAIN),
        ("cnn", 1, BF16),
    ],
)
@pytest.mark.fault(2)
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, monkeypatch, name, epoch, settings):
    optim = dataclasses.replace(OPTIM, epochs=3, cutmix=0.5)
    data, config = dataset(), experiment(cnn=optim, vit=optim, train=settings)
    train(tmp_path / "uninterrupted", config, name, data)

    train_interrupted(monkeypatch, tmp_path / "parts", config, name, epoch=epoch, index=1)
    assert not (tmp_path / "parts" / run_folder.WEIGHTS).exists()
    recorded = [row["epoch"] for row in run_folder.read_history(tmp_path / "parts")]
    assert recorded == list(range(1, epoch + 1))

    train(tmp_path / "parts", config, name, data)
    assert same(weights(tmp_path / "uninterrupted"), weights(tmp_path / "parts"))

    def learned(folder):
        rows = run_folder.read_history(tmp_path / folder)
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]

    assert learned("parts") == learned("uninterrupted")
    assert run_folder.read_json(tmp_path / "parts" / run_folder.TRAINING)["resumed"]
    left = {path.name for path in (tmp_path / "parts").iterdir()}
    assert not left & {run_folder.RESUME, run_folder.BEST}


def test_a_resumed_training_draws_the_same_dropout(tmp_path, monkeypatch):
    forward, data = CNN.forward, dataset()

    def with_dropout(self, images):
        return F.dropout(forward(self, images), 0.5, self.training)

    monkeypatch.setattr(CNN, "forward", with_dropout)
    train(tmp_path / "uninterrupted", experiment(), "cnn", data)
    train_interrupted(monkeypatch, tmp_path / "parts", experiment(), "cnn", index=1)
    train(tmp_path / "parts", experiment(), "cnn", data)
    assert same(weights(tmp_path / "uninterrupted"), weights(tmp_path / "parts"))


KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[1])
import small
from visavis.config import OptimConfig
from visavis.stages.train import train

folder, write = pathlib.Path(sys.argv[2]), pathlib.Path.write_bytes
moments = [("best.ckpt", 1), ("resume.ckpt", 2), ("weights.safetensors", 1)]

def kill_at(file, count):
    seen = []
    def halfway(path, content):
        if path.name.startswith(f".{file}."):
            seen.append(path)
            if len(seen) == count:
                write(path, content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
        return write(path, content)
    pathlib.Path.write_bytes = halfway

for file, count in [*moments, ("", 0)]:
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code == (-signal.SIGKILL if file else 0), (file, code)
    else:
        kill_at(file, count)
        optim = OptimConfig(epochs=3, batch_size=50, crop=24)
        train(folder, small.experiment(cnn=optim), "cnn", small.dataset())
        os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="another process for each attempt, by fork")
@pytest.mark.fault(1, 2)
def test_a_training_that_is_killed_while_it_writes_ends_as_if_undisturbed(tmp_path):
    elsewhere = {"TMPDIR": "/dev/shm"}  # where a temporary file could not be renamed from
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path / "killed")]
    done = subprocess.run(command, env={**os.environ, **elsewhere}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    optim = dataclasses.replace(OPTIM, epochs=3)
    train(tmp_path / "undisturbed", experiment(cnn=optim), "cnn", dataset())
    for file in (run_folder.WEIGHTS, run_folder.SNAPSHOTS, run_folder.SPLIT, run_folder.CONFIG):
        one, other = (tmp_path / name / file for name in ("killed", "undisturbed"))
        assert one.read_bytes() == other.read_bytes(), file
    assert [row["epoch"] for row in run_folder.read_history(tmp_path / "killed")] == [1, 2, 3]
    assert not list((tmp_path / "killed").glob(f".*{TEMPORARY}"))


@pytest.mark.parametrize("left", [None, 1])
def test_a_training_is_not_resumed_without_its_history(tmp_path, monkeypatch, left):
    config = experiment(cnn=dataclasses.replace(OPTIM, epochs=3))
    train_interrupted(monkeypatch, tmp_path, config, "cnn", epoch=2)
    rows = run_folder.read_history(tmp_path)
    assert len(rows) == 2
    if left is None:
        (tmp_path / run_folder.HISTORY).unlink()
    else:
        run_folder.write_history(tmp_path, rows[:left])
    with pytest.raises(CheckpointError, match=r"history\.jsonl does not hold the 2 epochs"):
        train(tmp_path, config, "cnn", dataset())
    run_folder.write_history(tmp_path, rows)
    train(tmp_path, config, "cnn", dataset())
    assert run_folder.read_json(tmp_path / run_folder.TRAINING)["epochs"] == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda of: of | {"optimizer_states": [of["optimizer_states"][0] | {"state": {}}]},
        lambda of: of | {"optimizer_states": []},
        lambda of: of | {"lr_schedulers": []},
        lambda of: of | {"loops": None},
        lambda of: of | {"callbacks": {}},
        lambda of: of | {"epoch": "x"},
        lambda of: {"a": 1},
        lambda of: [1],
        lambda of: {key: value for key, value in of.items() if key != "optimizer_states"},
        lambda of: of["state_dict"],
    ],
)
def test_a_training_is_not_resumed_without_the_state_of_its_optimiser(
    tmp_path, monkeypatch, change
):
    train_interrupted(monkeypatch, tmp_path, experiment(), "cnn")
    resume = tmp_path / run_folder.RESUME
    torch.save(change(torch.load(resume, weights_only=True)), resume)
    with pytest.raises(CheckpointError, match=r"resume\.ckpt (lacks the state|holds no model)"):
        train(tmp_path, experiment(), "cnn", dataset())


def test_a_training_keeps_its_precision_and_says_what_else_changed(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    data, begun = dataset(), experiment(train=BF16)
    train(tmp_path / "uninterrupted", begun, "cnn", data)
    train_interrupted(monkeypatch, tmp_path / "parts", begun, "cnn")
    monkeypatch.setattr(torch, "compile", lambda forward: forward)
    other = dataclasses.replace(PLAIN, compile=True)
    train(tmp_path / "parts", experiment(train=other), "cnn", data)
    assert same(weights(tmp_path / "uninterrupted"), weights(tmp_path / "parts"))
    facts = run_folder.read_json(tmp_path / "parts" / run_folder.PROVENANCE)
    assert (facts["precision"], facts["compiled"]) == ("bf16", True)
    assert facts["changed_when_resumed"] == ["compiled False, then True"]
    notes = [text for text in caplog.messages if text.startswith("NOTE: cnn")]
    assert notes == [
        "NOTE: cnn: resumed under other conditions: compiled False, then True",
        "NOTE: cnn: it continues in bf16, as it began",
    ]


def test_a_training_in_fp16_is_not_resumed_without_a_gpu(tmp_path, monkeypatch):
    train_interrupted(monkeypatch, tmp_path, experiment(), "cnn")
    path = tmp_path / run_folder.PROVENANCE
    run_folder.write_json(path, run_folder.read_json(path) | {"precision": "fp16"})
    with pytest.raises(EnvironmentFault, match="began in fp16, which needs a CUDA GPU"):
        train(tmp_path, experiment(), "cnn", dataset())


def test_a_run_that_moved_keeps_its_best_epoch(tmp_path, monkeypatch):
    """Interrupted after a good first epoch, moved, and then getting worse."""
    step = Classifier.training_step

    def worse(self, batch, index):
        if self.current_epoch == 1 and index == 1 and (tmp_path / "here").exists():
            raise KeyboardInterrupt
        loss = step(self, batch, index)
        return loss if self.current_epoch == 0 else -loss

    monkeypatch.setattr(Classifier, "training_step", worse)
    optim = OptimConfig(epochs=3, batch_size=50, muon_learning_rate=0.1, learning_rate=0.03)
    config = experiment(vit=optim)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "here", config, "vit", dataset())
    (tmp_path / "here").rename(tmp_path / "there")
    train(tmp_path / "there", config, "vit", dataset())
    assert run_folder.read_json(tmp_path / "there" / run_folder.TRAINING)["best_epoch"] == 1

    _, validation = split(dataset().train_labels, config.data.validation_fraction, 0)
    with torch.no_grad():
        logits = load_trained(tmp_path / "there")(to_images(dataset().train_pixels[validation]))
    shipped = F.cross_entropy(logits, torch.from_numpy(dataset().train_labels[validation])).item()
    first = run_folder.read_history(tmp_path / "there")[0]["val_loss"]
    assert shipped == pytest.approx(first, rel=1e-4)


def test_a_run_stopped_after_its_last_epoch_is_finished(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(models, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, experiment(), "cnn", dataset())
    assert not (tmp_path / run_folder.TRAINING).exists()
    train(tmp_path, experiment(), "cnn", dataset())
    assert run_folder.read_json(tmp_path / run_folder.TRAINING)["epochs"] == 2


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_folder_that_is_removed_during_the_training_stays_away(tmp_path, monkeypatch, epoch):
    step = Classifier.training_step

    def removed(self, batch, index):
        if (self.current_epoch, index) == (epoch, 0):
            shutil.rmtree(tmp_path / "run")
        return step(self, batch, index)

    monkeypatch.setattr(Classifier, "training_step", removed)
    with pytest.raises(EnvironmentFault, match="run was removed or renamed; run the command again"):
        train(tmp_path / "run", experiment(), "cnn", dataset())
    assert not (tmp_path / "run").exists()


def interrupt(*arguments):
    raise KeyboardInterrupt


def flip(path):
    """Change bits in the middle of a file."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2  # more than a byte, which could be padding
    content[middle : middle + 200] = bytes(b ^ 1 for b in content[middle : middle + 200])
    path.write_bytes(content)


def stop_before_the_end(monkeypatch, folder):
    with monkeypatch.context() as patch:
        patch.setattr(models, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(folder, experiment(), "cnn", dataset())


@pytest.mark.parametrize(
    "damaged", [[run_folder.BEST], [run_folder.RESUME, run_folder.PREVIOUS]], ids=" ".join
)
@pytest.mark.fault(3)
def test_flipped_bits_in_a_checkpoint_are_refused(tmp_path, monkeypatch, damaged):
    stop_before_the_end(monkeypatch, tmp_path)
    for file in damaged:
        flip(tmp_path / file)
    with pytest.raises(CheckpointError, match=f"{damaged[-1]} is damaged"):
        train(tmp_path, experiment(), "cnn", dataset())


@pytest.mark.fault(3)
def test_a_damaged_checkpoint_costs_an_epoch_and_changes_nothing(tmp_path, monkeypatch, caplog):
    train(tmp_path / "undamaged", experiment(), "cnn", dataset())
    stop_before_the_end(monkeypatch, tmp_path / "run")
    flip(tmp_path / "run" / run_folder.RESUME)
    train(tmp_path / "run", experiment(), "cnn", dataset())
    assert "resume.ckpt is damaged" in caplog.text and "an epoch earlier" in caplog.text
    assert same(weights(tmp_path / "undamaged"), weights(tmp_path / "run"))
    assert not (tmp_path / "run" / run_folder.PREVIOUS).exists()


@pytest.mark.parametrize(
    ("file", "change", "fault"),
    [
        (run_folder.RESUME, lambda own, other: other, "holds other weights"),
        (run_folder.BEST, lambda own, other: other, "holds other weights"),
        (run_folder.BEST, lambda own, other: [1], "holds no model"),
        (
            run_folder.RESUME,
            lambda own, other: own | {"optimizer_states": other["optimizer_states"]},
            "the state of another optimiser",
        ),
        (
            run_folder.RESUME,
            lambda own, other: own | {"loops": {"fit_loop": {"epoch_progress": {}}}},
            "cannot be resumed",
        ),
        (run_folder.RESUME, lambda own, other: own | {"epoch": 10**9}, "does not hold the"),
    ],
)
@pytest.mark.fault(7)
def test_checkpoints_of_another_model_are_refused(tmp_path, monkeypatch, file, change, fault):
    for name in ("cnn", "vit"):
        train_interrupted(monkeypatch, tmp_path / name, experiment(), name)
    own, other = (torch.load(tmp_path / name / file) for name in ("cnn", "vit"))
    torch.save(change(own, other), tmp_path / "cnn" / file)
    with pytest.raises(CheckpointError, match=fault):
        train(tmp_path / "cnn", experiment(), "cnn", dataset())


def test_without_git_a_run_has_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    facts = provenance(experiment().train, torch.device("cpu"))
    assert facts["commit"] is None


def test_seeds_repeat_and_differ(tmp_path):
    data, config = dataset(), experiment()
    other = dataclasses.replace(config, seed=1)
    train(tmp_path / "a", config, "vit", data)
    train(tmp_path / "b", config, "vit", data)
    train(tmp_path / "c", other, "vit", data)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def classifier(optim=OPTIM):
    pixels, labels = to_tensor(dataset().train_pixels), torch.from_numpy(dataset().train_labels)
    both = (pixels, labels)
    return Classifier(tiny.model("vit"), optim, training=both, validation=both, seed=0)


class CopiesToTheHost(TorchDispatchMode):
    """Counts the operations that would wait for a GPU to hand over a number.

    AdamW's step counters do not count: they are on the CPU in any case.
    """

    def __init__(self, optimizer):
        super().__init__()
        self.count, self.optimizer = 0, optimizer

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            steps = [state["step"] for state in self.optimizer.state.values() if "step" in state]
            self.count += args[0].data_ptr() not in {step.data_ptr() for step in steps}
        return function(*args, **(kwargs or {}))


def test_a_training_step_never_waits_for_the_device():
    module = classifier(dataclasses.replace(OPTIM, cutmix=0.5))
    optimizer = module.configure_optimizers()["optimizer"]
    batches = iter(module.train_dataloader())
    with CopiesToTheHost(optimizer) as copies:
        for index in range(2):
            optimizer.zero_grad()
            module.training_step(next(batches), index).backward()
            optimizer.step()
    assert copies.count == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    train(folder, experiment(), "cnn", dataset())
    return folder


def test_what_a_run_says_of_itself(finished):
    config, data = experiment(), dataset()
    training = run_folder.read_json(finished / run_folder.TRAINING)
    history = run_folder.read_history(finished)
    assert training["parameters"] == sum(
        p.numel() for p in models.build(config.cnn, 10).parameters() if p.requires_grad
    )
    assert training["train_seconds"] == history[-1]["elapsed_train_seconds"]
    assert sum(r["train_seconds"] for r in history) == pytest.approx(training["train_seconds"])
    assert history[0]["learning_rate"] > history[-1]["learning_rate"]
    described = run_folder.read_json(finished / run_folder.DATA)
    assert described["fingerprint"] == data.fingerprint
    indices = run_folder.read_arrays(finished / run_folder.SPLIT)
    assert not set(indices["train"]) & set(indices["validation"])
    assert sum(described["counts"]["train"]) == len(indices["train"])


def test_a_finished_training_is_not_done_again(finished):
    before = (finished / run_folder.WEIGHTS).stat().st_mtime_ns
    train(finished, experiment(), "cnn", dataset())
    assert (finished / run_folder.WEIGHTS).stat().st_mtime_ns == before


@pytest.mark.fault(8)
def test_other_settings_or_data_are_refused_with_what_differs(finished):
    with pytest.raises(CheckpointError, match=r"epochs is 2 there and 3 here"):
        train(finished, experiment(cnn=OptimConfig(epochs=3, batch_size=50)), "cnn", dataset())
    with pytest.raises(CheckpointError, match="fingerprint"):
        train(finished, experiment(), "cnn", dataset(seed=9))
    config = experiment()
    other = dataclasses.replace(config.data, split_seed=5)
    with pytest.raises(CheckpointError, match="split_fingerprint"):
        train(finished, dataclasses.replace(config, data=other), "cnn", dataset())


@pytest.mark.fault(13)
def test_a_loss_that_is_not_a_number_stops_the_training_in_one_sentence(tmp_path, monkeypatch):
    step = Classifier.training_step

    def broken(self, batch, index):
        images, *rest = batch
        return step(self, (images * float("nan" if index > 1 else 1), *rest), index)

    monkeypatch.setattr(Classifier, "training_step", broken)
    with pytest.raises(
        DivergedError,
        match=r"not a number in step 3 of 3 in epoch 1, at a learning rate of 0\.0016, and 0\.016",
    ):
        train(tmp_path, experiment(), "cnn", dataset())
    reason = run_folder.read_json(tmp_path / run_folder.FAILED)["reason"]
    assert reason.startswith("training diverged")
    assert not (tmp_path / run_folder.WEIGHTS).exists()
    assert not (tmp_path / run_folder.RESUME).exists()
    monkeypatch.setattr(Classifier, "training_step", step)
    train(tmp_path, experiment(), "cnn", dataset())
    assert not (tmp_path / run_folder.FAILED).exists()


def test_a_model_at_chance_is_said_to_have_learned_nothing(tmp_path, caplog):
    same = dataclasses.replace(
        dataset(), train_labels=np.random.default_rng(3).permutation(dataset().train_labels)
    )
    train(tmp_path / "chance", experiment(), "cnn", same)
    assert "the model is not shown to have learned anything: its validation accuracy" in caplog.text
    facts = run_folder.read_json(tmp_path / "chance" / run_folder.TRAINING)
    assert facts["learned"] is False and facts["chance_accuracy"] == pytest.approx(0.1)
    caplog.clear()
    bright = np.uint8(25 * dataset().train_labels)[:, None, None, None]
    easy = dataclasses.replace(
        dataset(), train_pixels=np.broadcast_to(bright, dataset().train_pixels.shape).copy()
    )
    longer = OptimConfig(epochs=8, batch_size=20)
    train(tmp_path / "learned", experiment(cnn=longer), "cnn", easy)
    assert run_folder.read_json(tmp_path / "learned" / run_folder.TRAINING)["learned"] is True
    assert "learned anything" not in caplog.text


@pytest.mark.fault(5)
def test_a_class_that_a_checkpoint_names_is_not_imported(finished, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "canary_5b1f.py").write_text("class Canary: pass")
    train_interrupted(monkeypatch, tmp_path / "run", experiment(), "cnn")
    resume = tmp_path / "run" / run_folder.RESUME
    named = dict.fromkeys(("_instantiator", "_class_path", "class_path"), "canary_5b1f.Canary")
    hyperparameters = {"hyper_parameters": named, "hparams_name": "named"}
    torch.save(torch.load(resume, weights_only=True) | named | hyperparameters, resume)
    train(tmp_path / "run", experiment(), "cnn", dataset())
    assert "canary_5b1f" not in sys.modules
    assert same(weights(tmp_path / "run"), weights(finished))


class Hostile:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("content", ["hostile", "truncated"])
@pytest.mark.fault(4)
def test_a_resume_file_that_is_not_ours_is_refused_and_runs_no_code(tmp_path, monkeypatch, content):
    train_interrupted(monkeypatch, tmp_path / "run", experiment(), "cnn")
    resume = tmp_path / "run" / run_folder.RESUME
    if content == "hostile":
        torch.save(Hostile(tmp_path / "canary"), resume)
    else:
        resume.write_bytes(resume.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"resume\.ckpt is damaged"):
        train(tmp_path / "run", experiment(), "cnn", dataset())
    assert not (tmp_path / "canary").exists()


def test_images_of_one_colour_are_refused_before_anything_is_written(tmp_path):
    blank = dataclasses.replace(dataset(), train_pixels=np.full_like(dataset().train_pixels, 7))
    with pytest.raises(DataError, match="are all of one colour"):
        train(tmp_path / "run", experiment(), "cnn", blank)
    assert not (tmp_path / "run" / run_folder.CONFIG).exists()


def test_a_channel_that_never_changes_is_no_obstacle(tmp_path):
    pixels = dataset().train_pixels.copy()
    pixels[..., 2] = 0
    for name in ("cnn", "vit"):
        train(
            tmp_path / name, experiment(), name, dataclasses.replace(dataset(), train_pixels=pixels)
        )
        assert all(torch.isfinite(of).all() for of in weights(tmp_path / name).values())


def too_little_memory(monkeypatch, epoch):
    step = Classifier.training_step

    def hungry(self, batch, index):
        if len(batch[1]) >= 50 and self.current_epoch == epoch:
            raise MemoryError
        return step(self, batch, index)

    monkeypatch.setattr(Classifier, "training_step", hungry)


@pytest.mark.fault(14)
def test_without_memory_a_smaller_batch_is_accepted_in_the_same_folder(tmp_path, monkeypatch):
    too_little_memory(monkeypatch, epoch=0)
    with pytest.raises(
        EnvironmentFault,
        match=r"batch of 50 images; repeat the command with a smaller --cnn\.optim\.batch-size",
    ):
        train(tmp_path, experiment(), "cnn", dataset())
    smaller = experiment(cnn=dataclasses.replace(OPTIM, batch_size=20))
    train(tmp_path, smaller, "cnn", dataset())
    stored = run_folder.read_json(tmp_path / run_folder.CONFIG)
    assert stored["model"]["optim"]["batch_size"] == 20


def test_without_memory_in_a_later_epoch_another_folder_is_advised(tmp_path, monkeypatch):
    too_little_memory(monkeypatch, epoch=1)
    with pytest.raises(EnvironmentFault, match=r"batch-size and a new --out"):
        train(tmp_path, experiment(), "cnn", dataset())


@pytest.mark.parametrize("file", [run_folder.CONFIG, run_folder.DATA])
def test_settings_that_were_deleted_are_not_made_up(tmp_path, monkeypatch, file):
    train_interrupted(monkeypatch, tmp_path, experiment(), "cnn")
    (tmp_path / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file} is missing"):
        train(tmp_path, experiment(), "cnn", dataset())


def test_a_mixed_image_counts_for_both_classes_by_their_share():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 10), torch.tensor([3, 1, 4, 1])
    foreign = torch.tensor([0.0, 0.25, 0.5, 1.0])
    own, other = (F.one_hot(y, 10) * 0.9 + 0.01 for y in (labels, torch.tensor([1, 3, 1, 4])))
    targets = torch.lerp(own, other, foreign[:, None])
    expected = F.cross_entropy(logits, targets, reduction="none")
    found = mixed_losses(logits, labels, labels.roll(1), foreign, smoothing=0.1)
    torch.testing.assert_close(found, expected)
