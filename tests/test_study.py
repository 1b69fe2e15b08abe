"""Studies: what their command line stands for, their plan, and the processes that they start."""

import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import small
from visavis import registry, run_folder
from visavis.cli import local_engine, study_flags, tables
from visavis.config import Experiment
from visavis.errors import CheckpointError, ConfigError
from visavis.stages.study import Variant, complete, plan, planned

pytestmark = pytest.mark.usefixtures("few_images")

TINY = [
    *("--cnn.widths", "8", "8", "16", "--vit.width", "16", "--vit.depth", "2", "--vit.heads", "2"),
    *("--explain.images", "20", "--explain.sweep-images", "20", "--preset", "smoke"),
    *("--train.device", "cpu", "--train.precision", "float32", "--tracking.wandb", "off"),
]


def names(*arguments):
    return [variant.name for variant in study_flags.variants(*arguments)]


def test_variants_are_all_combinations_of_a_models_own_settings():
    vary = ["vit.optim.learning_rate=1e-3", "vit.depth=4", "vit.depth=6", "optim.epochs=2,3"]
    assert names(["cnn", "vit", "timm/resnet18"], vary) == [
        "cnn",
        "vit-depth-4-optim-learning-rate-1e-3",
        "vit-depth-6-optim-learning-rate-1e-3",
        "timm-resnet18-optim-epochs-2",
        "timm-resnet18-optim-epochs-3",
    ]
    assert names(["cnn"], ["cnn.widths=8 8 16,8 16 16"]) == [
        "cnn-widths-8-8-16",
        "cnn-widths-8-16-16",
    ]
    assert study_flags.flags_of({"cnn.widths": "8 8 16", "cnn.optim.flip": "false"}) == [
        *("--cnn.widths", "8", "8", "16", "--cnn.optim.no-flip")
    ]
    assert study_flags.flags_of({"cnn.optim.flip": "True"}) == ["--cnn.optim.flip"]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ((), 2, "name at least one model"),
        (("cnn", "cnn"), 2, "the study names cnn twice"),
        (("resnet",), 2, "there is no model 'resnet'"),
        (("cnn", "--vary", "vit.depth=4"), 2, "--vary vit.depth: only settings of the models"),
        (("cnn", "--vary", "data.split-seed=1,2"), 2, "--vary data.split-seed: only settings"),
        (("vit", "--vary", "vit.depth="), 2, "--vary vit.depth=: give values"),
        (("vit", "--vary", "vit.depth=0"), 2, "--vit.depth 0: use 1 to 100"),
        (("vit", "--vary", "vit.dpeth=4"), 2, "Perhaps you meant: --vit.depth"),
        (("cnn", "--seeds", "0"), 2, "--seeds 0: use 1 to 20"),
        (("cnn", "--jobs", "-1"), 2, "--jobs -1"),
        (("missing.toml",), 2, "cannot read missing.toml: there is no such file"),
    ],
)
def test_a_study_that_cannot_be_is_refused(arguments, code, expected, tmp_path, visavis_command):
    found, out, err = visavis_command("study", *arguments, "--out", tmp_path / "s", *TINY)
    text = " ".join(err.replace("│", " ").split())
    assert (found, out) == (code, "") and expected in text and "Traceback" not in err
    assert not (tmp_path / "s" / run_folder.STUDY).exists()


