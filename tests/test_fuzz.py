"""Any file, request and command line at random: success, or one sentence with exit code 2 to 5.

The suite tries a few of each, always the same; recipes/fuzz.py tries others, for as long as it is
told to.
"""

import contextlib
import functools
import io
import json
import os
import pickle
import shutil
import socket
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

import small
import tiny
from sites import ask, serving
from visavis import data, models, registry, run_folder
from visavis.cli import commands, main, study_flags
from visavis.data import cifar, cifar_parquet
from visavis.data.images import FORMATS, png, read_image
from visavis.errors import VisavisError
from visavis.training import memory
from visavis.training.checkpoints import check_fits, check_resumable

# The server's thread may draw a random number while Hypothesis draws an example.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

LONG = settings.get_current_profile_name() == "long"


def few(examples):
    """So many examples in the suite, ten times as many in a round of the recipe."""
    return settings(
        max_examples=examples * (10 if LONG else 1),
        derandomize=not LONG,
        database=None,
        report_multiple_bugs=False,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def success_or_a_sentence():
    code, sentence = 2, "a sentence of one line"
    try:
        yield
    except VisavisError as error:
        code, sentence = error.exit_code, str(error)
    assert 2 <= code <= 5, sentence
    assert 10 < len(sentence) < 2000 and "\n" not in sentence, repr(sentence)


# What can be wrong with a file: bytes, JSON values, tensors.

SPANS = st.tuples(st.floats(0, 1), st.integers(0, 64), st.binary(max_size=40))
"""Where in a file, how many bytes are taken out, and what takes their place."""
DAMAGE = st.lists(SPANS, min_size=1, max_size=4) | st.floats(0, 1) | st.binary(max_size=200)


def damaged(content, damage):
    if isinstance(damage, bytes):
        return damage
    if isinstance(damage, float):
        return content[: int(damage * len(content))]
    for place, length, other in damage:
        at = int(place * len(content))
        content = content[:at] + other + content[at + length :]
    return content


NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 1e300, 10**30])
TEXTS = st.text(max_size=8) | st.sampled_from(["cnn", "vit", "../x", "grad_cam", "a" * 3000, "\n"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda of: st.lists(of, max_size=3) | st.dictionaries(TEXTS, of, max_size=3),
    max_leaves=6,
)
PLACES = st.lists(st.integers(0, 10**6), min_size=1, max_size=5)
CHANGES = st.lists(
    st.tuples(PLACES, VALUES | st.just("REMOVE") | st.just("DOUBLE")), min_size=1, max_size=3
)


def changed(values, changes):
    """A copy with a value within replaced, removed or doubled, for each of the changes."""
    values = json.loads(json.dumps(values))
    for place, value in changes:
        inside = values
        for number, step in enumerate(place):
            keys = list(inside) if isinstance(inside, dict) else range(len(inside))
            if not len(keys):
                break
            key = keys[step % len(keys)]
            if number + 1 < len(place) and isinstance(inside[key], dict | list):
                inside = inside[key]
                continue
            if value == "REMOVE":
                del inside[key]
            elif value == "DOUBLE":
                inside[key] = [inside[key], inside[key]]
            else:
                inside[key] = value
            break
    return values


ALTERED = (
    VALUES
    | st.builds(torch.full, st.just((3, 2)), st.floats(-9, 9))
    | st.dictionaries(st.integers(0, 3) | TEXTS, st.just(torch.zeros(2)), max_size=2)
    | st.just("REMOVE")
)


def altered(values, place, value):
    """A copy of nested dictionaries and lists in which one value is another, or gone."""
    if not isinstance(values, dict | list) or not len(values) or not place:
        return value
    keys = list(values) if isinstance(values, dict) else range(len(values))
    key = keys[place[0] % len(keys)]
    copied = values.copy()
    if len(place) == 1 and isinstance(value, str) and value == "REMOVE":
        del copied[key]
    else:
        copied[key] = altered(values[key], place[1:], value)
    return copied


@pytest.fixture(scope="module")
def experiment(finished, tmp_path_factory):
    """A copy; whoever changes a file puts it back."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("fuzz") / "experiment")


@contextlib.contextmanager
def replaced(path, content):
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


MODEL_FILES = ("config.json", "data.json", "provenance.json", "training.json", "evaluation.json")
JSON_FILES = (
    *(f"cnn/{name}" for name in (*MODEL_FILES, "explanations.json")),
    *("experiment.json", "comparison.json", "cross_model.json", "cnn/history.jsonl"),
)


@few(150)
@given(st.sampled_from(JSON_FILES), DAMAGE)
def test_json_that_is_damaged(experiment, file, damage):
    path = experiment / file
    with replaced(path, damaged(path.read_bytes(), damage)), success_or_a_sentence():
        run_folder.read_history(path.parent) if file.endswith("l") else run_folder.read_json(path)


ARRAY_FILES = ("predictions.npz", "heatmaps.npz", "split.npz", "snapshots.npz", "removal.npz")


@few(40)
@given(st.sampled_from(ARRAY_FILES), DAMAGE)
def test_arrays_that_are_damaged(experiment, file, damage):
    path = experiment / "cnn" / file
    with replaced(path, damaged(path.read_bytes(), damage)), success_or_a_sentence():
        run_folder.read_arrays(path)


@functools.cache
def brought(kind):
    """A model's weights as others store them, for `--weights`."""
    state = {key: value.contiguous() for key, value in tiny.model("cnn").state_dict().items()}
    if kind == "safetensors":
        return safetensors.torch.save(state)
    buffer = io.BytesIO()
    torch.save({"state_dict": state}, buffer)
    return buffer.getvalue()


@few(40)
@given(st.sampled_from(["safetensors", "pt"]), DAMAGE)
def test_weights_that_are_damaged(tmp_path_factory, kind, damage):
    path = tmp_path_factory.getbasetemp() / f"weights.{kind}"
    path.write_bytes(damaged(brought(kind), damage))
    with success_or_a_sentence():
        models.load_brought(models.build(tiny.CNN_CONFIG, 10), path)


@few(40)
@given(CHANGES)
def test_weights_whose_header_was_altered(tmp_path_factory, changes):
    content = brought("safetensors")
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(changed(json.loads(content[8 : 8 + size]), changes)).encode()
    path = tmp_path_factory.getbasetemp() / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    with success_or_a_sentence():
        models.load(tiny.CNN_CONFIG, path, 10)


@few(20)
@given(PLACES, ALTERED)
def test_weights_that_were_altered(tmp_path_factory, place, value):
    path = tmp_path_factory.getbasetemp() / "weights.pt"
    state = torch.load(io.BytesIO(brought("pt")), weights_only=True)
    torch.save(altered(state, place, value), path)
    with success_or_a_sentence():
        models.load_brought(models.build(tiny.CNN_CONFIG, 10), path)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The folder of a training that was stopped in its second epoch, and its module."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        small.train_interrupted(patch, folder, small.experiment(), "cnn")
    pixels, labels = small.to_tensors(small.dataset())
    module = small.Classifier(
        models.build(small.experiment().cnn, 10),
        small.OPTIM,
        training=(pixels, labels),
        validation=(pixels, labels),
        seed=0,
    )
    return folder, module


CHECKPOINTS = (run_folder.RESUME, run_folder.BEST)


def resumable(folder, module):
    check_resumable(folder)
    for name in CHECKPOINTS:
        check_fits(module, folder / name)


@few(20)
@given(st.sampled_from(CHECKPOINTS), DAMAGE)
def test_a_checkpoint_that_is_damaged(interrupted, file, damage):
    folder, module = interrupted
    path = folder / file
    with replaced(path, damaged(path.read_bytes(), damage)), success_or_a_sentence():
        resumable(folder, module)


@few(20)
@given(st.sampled_from(CHECKPOINTS), PLACES, ALTERED)
def test_a_checkpoint_that_was_altered(interrupted, file, place, value):
    folder, module = interrupted
    path = folder / file
    buffer = io.BytesIO()
    torch.save(altered(torch.load(path, weights_only=True), place, value), buffer)
    with replaced(path, buffer.getvalue()), success_or_a_sentence():
        resumable(folder, module)


@functools.cache
def image_of(kind, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


@few(150)
@given(st.sampled_from(FORMATS), st.sampled_from(["RGB", "L"]), DAMAGE)
def test_images_that_are_damaged(kind, mode, damage):
    with success_or_a_sentence():
        assert read_image(damaged(image_of(kind, mode), damage)).shape == (32, 32, 3)


@functools.cache
def cifar_file(layout):
    """Five images in one of the layouts of CIFAR."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (5, 3072), dtype=np.uint8)
    labels = generator.integers(0, 10, 5)
    if layout == "binary":
        return np.concatenate([labels.astype(np.uint8)[:, None], pixels], axis=1).tobytes()
    if layout == "python":
        return pickle.dumps({b"data": pixels, b"labels": labels.tolist()}, protocol=2)
    files = [{"bytes": png(of.reshape(32, 32, 3)), "path": None} for of in pixels]
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"img": files, "label": labels}), buffer)
    return buffer.getvalue()


@few(60)
@given(st.sampled_from(["binary", "python", "parquet"]), DAMAGE)
def test_files_of_cifar_that_are_damaged(tmp_path_factory, layout, damage):
    content = damaged(cifar_file(layout), damage)
    version = {"binary": cifar.BINARY, "python": cifar.PYTHON}.get(layout)
    with success_or_a_sentence():
        if version:
            version.parse(Path(layout), content, 5, 10)
            return
        folder = tmp_path_factory.getbasetemp() / "cifar"
        folder.mkdir(exist_ok=True)
        for name in (cifar_parquet.TRAIN_FILE, cifar_parquet.TEST_FILE):
            (folder / name).write_bytes(content)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cifar, "TRAIN", 5)
            patch.setattr(cifar, "TEST", 5)
            cifar.read(folder)


@few(60)
@given(st.binary(max_size=60))
def test_pickles_of_any_bytes(content):
    with success_or_a_sentence():
        cifar.PYTHON.parse(Path("x"), b"\x80\x02" + content, 5, 10)


# The server.


@pytest.fixture(scope="module")
def site(finished):
    with pytest.MonkeyPatch.context() as patch, serving(finished) as running:
        patch.setattr(data, "resolve", lambda _: small.dataset())
        yield running


PATHS = ("/", "/explore", "/api/run", "/api/images", "/api/images/3.png", "/static/x", "/api/")
POSTS = ("/api/predict", "/api/explain")
NAMES = (*("hidden", "model", "method", "class", "layer", "head"), *("bucket", "true", "offset"))
WORDS = TEXTS | st.sampled_from(["first", "second", "attention", "1", "0,1,2", "-1", "9" * 30])
QUERIES = st.lists(st.tuples(st.sampled_from(NAMES) | TEXTS, WORDS), max_size=4)
MEDIA = st.sampled_from(["image/png", "text/plain", "", "image/", "\xff", "a" * 3000])
HEADERS = st.dictionaries(
    st.sampled_from(["host", "origin", "cookie", "accept", "content-length", "range", "if-match"]),
    st.sampled_from(["localhost", "*/*", "-1", "bytes=0-", "\xe9", "text/html", "x=y;;=", "null"]),
    max_size=2,
)
STATUSES = {200, 400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 431}


@few(40)
@given(
    st.sampled_from(POSTS) | st.sampled_from(PATHS) | TEXTS.map(lambda of: "/" + quote(of)),
    QUERIES,
    HEADERS,
    st.none() | DAMAGE,
    MEDIA,
)
def test_requests_that_are_odd(site, path, query, headers, damage, media):
    parts = [f"{quote(name)}={quote(value)}" for name, value in query]
    body = None if damage is None else damaged(image_of("PNG", "RGB"), damage)
    with contextlib.suppress(ConnectionError):  # hanging up is an answer, too
        answer = ask(site, f"{path}?{'&'.join(parts)}", body, **headers, **{"content-type": media})
        assert answer.status in STATUSES, answer.body[:200]
        if answer.status >= 400:
            assert b"Traceback" not in answer.body
    assert ask(site, "/api/health").status == 200


@few(40)
@given(DAMAGE)
def test_what_is_hardly_http(site, damage):
    whole = (
        b"POST /api/predict?hidden=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        b"Content-Length: 3\r\nConnection: close\r\n\r\nabc"
    )
    port = urlsplit(site.url).port
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=20) as client,
    ):
        client.sendall(damaged(whole, damage))
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(65_536)
        assert not answer or b" 5" not in answer.splitlines()[0]
    assert ask(site, "/api/health").status == 200


# The command line.


FLAGS = (
    *("--out", "--seed", "--seeds", "--preset", "--data.source", "--data.dir", "--data.size"),
    *("--cnn.widths", "--vit.depth", "--vit.patch-size", "--vit.mlp-ratio", "--vit.optim.crop"),
    *("--cnn.optim.epochs", "--optim.cutmix", "--cnn.optim.no-flip", "--vit.optim.momentum"),
    *("--train.device", "--train.devices", "--explain.images", "--explain.methods", "--vary"),
    *("--tracking.wandb", "--first", "--second", "--models", "--json", "--to", "--help", "--lr"),
    *("--weights", "--model", "--mean", "--jobs", "--engine", "--print", "--port", "--debug", "--"),
)
COMMAND_WORDS = (
    *("run", "train", "cnn", "vit", "data", "info", "verify", "study", "study-job", "evaluate"),
    *("explain", "compare", "report", "export", "cite", "predict", "serve", "doctor", "timm/x"),
)
ARGUMENTS = (
    st.sampled_from(FLAGS)
    | st.sampled_from(COMMAND_WORDS)
    | st.sampled_from(["0", "3", "-1", "1e400", "nan", "8 8 16", "vit.depth=4,6", "=", "shapes"])
    | st.tuples(st.sampled_from(FLAGS), TEXTS).map("=".join)
    | st.text(st.characters(exclude_characters="\0"), max_size=6)
)


def run(*words):
    """Call the command line; its exit code, and what it says of an error."""
    err = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", ["visavis", *words])
        patch.setattr(memory, "keep_freed_memory", lambda: None)
        patch.setattr(data, "resolve", lambda _: small.dataset())
        with contextlib.redirect_stderr(err):
            code = main()
    return code, err.getvalue()


def check_end(code, err):
    assert code == 0 or 2 <= code <= 5, err
    assert "this is a bug" not in err and "Traceback" not in err, err


@few(5)
@given(st.lists(ARGUMENTS, max_size=7))
def test_any_command_line(tmp_path_factory, words):
    """As far as the command, which is not called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.getbasetemp())
        for command in commands.COMMANDS:
            patch.setitem(commands.COMMANDS, command, lambda command, again: iter(()))
        patch.setattr(registry, "files", [])
        if "--debug" not in words and not any(of.startswith("--debug") for of in words):
            check_end(*run(*words))


@pytest.fixture(scope="module")
def oddities(tmp_path_factory, finished):
    """Paths that a command may be given."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "empty").mkdir()
    (folder / "file").write_text("{}")
    (folder / "link").symlink_to(folder / "link")
    os.mkfifo(folder / "pipe")
    for name, content in (("half", "{"), ("array", "[]"), ("other", '{"schema": 99}')):
        (folder / name / "cnn").mkdir(parents=True)
        for file in ("config.json", "experiment.json", "study.json", "cnn/config.json"):
            (folder / name / file).write_text(content)
    none = (folder / "none", folder / ("n" * 300), folder / "file" / "x", folder / "link" / "x")
    return [*sorted(folder.iterdir()), *none, finished / "cnn"]


@few(15)
@given(
    st.sampled_from(["evaluate", "explain", "compare", "cross-model", "report", "cite"])
    | st.sampled_from(["predict", "study-job", "export", "validate-scores"]),
    st.integers(0, 11),
    st.integers(0, 11),
)
def test_commands_on_any_path(oddities, command, number, other):
    path, second = (oddities[of % len(oddities)] for of in (number, other))
    more = {"predict": [str(second)], "export": ["--to", str(second / "out")]}.get(command, [])
    if path != oddities[-1] or command in ("compare", "predict", "report", "study-job"):
        check_end(*run(command, str(path), *more))


TOML = st.builds(
    lambda pairs: "\n".join(f"{key} = {value}" for key, value in pairs),
    st.lists(
        st.tuples(
            st.sampled_from(["models", "seeds", "vary", "vit.depth", "[x]\ny", '"--help"']) | TEXTS,
            VALUES.map(lambda of: json.dumps(of).replace(":", " =")),
        ),
        max_size=4,
    ),
)


@few(40)
@given(TOML | st.binary(max_size=40).map(lambda of: of.decode(errors="replace")))
def test_study_files_of_any_text(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "own.toml"
    path.write_bytes(text.encode(errors="replace"))
    with success_or_a_sentence():
        study_flags.expanded(["study", str(path)])
