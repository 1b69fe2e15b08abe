"""The command line as its users meet it: exit codes, messages, what goes to which stream."""

import dataclasses
import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import small
import visavis.report.page
import visavis.stages.compare
import visavis.stages.run
import visavis.stages.train
from visavis import config, data, presets, registry, run_folder
from visavis.cli import main
from visavis.data import download
from visavis.errors import CheckpointError, ConfigError, DataError, EnvironmentFault
from visavis.training import memory

TINY = [
    *("--cnn.widths", "8", "8", "16", "--vit.width", "16", "--vit.depth", "2", "--vit.heads", "2"),
    *("--explain.images", "20", "--explain.sweep-images", "20"),
    *("--train.precision", "float32", "--tracking.wandb", "off"),
]
COMMANDS = [
    *("run", "data info", "data fetch", "data verify", "train cnn", "train vit", "evaluate"),
    *("study", "study-job", "explain", "validate-scores", "cross-model", "compare", "report"),
    *("export", "cite", "serve", "predict", "doctor"),
]
HELPS = [[], ["train"], ["data"], *(name.split() for name in COMMANDS)]


def flat(text):
    """Text without the boxes and line breaks of a terminal."""
    return " ".join("".join(" " if c in "│╭╮╰╯─•" else c for c in text).split())


def two_models(folder):
    """Make the folder look like an experiment, and return it."""
    for name in registry.OWN:
        (folder / name).mkdir()
        (folder / name / run_folder.CONFIG).touch()
    return folder


@pytest.fixture
def failing(monkeypatch, tmp_path):
    """Make `visavis compare FOLDER` raise; returns the folder."""

    def install(error):
        def raiser(folder):
            raise error

        monkeypatch.setattr(visavis.stages.compare, "compare", raiser)
        return two_models(tmp_path)

    return install


def spawn(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_no_help_imports_torch_or_matplotlib():
    code = (
        "import sys\nfrom visavis.cli import main\n"
        f"for words in {HELPS!r}:\n"
        "    sys.argv = ['visavis', *words, '--help']\n"
        "    assert main() == 0, words\n"
        "    heavy = {'lightning', 'matplotlib', 'ray', 'scipy', 'torch', 'wandb'}\n"
        "    heavy &= {*sys.modules}\n"
        "    assert not heavy, (words, heavy)\n"
    )
    process = spawn(code)
    _, err = process.communicate()
    assert process.returncode == 0, err


def test_top_help_names_every_command(visavis_command):
    for arguments in ([], ["--help"], ["-h"]):
        code, out, err = visavis_command(*arguments)
        assert (code, err) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name} " in out


def test_version(visavis_command):
    code, out, _ = visavis_command("--version")
    assert code == 0 and out[0].isdigit()


def test_run_takes_the_promised_flags_and_explains_each(visavis_command):
    code, out, _ = visavis_command("run", "--help")
    text = flat(out)
    assert code == 0
    for promised in (
        "--preset {smoke,quick,standard,best}",
        *(f"{preset}: " for preset in ("smoke", "quick", "standard", "best")),
        "--out PATH",
        "--seed INT",
        "--data.source {auto,cifar10,cifar100,shapes,folder}",
        "--data.size INT",
        "--data.dir PATH",
        "--tracking.wandb {auto,online,offline,off}",
        "--cnn.optim.epochs INT Passes over the training images.",
        "--vit.patch-size INT Side of the non-overlapping square patches, pixels",
        "--debug",
        *(
            f"--{model}.optim.{field.replace('_', '-')}"
            for model in registry.OWN
            for field in config.OptimConfig.__dataclass_fields__
        ),
    ):
        assert promised in text, promised