def test_a_file_stands_for_flags_and_flags_override_it(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        'models = ["cnn", "vit"]\nseeds = 2\nout = "runs/x"\n'
        '[vary]\n"vit.depth" = [4, 6]\n"cnn.widths" = [[8, 8, 16]]\n"cnn.optim.flip" = false\n'
        "[data]\nsource = 'shapes'\n[vit.optim]\nflip = false\nepochs = 4\n"
    )
    words = study_flags.expanded(["study", str(path), "timm/resnet18", "--seeds", "5", "--debug"])
    assert words == [
        *("study", "cnn", "vit", "timm/resnet18", "--seeds", "2", "--out", "runs/x"),
        *("--data.source", "shapes", "--vit.optim.no-flip", "--vit.optim.epochs", "4"),
        *("--vary", "vit.depth=4,6", "cnn.widths=8 8 16", "cnn.optim.flip=false"),
        *("--seeds", "5", "--debug"),
    ]
    for own in (["--vary", "vit.depth=2"], ["--vary=vit.depth=2"]):
        assert study_flags.expanded(["study", str(path), *own])[-len(own) - 1 :] == ["4", *own]
    path.write_text("models = [")
    with pytest.raises(ConfigError, match="is not a TOML file"):
        study_flags.expanded(["study", str(path)])
    assert study_flags.expanded(["train", "x.toml"]) == ["train", "x.toml"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("models = [", "is not a TOML file: "),
        ("models = " + "[" * 9_000, "is not a TOML file: it is nested too deeply"),
        ("a." * 2_000 + "a = 1", "is not a TOML file: it is nested too deeply"),
        ("a." * 6_000 + "a = 1", "is not a TOML file: it has 12,005 bytes, more than the 10,000"),
        (None, "is not a TOML file: it is not a file"),
        ('models = ["cnn"]\nepochs = !!python/object/apply:os.system', "is not a TOML file: "),
        ('models = [{name = "cnn"}]', "there is no model"),
        ('models = ["cnn"]\n"x\\u0000y" = 1', "Unrecognized options"),
    ],
)
@pytest.mark.fault(30)
def test_a_study_file_that_is_none_is_refused(content, expected, tmp_path, visavis_command):
    path = tmp_path / "own.toml"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_text(content)
    code, _, err = visavis_command("study", path, "--out", tmp_path / "s")
    assert code == 2 and expected in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "s").exists()


def test_settings_that_are_given_one_by_one_all_vary(tmp_path, visavis_command):
    vary = ("--vary", "vit.depth=1", "--vary", "cnn.optim.flip=false", "vit.heads=1")
    flags = ("--seeds", "1", *TINY, "--print", "--out", tmp_path)
    code, text, err = visavis_command("study", "cnn", "vit", *vary, *flags)
    assert code == 0, err
    assert "cnn-optim-flip-false" in text and "vit-depth-1-heads-1" in text


