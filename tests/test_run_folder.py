import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from visavis import files, run_folder
from visavis.errors import CheckpointError, EnvironmentFault


@pytest.mark.fault(11)
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.json"
    run_folder.write_json(path, {"value": 1})

    def interrupted():
        with files.replacing(path) as temporary:
            temporary.write_text("half of i")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        interrupted()
    assert run_folder.read_json(path) == {"value": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.fault(11)
def test_a_full_disk_is_told_with_what_is_needed_and_free_there(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        EnvironmentFault, match=r"a\.bin: No space .* \(5\.0 MB needed, .* free there"
    ):
        files.write_bytes(tmp_path / "a.bin", bytes(5_000_000))
    assert not list(tmp_path.iterdir())


def test_nan_never_reaches_a_json_file(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        run_folder.write_json(tmp_path / "a.json", {"value": float("nan")})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"value": 1}', '{"schema": 99}', "\udcff"]
)
def test_a_json_file_that_is_not_ours_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "evaluation.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=r"evaluation\.json"):
        run_folder.read_json(path)


def test_a_missing_file_says_which_and_why(tmp_path):
    with pytest.raises(CheckpointError, match=r"training\.json is missing"):
        run_folder.read_json(tmp_path / "training.json")


def test_damaged_and_hostile_arrays_are_errors(tmp_path):
    path = tmp_path / "predictions.npz"
    logits = np.arange(100.0).reshape(20, 5)
    run_folder.write_arrays(path, logits=logits)
    np.testing.assert_array_equal(run_folder.read_arrays(path)["logits"], logits)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="damaged"):
        run_folder.read_arrays(path)
    np.savez(path, logits=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CheckpointError, match="damaged"):
        run_folder.read_arrays(path)


@pytest.mark.fault(12)
def test_a_folder_is_written_by_one_process_at_a_time(tmp_path):
    script = (
        "import sys; from pathlib import Path; from visavis import files\n"
        "from visavis.errors import EnvironmentFault\n"
        "try:\n"
        "    with files.lock(Path(sys.argv[1])): pass\n"
        "except EnvironmentFault as error: print(error)\n"
    )

    def other_process() -> str:
        command = [sys.executable, "-c", script, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with files.lock(tmp_path):
        assert f"pid {os.getpid()}" in other_process()
    assert other_process() == ""


@pytest.mark.fault(12)
def test_what_a_killed_process_left_is_deleted_and_nothing_else(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from visavis import files\n"
        "with files.replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half of i'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "a.json"], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    for other in (".notes.tmp", ".notes.txt.k3jf02_x.tmp"):
        (tmp_path / other).write_text("of another program")
    with_lock(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".lock", ".notes.tmp", ".notes.txt.k3jf02_x.tmp"}


@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "folder", "link to a device"])
def test_a_lock_that_is_no_file_is_refused_and_left_alone(tmp_path, kind):
    path, target = tmp_path / "run" / ".lock", tmp_path / "thesis.txt"
    path.parent.mkdir()
    if kind == "link":
        target.write_text("years of work")
        path.symlink_to(target)
    elif kind == "dangling link":
        path.symlink_to(target)
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(os.devnull)
    with pytest.raises(EnvironmentFault, match=r"\.lock is not a file; delete it"):
        with_lock(path.parent)
    assert os.path.lexists(path)
    assert target.exists() == (kind == "link")
    assert kind != "link" or target.read_text() == "years of work"


def with_lock(folder):
    with files.lock(folder):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.fault(12)
def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(EnvironmentFault, match="cannot write"):
        with_lock(tmp_path)


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="files of Linux")
@pytest.mark.fault(12)
def test_a_file_system_that_takes_no_files_is_reported():
    """Root may not write there, either."""
    with pytest.raises(EnvironmentFault, match="cannot write to /sys/visavis: "):
        with_lock(Path("/sys/visavis"))


def test_a_path_below_a_file_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="cannot write"):
        with_lock(tmp_path / "file" / "x")


def test_history_survives_and_damage_is_reported(tmp_path: Path):
    assert run_folder.read_history(tmp_path) == []
    run_folder.write_history(tmp_path, [{"epoch": 1}, {"epoch": 2}])
    assert [row["epoch"] for row in run_folder.read_history(tmp_path)] == [1, 2]
    assert json.loads((tmp_path / run_folder.HISTORY).read_text().splitlines()[1]) == {"epoch": 2}
    (tmp_path / run_folder.HISTORY).write_text('{"epoch": 1')
    with pytest.raises(CheckpointError, match="history"):
        run_folder.read_history(tmp_path)


def test_the_reader_reads_a_file_once_and_only_when_it_is_used(tmp_path):
    folder = run_folder.ModelFolder(tmp_path / "cnn")
    assert not folder.trained
    with pytest.raises(CheckpointError, match=r"training\.json is missing"):
        _ = folder.training
    folder.path.mkdir()
    run_folder.write_json(tmp_path / "cnn" / run_folder.TRAINING, {"epochs": 3})
    assert folder.trained and folder.training == {"epochs": 3}
    (tmp_path / "cnn" / run_folder.TRAINING).unlink()
    assert folder.training == {"epochs": 3}


def test_predictions_follow_from_the_logits(tmp_path):
    run_folder.write_arrays(
        tmp_path / run_folder.PREDICTIONS,
        logits=np.log(np.array([[0.7, 0.3], [0.2, 0.8]], dtype=np.float32)),
        labels=np.array([0, 0]),
    )
    folder = run_folder.ModelFolder(tmp_path)
    np.testing.assert_array_equal(folder.predicted, [0, 1])
    np.testing.assert_array_equal(folder.correct, [True, False])
    np.testing.assert_allclose(folder.confidence, [0.7, 0.8], rtol=1e-6)