def test_help_shows_the_defaults_of_the_chosen_preset(visavis_command):
    for preset, source in (("smoke", "cifar10"), ("standard", "shapes")):
        _, out, _ = visavis_command("run", "--preset", preset, f"--data.source={source}", "-h")
        epochs = presets.preset(preset, source).vit.optim.epochs
        expected = f"--vit.optim.epochs INT Passes over the training images. (default: {epochs})"
        assert expected in flat(out)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rnu", "Unrecognized options: rnu"),
        ("train", "Expected one of {cnn, vit}"),
        ("train resnet", "Available subcommands: cnn, vit"),
        ("data", "Expected one of {info, fetch, verify}"),
        ("--preset quick", "Available subcommands: run"),
        ("run --cnn.optim.epoch 3", "Perhaps you meant: --cnn.optim.epochs"),
        ("run --cnn.optim.epochs three", "Error parsing --cnn.optim.epochs"),
        ("run --vit.mlp-ratio big", "Error parsing --vit.mlp-ratio"),
        ("run --data.source cifar", "('auto', 'cifar10', 'cifar100', 'shapes',"),
        ("run --preset quik", "invalid choice 'quik' for argument '--preset'"),
        ("run --vit.patch-size 5", "--vit.patch-size 5 does not divide images of 32 x 32"),
        ("run --cnn.optim.epochs 0", "--cnn.optim.epochs"),
        ("run --data.size 64", "--data.size 64: only the images of a folder"),
        ("run --data.source folder --data.size 65", "--data.size 65: use 32 to 256"),
        ("run --data.source folder", "say which with --data.dir DIR"),
        ("data fetch shapes", "cifar100"),
        ("run --seed", "Missing value for argument '--seed'"),
        ("run --cnn.widths 8 8", "'--cnn.widths'. Expected 3 values"),
        ("run stray", "Unrecognized options: stray"),
        ("run --data.source shapes --data.dir x", "contradict"),
        ("train cnn", "--out PATH Run folder of this one model. (required)"),
        ("train cnn --vit.depth 3 --out x", "--vit.depth (applied to visavis train cnn)"),
        ("evaluate", "DIR Run folder of one trained model. (required)"),
        ("predict x", "name at least one image"),
        ("serve x --port 0", "--port 0: use 1 to 65535"),
        ("train cnn --out x --lr 0.1", "there is no --lr; the learning rates are --cnn.optim.lear"),
        ("run --lr=0.1", "--vit.optim.learning-rate"),
        ("run --out=", "--out is empty; name a folder"),
    ],
)
@pytest.mark.usefixtures("own_registry")  # whatever other tests registered
@pytest.mark.fault(30)
def test_a_wrong_command_line_is_reported_on_stderr(line, expected, visavis_command):
    code, out, err = visavis_command(*line.split())
    assert (code, out) == (2, "")
    assert expected in flat(err)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (ConfigError("no"), 2, "no"),
        (DataError("no"), 3, "no"),
        (CheckpointError("no"), 4, "no"),
        (EnvironmentFault("no"), 5, "no"),
        (MemoryError(), 5, "not enough memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), 5, "close other programs"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 5, "run the same command"),
        (
            ImportError("libcudnn.so.9: cannot open"),
            5,
            "(libcudnn.so.9: cannot open); run `visavis",
        ),
        (OSError("libcudart.so.13: cannot open shared object file"), 5, "library cannot be loaded"),
        (DataError("no \x1b]0;owned\x07\x9b31m"), 3, "no ?]0;owned??31m"),
        (OSError(errno.ENOSPC, "No space left", "/tmp/x"), 5, "the disk is full, so /tmp/x"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 5, "no permission for /x"),
        (OSError(errno.EIO, "I/O error", "/x"), 5, "/x cannot be used (I/O error); give another"),
        (ModuleNotFoundError("No module", name="scipy"), 5, "the package scipy is missing"),
        (RuntimeError("operator torchvision::nms does not exist"), 5, "visavis doctor"),
        (
            KeyError("boom"),
            1,
            "this is a bug in visavis (KeyError: 'boom'); run again with --debug",
        ),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
@pytest.mark.fault(11, 14, 31)
def test_each_error_has_its_exit_code_and_one_sentence(
    error, code, expected, failing, visavis_command
):
    found, out, err = visavis_command("compare", failing(error))
    assert (found, out) == (code, "")
    assert expected in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["compare", "cross-model", "report"])