@pytest.mark.fault(34)
def test_a_printed_command_trains_tests_and_explains_one_model_once(
    tmp_path, visavis_command, secrets_in
):
    """The printed commands, and no engine: what a cluster runs."""
    out = tmp_path / "my study"
    vary = ("--vary", "vit.depth=1", "--seeds", "1", "--out", out)
    code, text, err = visavis_command("study", "cnn", "vit", *vary, *TINY, "--print")
    assert code == 0, err
    lines = [shlex.split(line)[1:] for line in text.splitlines()]
    other, folder = out / "cnn" / "seed-0", out / "vit-depth-1" / "seed-0"
    assert lines == [["study-job", str(other)], ["study-job", str(folder)]]
    code, _, err = visavis_command(*lines[1])
    assert code == 0, err
    stored = run_folder.read_json(out / run_folder.STUDY)
    assert stored["variants"]["vit-depth-1"]["varied"] == {"vit.depth": "1"}
    assert stored["data"]["fingerprint"] == small.dataset().fingerprint
    model = run_folder.ModelFolder(folder)
    assert model.config["model"]["depth"] == 1
    assert model.explanations["n"] == stored["explain"]["images"] == 20
    assert model.explanations["grid"][0] == stored["explain"]["grid"]

    # Explained by hand it is on the images of the study, too.
    (folder / run_folder.EXPLANATIONS).unlink()
    assert visavis_command("explain", folder)[0] == 0
    again = run_folder.ModelFolder(folder).explanations
    assert (again["n"], again["grid"]) == (model.explanations["n"], model.explanations["grid"])
    explained = (folder / run_folder.EXPLANATIONS).stat().st_mtime_ns

    # What is there is not done again, and seeds and variants can be added.
    assert visavis_command(*lines[1])[0] == 0
    assert (folder / run_folder.EXPLANATIONS).stat().st_mtime_ns == explained
    code, text, _ = visavis_command("study", "vit", *vary, *TINY)
    assert code == 0 and "vit-depth-1  1 of 1" in text and "cannot show how much" in text
    assert (out / run_folder.STUDY_REPORT).stat().st_size > 50_000
    assert not secrets_in(out)
    more = ("study", "vit", *vary, *TINY, "--seeds", "2", "--print")
    assert shlex.split(visavis_command(*more)[1])[1:] == [
        "study-job",
        str(folder.parent / "seed-1"),
    ]
    assert {*run_folder.read_json(out / run_folder.STUDY)["variants"]} == {"cnn", "vit-depth-1"}

    # Other settings, other images.
    code, _, err = visavis_command("study", "vit", *vary, *TINY, "--vit.optim.epochs", "7")
    assert code == 4 and "vit-depth-1: optim.epochs is 1 there and 7 here" in err
    code, _, err = visavis_command("study", "vit", "--out", out, *TINY, "--explain.images", "30")
    assert code == 4 and "explain.images is 20 there and 30 here" in err
    code, _, err = visavis_command("study", "vit", "--out", out, *TINY, "--data.split-seed", "1")
    assert code == 4 and "data.split_fingerprint is" in err and err.count("\n") == 1
    code, _, err = visavis_command("study-job", out / "cnn" / "seed-7")
    assert code == 2 and "plans no training cnn/seed-7" in err
    code, _, err = visavis_command("study-job", tmp_path)
    assert code == 4 and "is not in the folder of a study" in err
    name, experiment = planned(folder)
    with pytest.raises(
        CheckpointError, match=r"pixels of these images \(.*\) differ; use those of the study"
    ):
        complete(folder, name, experiment, small.dataset(seed=5))
    stranger = run_folder.read_json(folder / run_folder.DATA) | {"fingerprint": "other"}
    run_folder.write_json(folder / run_folder.DATA, stranger)
    code, _, err = visavis_command("study", "vit", *vary, *TINY)
    assert code == 4 and f"{folder} does not use the same images as its study" in err


def test_the_models_grid_and_number_of_images_are_fixed_once(tmp_path):
    experiment = dataclasses.replace(small.experiment(), seeds=1)
    plan(tmp_path, {"cnn": Variant("cnn", {}, experiment)}, small.dataset())
    explaining = run_folder.read_json(tmp_path / run_folder.STUDY)["explain"]
    assert explaining["grid"] > 0 and explaining["images"] == 20
    vit = dataclasses.replace(experiment.vit, patch_size=8)
    coarse = Variant("vit", {}, dataclasses.replace(experiment, vit=vit))
    plan(tmp_path, {"vit": coarse}, small.dataset())
    assert run_folder.read_json(tmp_path / run_folder.STUDY)["explain"] == explaining


@pytest.mark.parametrize(
    ("key", "here"), [("precision", "bf16"), ("compile", True), ("device", "cuda")]
)
def test_a_variant_is_not_continued_with_another_kind_of_training(key, here, tmp_path):
    experiment = dataclasses.replace(small.experiment(), seeds=1)
    plan(tmp_path, {"cnn": Variant("cnn", {}, experiment)}, small.dataset())
    (tmp_path / "cnn").mkdir()
    before = (tmp_path / run_folder.STUDY).read_bytes()
    training = dataclasses.replace(experiment.train, **{key: here})
    other = dataclasses.replace(experiment, train=training)
    there = getattr(experiment.train, key)
    with pytest.raises(CheckpointError, match=f"cnn: train.{key} is {there} there and {here} here"):
        plan(tmp_path, {"cnn": Variant("cnn", {}, other)}, small.dataset())
    assert (tmp_path / run_folder.STUDY).read_bytes() == before


