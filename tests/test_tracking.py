"""W&B offline, read back from what it stored; and everything that can go wrong with it."""

import contextlib
import dataclasses
import http.server
import json
import logging
import os
import socket
import struct
import threading
import time

import pytest
from matplotlib.figure import Figure

import fake_runs
import small
from visavis import run_folder
from visavis.config import OptimConfig, TrackingConfig
from visavis.stages.train import train
from visavis.training import tracking

KEY = "canary" + "0123456789" * 4
OFFLINE = TrackingConfig(wandb="offline")


def records(folder):
    """All records of the one run stored in `folder`/wandb.

    The file is in LevelDB's log format: 7 bytes of W&B's own, then blocks of 32 KiB, in them
    fragments with checksum (4 bytes), length (2) and kind (1: full, 2: first, 3: middle, 4: last).
    """
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    content, place, parts, found = path.read_bytes(), 7, b"", []
    while place < len(content):
        room = 32768 - place % 32768
        if room < 7:
            place += room
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        if place + 7 + length > len(content):  # still being written
            break
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            found.append(Record.FromString(parts))
            parts = b""
    return found


def history(folder):
    """What was logged, one dictionary for each call, once W&B's writer has ended the file."""
    rows, patience = [], time.monotonic() + 30
    while "exit" not in {r.WhichOneof("record_type") for r in records(folder)}:
        assert time.monotonic() < patience, "W&B's writer never ended its file"
        time.sleep(0.1)
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
    return rows


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@contextlib.contextmanager
def server(status):
    """A server that responds to everything with `status`, or not at all if that is None."""
    if status is None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            yield f"http://127.0.0.1:{silent.getsockname()[1]}"
        return

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - its name is http.server's

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.fault(34)
def test_a_training_is_stored_and_can_be_read_back(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    optim = OptimConfig(epochs=2, batch_size=8)
    experiment = dataclasses.replace(small.experiment(cnn=optim), tracking=OFFLINE)
    first = tmp_path / "first"
    train(first / "cnn", experiment, "cnn", small.dataset(), tracked_in=first)
    logged = history(tmp_path / "first")
    epochs = run_folder.read_history(tmp_path / "first" / "cnn")
    for key, name in (
        ("val/loss", "val_loss"),
        ("val/accuracy", "val_accuracy"),
        ("train/accuracy", "train_accuracy"),
    ):
        stored = [row[key] for row in logged if key in row]
        assert stored == pytest.approx([epoch[name] for epoch in epochs])
    rates = [row["learning_rate"] for row in logged if "learning_rate" in row]
    assert len(rates) == 2
    assert rates[0] > rates[1] == 0  # at the end of each epoch
    (run,) = [r.run for r in records(tmp_path / "first") if r.WhichOneof("record_type") == "run"]
    assert (run.project, run.run_group, run.display_name) == ("visavis", "first", "cnn")
    assert not [path for path in files(tmp_path) if KEY.encode() in path.read_bytes()]


def test_an_experiment_is_stored_with_figures_and_matrices(tmp_path, monkeypatch):
    home = tmp_path / "elsewhere"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME")
    folder = fake_runs.write_experiment(tmp_path / "experiment")
    tracking.log_experiment(OFFLINE, folder=folder, group="g", figures={"losses": Figure()})
    (row,) = [row for row in history(folder) if "losses/path" in row or "losses" in row]
    for name in ("cnn", "vit"):
        evaluation = run_folder.read_json(folder / name / run_folder.EVALUATION)
        assert row[f"{name}/test/accuracy"] == pytest.approx(evaluation["accuracy"])
        (stored,) = (folder / "wandb").rglob(f"table/{name}/confusion_matrix*.json")
        cells = json.loads(stored.read_text())["data"]
        classes = evaluation["class_names"]
        assert sum(n for _, _, n in cells) == evaluation["n"]
        assert [classes[0], classes[1], evaluation["confusion_matrix"][0][1]] in cells
    assert not files(home), "something was written outside the experiment"


@pytest.mark.parametrize(
    ("wanted", "environment", "expected"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": KEY}, "online"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "off"),
        ("online", {}, "offline"),
        ("offline", {"WANDB_API_KEY": KEY}, "offline"),
        ("off", {"WANDB_API_KEY": KEY}, "off"),
    ],
)
@pytest.mark.fault(20)
def test_mode_depends_on_the_key_and_never_asks(wanted, environment, expected, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracking.mode(TrackingConfig(wandb=wanted)) == expected


def test_a_key_in_netrc_counts_for_its_own_host_only(tmp_path, monkeypatch):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text(f"machine tracker.example login user password {KEY}\n")
    monkeypatch.setenv("WANDB_BASE_URL", "https://tracker.example")
    assert tracking.mode(TrackingConfig()) == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://another.example")
    assert tracking.mode(TrackingConfig()) == "offline"
    (tmp_path / "netrc").write_text("machine")
    assert tracking.mode(TrackingConfig()) == "offline"


@pytest.mark.parametrize("status", [None, 500])
@pytest.mark.fault(20, 34)
def test_a_server_that_is_silent_or_broken_costs_a_warning(status, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(tracking, "INIT_SECONDS", 2)
    with server(status) as url, caplog.at_level(logging.WARNING, "visavis"):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        logger = tracking.logger(TrackingConfig(), folder=tmp_path, name="cnn", group="g")
        logger.log_metrics({"train/loss": 0.5}, step=1)
        logger.finalize("success")
        monkeypatch.setattr(tracking, "INIT_SECONDS", 1000)  # it is not waited for again
        tracking.logger(TrackingConfig(), folder=tmp_path / "b", name="b", group="g").finalize("")
    assert len([record for record in caplog.records if record.name.startswith("visavis")]) == 1
    assert KEY not in caplog.text
    assert [row["train/loss"] for row in history(tmp_path) if "train/loss" in row] == [0.5]
    assert not [path for path in files(tmp_path) if KEY.encode() in path.read_bytes()]


@pytest.mark.fault(20)
def test_a_bad_key_costs_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "INIT_SECONDS", 2)
    with server(200) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", "short")
        logger = tracking.logger(TrackingConfig(), folder=tmp_path, name="cnn", group="g")
    logger.finalize("success")
    assert "W&B could not start a run that is online" in caplog.text
    assert "short" not in caplog.text


@pytest.mark.fault(20, 31)
def test_without_wandb_a_run_goes_untracked(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    assert tracking.logger(OFFLINE, folder=tmp_path, name="cnn", group="g") is None
    tracking.log_experiment(OFFLINE, folder=tmp_path, group="g", figures={})
    assert "W&B cannot be used here" in caplog.text


@pytest.mark.fault(20)
def test_the_first_error_is_reported_once_and_ends_the_tracking_only(caplog):
    class Broken:
        calls = 0

        def log(self, *arguments):
            self.calls += 1
            raise OSError("quota exceeded")

    run = Broken()
    logger = tracking.ForgivingLogger(run)
    for step in range(3):
        logger.log_metrics({"train/loss": 0.0}, step=step)
    logger.log_hyperparams({"seed": 0})
    logger.finalize("success")
    assert run.calls == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "quota exceeded" in caplog.text


def test_the_environment_is_left_as_it_was(tmp_path):
    before = dict(os.environ)
    tracking.logger(OFFLINE, folder=tmp_path, name="cnn", group="g").finalize("success")
    assert dict(os.environ) == before