def test_a_folder_that_is_no_experiment_is_left_alone(command, tmp_path, visavis_command):
    unfinished = tmp_path / ".essay.json.abcdefgh.visavis.tmp"
    unfinished.write_text("of somebody else")
    code, out, err = visavis_command(command, tmp_path)
    assert (code, out) == (4, "")
    assert "holds 0 run folders of models" in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [unfinished]


@pytest.mark.parametrize("command", ["run", "train cnn", "study cnn"])
def test_out_is_looked_at_before_the_images(command, few_images, tmp_path, visavis_command):
    (tmp_path / "file").touch()
    for out, expected in ((tmp_path / "file" / "x", "file is a file"), ("", "--out is empty")):
        code, text, err = visavis_command(*command.split(), "--out", out)
        assert (code, text) == (2, "") and expected in err
    assert few_images == []


def test_a_command_to_go_on_with_can_be_copied(few_images, finished, tmp_path, visavis_command):
    spaced = shutil.copytree(finished, tmp_path / "my runs")
    assert f"next: visavis explain '{spaced}/cnn'\n" in visavis_command(
        "evaluate", spaced / "cnn", "--data.source", "shapes"
    )[1].replace(local_program(), "visavis")


def local_program():
    from visavis.cli.commands import _program

    return _program()


@pytest.mark.parametrize("command", ["predict", "compare", "report"])
def test_a_model_is_not_taken_for_an_experiment(command, finished, visavis_command):
    images = ["x.png"] if command == "predict" else []
    code, _, err = visavis_command(command, finished / "cnn", *images)
    assert code == 4
    assert (
        f"is the run folder of one model; name the experiment folder, which holds it: {finished}"
        in err
    )


@pytest.mark.parametrize("name", ["nowhere.safetensors", "nowhere.pt"])
def test_weights_that_are_not_there_are_named(name, few_images, tmp_path, visavis_command):
    weights = ("--model", "cnn", "--weights", tmp_path / name)
    code, _, err = visavis_command("explain", tmp_path / "net", *weights)
    assert code == 4 and f"there is no file {tmp_path / name}" in err
    assert not (tmp_path / "net").exists()


def test_a_working_folder_that_was_deleted_is_told(tmp_path):
    code = (
        "import os, sys; os.mkdir('x'); os.chdir('x'); os.rmdir('../x')\n"
        "from visavis.cli import main; sys.exit(main())"
    )
    with spawn(code, "data", "info", "--data.source", "shapes", cwd=tmp_path) as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (5, "")
    assert err == "visavis: the working folder was deleted; change to another one\n"


@pytest.mark.fault(10)
def test_ctrl_c_in_a_burst_shows_no_traceback(tmp_path):
    """From the first import to the end."""
    for delay in (0.02, 0.1, 0.3, 0.6):
        command = [sys.executable, "-m", "visavis", "data", "info", "--data.source", "shapes"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            time.sleep(delay + 0.05)  # Python itself has started
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
                time.sleep(0.001)
            assert b"Traceback" not in process.stderr.read()


def test_debug_shows_where(failing, visavis_command):
    code, _, err = visavis_command("compare", failing(DataError("no")), "--debug")
    assert code == 3
    assert "Traceback" in err and "in raiser" in err and err.endswith("visavis: no\n")


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        (("run",), "own"),
        (("run",), "own/runs/first"),
        (("run",), "link"),
        (("run",), "."),  # its model folder would be that of the images
        (("run",), None),
        (("train", "cnn"), "own/cnn"),
        (("train", "vit"), "own/../own"),
    ],
)
def test_run_folders_do_not_lie_among_the_images(
    arguments, out, few_images, monkeypatch, tmp_path, visavis_command
):
    own = tmp_path / ("cnn" if out == "." else "own")
    own.mkdir()
    (tmp_path / "link").symlink_to(own)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(own if out is None else tmp_path)
    place = () if out is None else ("--out", out)
    images = ("--data.source", "folder", "--data.dir", "." if out is None else own.name)
    code, text, err = visavis_command(*arguments, *place, *images)
    assert (code, text) == (2, "")
    assert "lies in the folder of the images" in err and err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_is_not_adopted_among_the_images(tmp_path, visavis_command):
    code, _, err = visavis_command("explain", tmp_path / "net", "--model", "cnn", "--weights", "x",
        "--data.source", "folder", "--data.dir", tmp_path)  # fmt: skip
    assert code == 2 and "lies in the folder of the images" in err
    assert not list(tmp_path.iterdir())