def test_a_training_with_another_split_than_that_of_the_study_does_not_start(tmp_path):
    experiment = dataclasses.replace(small.experiment(), seeds=1)
    (folder,) = plan(tmp_path, {"cnn": Variant("cnn", {}, experiment)}, small.dataset())
    split = dataclasses.replace(experiment.data, split_seed=experiment.data.split_seed + 1)
    other = dataclasses.replace(experiment, data=split)
    with pytest.raises(CheckpointError, match="holds out other validation images"):
        complete(folder, "cnn", other, small.dataset())
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("compare",), "{} is a study, whose page is study.html"),
        (("export", "--to", "files"), "no training of the study in {} is finished"),
        (("cite",), "no training of the study in {} is finished"),
    ],
)
def test_a_study_without_trainings_has_nothing_to_show(
    arguments, expected, tmp_path, visavis_command
):
    run_folder.write_json(tmp_path / run_folder.STUDY, {"data": {}, "explain": {}, "variants": {}})
    code, _, err = visavis_command(*arguments, tmp_path)
    assert code == 4 and expected.format(tmp_path) in err


def test_commands_pass_on_the_file_that_registers_a_model(tmp_path, visavis_command):
    file = tmp_path / "own.py"
    file.write_text(
        "import torch, visavis\n"
        "visavis.register_model('net', lambda classes, side: torch.nn.Sequential(\n"
        "    torch.nn.Conv2d(3, 8, 4, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),\n"
        "    torch.nn.Flatten(), torch.nn.Linear(8, classes)))\n"
    )
    try:
        code, text, err = visavis_command("study", "net", "--models", file, "--out", tmp_path / "s",
            "--seeds", "1", *TINY, "--print")  # fmt: skip
    finally:
        registry.registered.clear()
        registry.files.clear()
    assert code == 0, err
    assert text.split()[1:] == ["study-job", f"{tmp_path}/s/net/seed-0", "--models", str(file)]


def command(code):
    return [sys.executable, "-c", code]


def epochs(folder, count):
    """Code that finishes epochs, as far as the engine sees."""
    rows = [json.dumps({"epoch": i + 1, "val_accuracy": 0.5}) for i in range(count)]
    return f"open({str(folder / run_folder.HISTORY)!r}, 'w').write({chr(10).join(rows)!r})"


@pytest.mark.fault(14, 21)
def test_a_training_that_fails_or_is_killed_stops_no_other(tmp_path, caplog):
    caplog.set_level("INFO", "visavis")
    good, bad, killed, last = (tmp_path / name / "seed-0" for name in ("a", "b", "c", "d"))
    failed = local_engine.run(
        {
            good: command(epochs(good, 2)),
            bad: command("import sys; sys.exit('visavis: the loss became NaN')"),
            killed: command("import os; os.kill(os.getpid(), 9)"),
            last: command("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"),
        },
        [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}],
    )
    assert failed == {
        bad: "the loss became NaN (exit code 1)",
        killed: "ended by SIGKILL; memory may have run out",
    }
    assert (last / run_folder.JOB_LOG).read_text().splitlines()[-1] in ("3", "5")
    assert "a/seed-0: epoch 2, validation accuracy 50.0 %" in caplog.text
    assert "a/seed-0: finished" in caplog.text and "c/seed-0: ended by SIGKILL" in caplog.text


def test_a_study_that_partly_fails_says_what_to_do(monkeypatch, tmp_path, visavis_command):
    monkeypatch.setattr(
        local_engine, "run", lambda commands, _: dict.fromkeys(list(commands)[1:], "no luck")
    )
    arguments = ("study", "cnn", "--seeds", "2", "--out", tmp_path / "s", *TINY)
    code, text, err = visavis_command(*arguments)
    assert code == 7 and "0 of 2" in text
    *_, failure, end = err.splitlines()
    assert (
        failure == f"{tmp_path}/s/cnn/seed-1 failed: no luck; see {tmp_path}/s/cnn/seed-1/job.log"
    )
    assert end.startswith("visavis: 1 of 2 trainings failed") and f"--out {tmp_path}/s" in end


@pytest.mark.fault(21)
def test_of_ten_trainings_two_fail_and_they_alone_are_repeated(
    finished, monkeypatch, tmp_path, visavis_command
):
    started = []

    def engine(commands, _):
        """All but the last two of the first time leave what a training does."""
        started.append([folder.name for folder in commands])
        failing = list(commands)[-2:] if len(started) == 1 else []
        for folder in commands.keys() - {*failing}:
            shutil.copytree(finished / "cnn", folder, dirs_exist_ok=True)
            for file, changed in (
                (run_folder.CONFIG, {"seed": int(folder.name.removeprefix("seed-"))}),
                (run_folder.TRAINING, {"weights_sha256": folder.name.rjust(64, "0")}),
            ):
                values = run_folder.read_json(folder / file)
                run_folder.write_json(folder / file, values | changed)
        return dict.fromkeys(failing, "no luck")

    monkeypatch.setattr(local_engine, "run", engine)
    arguments = ("study", "cnn", "--seeds", "10", "--out", tmp_path / "s", *TINY)
    code, text, err = visavis_command(*arguments)
    assert code == 7 and "8 of 10" in text and "2 of 10 trainings failed" in err
    results = run_folder.read_json(tmp_path / "s" / run_folder.RESULTS)
    assert len(results["trainings"]) == 8
    assert results["missing"] == ["cnn/seed-8", "cnn/seed-9"]
    code, text, _ = visavis_command(*arguments)
    assert code == 0 and "10 of 10" in text
    assert started == [[f"seed-{seed}" for seed in range(10)], ["seed-8", "seed-9"]]


linux = pytest.mark.skipif(sys.platform != "linux", reason="signals and memory of Linux")


@linux
def test_whatever_ends_a_training_is_its_reason_and_stops_no_other(tmp_path):
    unstarted, silent, odd, good = (tmp_path / name / "seed-0" for name in "abcd")
    unstarted.parent.write_text("a file where the folder should be")
    real_time = f"import os, signal; os.kill(os.getpid(), {signal.SIGRTMIN + 1})"
    empty = f"import sys; open({str(silent / run_folder.JOB_LOG)!r}, 'w'); sys.exit(3)"
    failed = local_engine.run(
        {
            unstarted: command("pass"),
            silent: command(empty),
            odd: command(real_time),
            good: command("pass"),
        },
        [{}],
    )
    assert failed.pop(unstarted).startswith("it cannot be started: ")
    assert failed == {
        silent: "its log is empty (exit code 3)",
        odd: f"ended by signal {signal.SIGRTMIN + 1}",
    }


@linux
def test_memory_that_the_container_uses_is_not_available(monkeypatch, tmp_path):
    monkeypatch.setattr(local_engine, "CONTROL_GROUP", tmp_path)
    unlimited = local_engine.available_memory()
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 2000\ninactive_file 1000\n")
    assert local_engine.available_memory() == 3000 < unlimited


def test_failed_trainings_are_named_even_if_there_is_no_page(
    monkeypatch, tmp_path, visavis_command
):
    def no_table(out):
        raise CheckpointError("a file is damaged")

    monkeypatch.setattr(local_engine, "run", lambda commands, _: dict.fromkeys(commands, "no luck"))
    monkeypatch.setattr(tables, "studied", no_table)
    arguments = ("study", "cnn", "--seeds", "1", "--out", tmp_path / "s", *TINY)
    code, _, err = visavis_command(*arguments)
    *_, failure, problem, end = err.splitlines()
    assert code == 7 and f"{tmp_path}/s/cnn/seed-0 failed: no luck" in failure
    assert "a file is damaged" in problem and "1 of 1 trainings failed" in end