def test_a_preset_follows_the_images_and_flags_override_it(
    few_images, monkeypatch, tmp_path, visavis_command, finished
):
    calls = []
    monkeypatch.setattr(visavis.stages.run, "run", lambda *given: calls.append(given) or finished)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quick-shapes").symlink_to(finished)
    arguments = ("run", "--preset", "quick", "--vit.optim.epochs", "77", "--seed", "3")
    assert visavis_command(*arguments)[0] == 0
    ((out, experiment, preset, dataset),) = calls
    expected = presets.preset("quick", "shapes")
    assert few_images[0].source == "auto"
    assert (str(out), preset, dataset.source) == ("runs/quick-shapes", "quick", "shapes")
    assert experiment.cnn == expected.cnn != presets.preset("quick", "cifar10").cnn
    assert experiment.vit.optim.epochs == 77
    assert experiment.vit.width == expected.vit.width
    assert experiment.seed == 3


def test_the_size_of_the_images_decides_crop_and_patches(monkeypatch, tmp_path, visavis_command):
    pixels = {
        f"{part}_pixels": np.zeros((n, 64, 64, 3), np.uint8)
        for part, n in (("train", 200), ("test", 60))
    }
    large = dataclasses.replace(small.dataset(), source="folder", test_masks=None, **pixels)
    monkeypatch.setattr(data, "resolve", lambda wanted: large)
    calls = []
    monkeypatch.setattr(visavis.stages.train, "train", lambda *given: calls.append(given))
    source = ("--data.source", "folder", "--data.dir", tmp_path / "own", "--data.size", "64")
    visavis_command("train", "vit", "--out", tmp_path / "vit", "--preset", "quick", *source)
    ((_, experiment, *_),) = calls
    assert (experiment.data.size, experiment.vit.patch_size, experiment.vit.optim.crop) == (
        64,
        8,
        48,
    )


def test_fetch_takes_the_data_set(monkeypatch, visavis_command):
    asked = []
    monkeypatch.setattr(download, "fetch", lambda source: asked.append(source) or "there")
    for arguments in ((), ("cifar100",)):
        assert visavis_command("data", "fetch", *arguments)[:2] == (0, "there\n")
    assert asked == ["cifar10", "cifar100"]


@pytest.fixture
def undrawn(monkeypatch):
    """Reports without their charts, which take most of the time."""
    monkeypatch.setattr(visavis.report.page, "svg", lambda figure, name="": "")


@pytest.mark.usefixtures("undrawn")
def test_run_goes_on_where_it_stopped(few_images, finished, tmp_path, monkeypatch, visavis_command):
    monkeypatch.setattr(presets, "preset", lambda *_: small.experiment())
    out = shutil.copytree(finished, tmp_path / "my experiment")
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/*") if p.name != ".lock"}
    (out / "vit" / run_folder.EVALUATION).unlink()
    arguments = ("run", "--preset", "smoke", "--data.source", "shapes", "--out", out)
    code, text, narration = visavis_command(*arguments)
    assert code == 0, narration
    assert text.splitlines()[-2] == str(out / "report.html")
    assert f"visavis serve {shlex.quote(str(out))} --open" in text.splitlines()[-1]
    comparison = run_folder.read_json(out / run_folder.COMPARISON)
    accuracy = 100 * comparison["models"]["first"]["accuracy"]["value"]
    assert f"{accuracy:.1f} %" in text.splitlines()[1]
    after = {p: p.stat().st_mtime_ns for p in out.glob("*/*") if p.name != ".lock"}
    redone = {str(path.relative_to(out)) for path in before if after[path] != before[path]}
    assert redone == {"vit/evaluation.json", "vit/predictions.npz"}
    code, _, err = visavis_command(*arguments, "--cnn.optim.epochs", "1")
    assert code == 4
    assert "cnn.optim.epochs is 2 there and 1 here" in err