ENGINE = """
import os, sys
from pathlib import Path
from visavis.cli import local_engine
from visavis.cli.exit_codes import stoppable
child = (
    "import time, sys\\n"
    "from visavis.cli import local_engine\\n"
    "from visavis.cli.exit_codes import stoppable\\n"
    "with stoppable():\\n"
    "    local_engine.stop_with_parent()\\n"
    "    try:\\n"
    "        open(sys.argv[1] + '/started', 'w').close()\\n"
    "        time.sleep(60)\\n"
    "    finally:\\n"
    "        open(sys.argv[1] + '/ended', 'w').close()\\n"
)
out = Path(sys.argv[1])
with stoppable():
    folders = [out / name / "seed-0" for name in "ab"]
    local_engine.run(
        {folder: [sys.executable, "-c", child, str(folder)] for folder in folders},
        [{local_engine.PARENT: str(os.getpid())}] * 2,
    )
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.fault(9)
def test_no_training_outlives_its_study(number, tmp_path):
    def there(name):
        end = time.monotonic() + 60
        while len(found := list(tmp_path.glob(f"*/seed-0/{name}"))) < 2:
            assert time.monotonic() < end
            time.sleep(0.1)
        return found

    arguments = [sys.executable, "-c", ENGINE, str(tmp_path)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        there("started")
        process.send_signal(number)
        process.wait()
    assert there("ended")


def test_how_many_run_at_once(monkeypatch):
    cores = set(range(4))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(local_engine, "available_memory", lambda: 7_000_000_000)

    def at_once(*arguments):
        found = local_engine.environments(*arguments)
        return [(of.get("CUDA_VISIBLE_DEVICES"), of["OMP_NUM_THREADS"]) for of in found]

    assert at_once(9, "cpu") == [(None, "1")] * 3  # memory
    assert at_once(2, "cpu") == [(None, "2")] * 2  # trainings
    assert at_once(9, "cpu", 4) == [(None, "1")] * 4
    monkeypatch.setattr(local_engine, "available_memory", lambda: 1)
    assert at_once(9, "cpu") == [(None, "4")]
    import torch

    monkeypatch.setattr("visavis.training.hardware.select_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert at_once(9, "auto") == [("0", "2"), ("1", "2")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert at_once(9, "auto", 3) == [("5", "1"), ("7", "1"), ("5", "1")]


def test_a_plan_that_holds_no_settings_is_named(tmp_path, visavis_command):
    folder = tmp_path / "cnn" / "seed-0"
    entry = {"model": "cnn", "varied": {}, "seeds": [0], "experiment": {"cnn": "large"}}
    plan = {"data": {}, "explain": {}, "variants": {"cnn": entry}}
    run_folder.write_json(tmp_path / run_folder.STUDY, plan)
    code, _, err = visavis_command("study-job", folder)
    assert code == 4 and "study.json does not hold what visavis wrote there" in err


def test_the_table_has_mean_and_spread_between_trainings(tmp_path):
    experiment = Experiment()
    for seed, accuracy in enumerate((0.8, 0.9)):
        folder = tmp_path / "vit" / run_folder.SEED.format(seed)
        folder.mkdir(parents=True)
        scores = {"accuracy": accuracy, "f1_macro": 0.5}
        run_folder.write_json(folder / run_folder.EVALUATION, scores)
        run_folder.write_json(folder / run_folder.EXPLANATIONS, {})
        outcome = {"parameters": 1234, "train_seconds": 10.0 * seed}
        run_folder.write_json(folder / run_folder.TRAINING, outcome)
    entry = {"seeds": [0, 1, 2], "experiment": dataclasses.asdict(experiment.explain)}
    run_folder.write_json(tmp_path / run_folder.STUDY, {"variants": {"vit": entry}})
    _, row, *notes = tables.studied(Path(tmp_path)).splitlines()
    assert row == "vit  2 of 3  85.0 % ± 7.07  50.0 % ± 0.00       1,234          5.0 s"
    assert "0.4 to 32 times" in notes[-1]
    for seed in range(2):  # a model that was trained elsewhere
        folder = tmp_path / "vit" / run_folder.SEED.format(seed)
        run_folder.write_json(folder / run_folder.TRAINING, {"parameters": 1234})
    assert tables.studied(tmp_path).splitlines()[1].endswith("1,234              –")