@pytest.mark.usefixtures("undrawn", "few_points")
def test_stage_by_stage_comes_to_what_run_does(few_images, finished, tmp_path, visavis_command):
    experiment = tmp_path / "experiment"
    shutil.copytree(finished, experiment)
    made = ("cnn/evaluation.json", "cnn/explanations.json", "cross_model.json", "comparison.json")
    for name in (*made, "report.html"):
        (experiment / name).unlink()
    code, _, err = visavis_command("compare", experiment)
    assert code == 4
    assert "evaluation.json is missing" in err
    for arguments, following in (
        (("evaluate", experiment / "cnn"), "explain"),
        (("explain", experiment / "cnn"), "cross-model"),
        (("cross-model", experiment), "compare"),
        (("compare", experiment), "report"),
    ):
        code, out, err = visavis_command(*arguments)
        assert code == 0, err
        assert f"visavis {following}" in out.splitlines()[-1]
    (experiment / "experiment.json").unlink()  # only `run` writes it
    code, out, _ = visavis_command("report", experiment)
    assert (code, out) == (0, f"{experiment / 'report.html'}\n")
    for name in made:
        found, expected = (
            json.loads((folder / name).read_text()) for folder in (experiment, finished)
        )
        assert without_times(found) == without_times(expected), name


def without_times(values):
    """Of a JSON file; what is left follows from the weights and the settings."""
    if isinstance(values, dict):
        times = ("seconds", "inference_images_per_second", "sha256")  # the last: of them all
        return {key: without_times(v) for key, v in values.items() if key not in times}
    return [without_times(v) for v in values] if isinstance(values, list) else values


def test_explain_and_evaluate_want_one_models_folder(finished, tmp_path, visavis_command):
    code, _, err = visavis_command("evaluate", finished)
    assert code == 2 and f"{finished}/cnn" in err
    code, _, err = visavis_command("explain", tmp_path / "nothing")
    assert code == 4 and "there is no run folder" in err


def test_the_images_of_a_run_are_remembered(few_images, finished, tmp_path, visavis_command):
    """`auto` then means what it came to when the model was trained."""
    shutil.copytree(finished / "cnn", tmp_path / "cnn")
    visavis_command("evaluate", tmp_path / "cnn")
    visavis_command("evaluate", tmp_path / "cnn", "--data.dir", "x", "--data.source", "cifar10")
    assert [asked.source for asked in few_images] == ["shapes", "cifar10"]


def test_train_cnn_trains_the_cnn_alone(few_images, tmp_path, visavis_command):
    tiny = (*TINY[:4], *TINY[-4:])
    code, out, err = visavis_command("train", "cnn", "--out", tmp_path / "x", *tiny, "--seed", 4,
        "--cnn.optim.epochs", 1)  # fmt: skip
    assert code == 0, err
    assert out.splitlines()[-1].endswith(f"visavis evaluate {tmp_path / 'x'}")
    written = run_folder.read_json(tmp_path / "x" / run_folder.CONFIG)
    assert (written["model"]["name"], written["seed"]) == ("cnn", 4)


def test_predict_answers_for_good_images_among_bad_ones(finished, tmp_path, visavis_command):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no image")
    images = [tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "good.png"]
    code, out, err = visavis_command("predict", finished, *images, "--json")
    assert code == 3
    answers = json.loads(out)
    assert [sorted(answer) for answer in answers] == [
        ["image", "models"],
        ["error", "image"],
        ["image", "models"],
    ]
    assert "bad.png is not an image" in err and err.count("\n") == 1
    code, out, err = visavis_command("predict", finished, tmp_path / "good.png")
    assert (code, err) == (0, "")
    assert out.count("%") == 6


def test_data_info_tells_the_counts(few_images, visavis_command):
    code, out, _ = visavis_command("data", "info", "--data.source", "shapes")
    assert code == 0
    assert small.dataset().fingerprint in out
    assert "total" in out and "200" in out
    code, out, _ = visavis_command("data", "verify", "--data.source", "shapes")
    assert code == 0


PATCHED = """
import sys, time
import visavis.report.page
from visavis.cli import main
{code}
visavis.report.page.report = report
sys.argv = ['visavis', 'report', '.']
sys.exit(main())
"""


def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    process = spawn(
        PATCHED.format(code="report = lambda folder: 'x' * 10_000_000"), cwd=two_models(tmp_path)
    )
    process.stdout.read(10)
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, "")
    process.stderr.close()


SLEEPY = """
def report(folder):
    try:
        print('ready', flush=True)
        time.sleep(30)
    finally:
        print('clean', flush=True)
        time.sleep({cleaning})
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.fault(10)
def test_a_signal_ends_in_good_order_and_a_second_one_at_once(number, tmp_path):
    two_models(tmp_path)
    with spawn(PATCHED.format(code=SLEEPY.format(cleaning=0)), cwd=tmp_path) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, out) == (128 + number, "clean\n")
    assert "repeat the command to resume" in err and err.count("\n") == 1
    with spawn(PATCHED.format(code=SLEEPY.format(cleaning=30)), cwd=tmp_path) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "clean\n"
        start = time.monotonic()
        process.send_signal(number)
        assert process.wait() == 128 + number
        assert time.monotonic() - start < 5


IN_SRUN = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "study", "SLURM_NTASKS": "4", "SLURM_PROCID": "3"}


@pytest.mark.fault(9)
def test_a_training_that_is_stopped_keeps_its_last_epoch(tmp_path):
    """Inside `srun`, where Lightning would take the task for one rank of a larger training."""
    code = (
        "import sys\nsys.path.insert(0, sys.argv.pop(1))\nimport small\n"
        "from visavis import data\nfrom visavis.cli import main\n"
        "data.resolve = lambda config: small.dataset()\n"
        "sys.exit(main())"
    )
    arguments = ("train", "cnn", "--out", str(tmp_path / "x"), "--cnn.optim.epochs", "10000")
    tests = os.path.dirname(__file__)
    variables = {**os.environ, **IN_SRUN}
    with spawn(code, tests, *arguments, *TINY[:4], *TINY[-4:], env=variables) as process:
        for line in process.stderr:
            if "epoch 3 of" in line:
                break
        process.terminate()
        _, err = process.communicate()
    assert process.returncode == 143, err
    assert err.splitlines()[-1].startswith("visavis: stopped")
    assert not list(tmp_path.rglob("*.tmp"))
    assert (tmp_path / "x" / run_folder.RESUME).exists()
    assert len(run_folder.read_history(tmp_path / "x")) >= 3


@pytest.mark.fault(33)
def test_output_survives_a_terminal_without_the_letters():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = spawn("from visavis.cli import main; main()", "predict", "--help", env=environment)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "IMAGE?" in out


@pytest.mark.fault(33)
def test_any_locale_any_name_and_no_home_will_do(finished, tmp_path):
    """A report of a folder behind a link, where Python reads and writes ASCII by default."""
    real, link = tmp_path / "Éssai n° 1 – 图片", tmp_path / "lien n° 2"
    shutil.copytree(finished, real)
    link.symlink_to(real)
    (real / run_folder.REPORT).unlink()
    bare = {key: os.environ[key] for key in os.environ.keys() - {"HOME", "XDG_CACHE_HOME"}}
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with spawn(
        "from visavis.__main__ import command; command()", "report", link, env=bare | ascii_only
    ) as process:
        _, err = process.communicate()
    assert process.returncode == 0 and err.startswith("wrote ") and err.count("\n") == 1, err
    assert "–" in (real / run_folder.REPORT).read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["train cnn", "evaluate"])
def test_commands_with_many_steps_keep_freed_memory(command, few_images, monkeypatch, tmp_path):
    kept = []
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: kept.append(True))
    flags = ["--out", "x", "--train.device", "cuda"] if command == "train cnn" else ["x"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("visavis.stages.train.train", lambda *_: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["visavis", *command.split(), *flags])
    assert main() != 0
    assert bool(kept) == (command == "train cnn")
