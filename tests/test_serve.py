"""The API and its fences, asked over a real connection."""

import base64
import concurrent.futures
import contextlib
import hashlib
import io
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import nn

import small
from sites import ask, larger, other_experiment, resnet20, serving
from visavis import attribution, registry, run_folder, serve
from visavis.data.batches import to_images
from visavis.data.images import png, read_image
from visavis.metrics import masking
from visavis.serve import api, browse, requests
from visavis.stages.predict import predict
from visavis.stages.trained import load


@pytest.fixture(scope="module")
def site(finished):
    """All test images are at hand."""
    with pytest.MonkeyPatch.context() as patch, serving(finished) as running:
        patch.setattr(browse.data, "resolve", lambda _: small.dataset())
        yield running


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def file_of(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def test_answers_are_those_of_the_command(site, finished, tmp_path):
    path = tmp_path / "image.jpg"
    pixels = np.random.default_rng(1).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    path.write_bytes(file_of(Image.fromarray(pixels), "JPEG"))
    (expected,) = predict(finished, [path])
    answer = ask(site, "/api/predict", path.read_bytes(), content_type="image/jpeg")
    assert answer.status == 200
    for found in answer.json["models"].values():
        guesses = expected["models"][found["name"]]["top"]
        assert [g["class"] for g in found["top"]] == [g["class"] for g in guesses]
        assert [g["confidence"] for g in found["top"]] == pytest.approx(
            [g["confidence"] for g in guesses]
        )


def test_the_image_that_was_seen_comes_back_whole(site, noise):
    seen = ask(site, "/api/predict", png(noise)).json["seen"]
    content = base64.b64decode(seen.removeprefix("data:image/png;base64,"))
    assert (read_image(content) == noise).all()


@pytest.mark.parametrize(("role", "name"), [("first", "cnn"), ("second", "vit")])
def test_heatmaps_are_those_of_the_library(site, finished, noise, role, name):
    trained = load(finished / name)
    wish = trained.class_names[3]
    for method in attribution.methods_for(trained.subject):
        query = f"model={role}&method={method}&class={wish}"
        found = ask(site, f"/api/explain?{query}", png(noise)).json["models"][role]
        expected = trained.explain(noise[None], np.array([3]), method=method)[0]
        assert found["class"] == wish
        if found["map"] is None:
            assert not np.ptp(expected) > 0
        else:
            assert np.array(found["map"]) == pytest.approx(expected, abs=1e-6)


def test_one_head_of_one_block_is_that_head(site, finished, noise):
    subject = load(finished / "vit").subject
    query = "model=second&method=attention&layer=1&head=2"
    found = ask(site, f"/api/explain?{query}", png(noise)).json["models"]["second"]
    weights = attribution.attention_weights(subject, to_images(noise[None]))
    expected = attribution.patch_attention(subject, weights[0])[0, 1]
    assert np.array(found["map"]) == pytest.approx(expected.numpy(), abs=1e-6)


def test_hidden_cells_are_the_holes_of_the_scores(site, finished, noise):
    trained = load(finished / "cnn")
    kept = np.ones((1, 1, 8, 8), dtype=bool)
    kept[0, 0, 2, 5] = kept[0, 0, 7, 0] = False
    images = to_images(noise[None])
    fills = masking.fills_for(trained.subject, images, "mean")
    logits = masking.masked_logits(trained.subject, images, kept, fills=fills)
    expected = logits.softmax(dim=1)[0].max().item()
    answer = ask(site, "/api/predict?hidden=21,56,21", png(noise)).json
    assert answer["models"]["first"]["top"][0]["confidence"] == pytest.approx(expected, abs=1e-5)


def test_a_map_without_evidence_is_told_and_not_drawn(site, finished, noise, monkeypatch):
    monkeypatch.setattr(attribution, "explain", lambda *_, **__: torch.zeros(1, 8, 8))
    found = ask(site, "/api/explain?model=first", png(noise)).json["models"]["first"]
    assert found["map"] is None and found["degenerate_because"] == "zero everywhere"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("model=cnn", "first, second"),
        ("model=first&method=rollout", "grad_cam"),
        ("class=unicorn", "unicorn"),
        ("model=first&layer=stages.9", "stages.0"),
        ("model=second&method=attention&head=99", "use 1, 2"),
        ("model=second&method=attention&layer=9", "1, 2"),
        ("head=x", "head 'x'"),
        ("hidden=64", "0 to 63"),
        ("hidden=-1", "0 to 63"),
        ("hidden=1;2", "0 to 63"),
        ("hidden=" + "1" * 5000, "0 to 63"),
        ("hiden=1", "hidden"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(site, noise, query, named):
    answer = ask(site, f"/api/explain?{query}", png(noise))
    assert answer.status == 422 and named in answer.json["error"]


def test_test_images_are_listed_as_they_were_answered(site, finished):
    found = ask(site, "/api/images?limit=500").json
    assert found["total"] == len(found["images"]) == 60 and found["notice"] is None
    buckets = run_folder.read_json(finished / run_folder.COMPARISON)["buckets"]
    counts = {
        k: ask(site, f"/api/images?bucket={k}&limit=1").json["total"] for k in found["buckets"]
    }
    assert sum(counts.values()) == 60
    assert counts["both_correct"] == buckets["both_correct"]["n"]
    assert counts["only_first"] == buckets["only_first"]["n"]
    assert found["buckets"]["only_second"] == "Only the ViT correct"
    stored = run_folder.read_arrays(finished / "vit" / run_folder.PREDICTIONS)
    names = small.dataset().class_names
    for row in found["images"]:
        assert row["second"] == names[stored["logits"][row["index"]].argmax()]
    second = ask(site, "/api/images?offset=1&limit=1").json["images"]
    assert second == found["images"][1:2]
    counted = ask(site, "/api/images/counts").json
    assert {k: counted["counts"]["bucket"].get(k, 0) for k in counts} == counts
    assert counted["total"] == 60 and sum(counted["counts"]["second"].values()) == 60
    for name, role in (("cnn", "first"), ("vit", "second")):
        evaluated = run_folder.read_json(finished / name / run_folder.EVALUATION)
        assert counted["confusion"][role] == evaluated["confusion_matrix"]


def test_test_images_are_filtered_and_ordered(site):
    rows = ask(site, "/api/images?limit=500").json["images"]
    known = [row["similarity"] for row in rows if row["similarity"] is not None]
    middle, name = sorted(known)[len(known) // 2], rows[0]["first"]
    sure = sorted(row["second_confidence"] for row in rows)[30]
    for query, kept in (
        (f"either={name}", lambda row: name in (row["first"], row["second"])),
        (f"second_confidence={sure}", lambda row: row["second_confidence"] >= sure),
        (
            f"similarity={middle}",
            lambda row: row["similarity"] in known and row["similarity"] >= middle,
        ),
    ):
        found = ask(site, f"/api/images?limit=500&{query}").json["images"]
        assert found == [row for row in rows if kept(row)] and found
    ordered = ask(site, "/api/images?limit=500&sort=first_confidence").json["images"]
    assert ordered == sorted(rows, key=lambda row: (-row["first_confidence"], row["index"]))
    highest = ask(site, "/api/images?limit=500&sort=agreement").json["images"]
    assert [row["similarity"] for row in highest[: len(known)]] == sorted(known, reverse=True)


@pytest.mark.parametrize(
    "query",
    [
        *("bucket=nonsense", "true=unicorn", "second=", "either=unicorn", "vit=cat", "colour=red"),
        *("limit=0", "limit=501", "offset=-1", "sort=beauty", "similarity=nan"),
        *("first_confidence=2", "first_training=cnn/seed-0"),
    ],
)
def test_a_filter_that_cannot_be_met_is_refused(site, query):
    answer = ask(site, f"/api/images?{query}")
    assert answer.status == 422 and len(answer.json["error"]) > 20


def test_no_answer_is_kept_for_another_experiment_at_the_same_address(site, noise):
    for answer in (
        ask(site, "/api/images/7.png"),
        ask(site, "/api/images"),
        ask(site, "/api/predict", png(noise)),
    ):
        assert answer.headers["cache-control"] == "no-store"


def test_a_test_image_is_that_image(site):
    answer = ask(site, "/api/images/7.png")
    assert answer.headers["content-type"] == "image/png"
    assert (read_image(answer.body) == small.dataset().test_pixels[7]).all()
    for number in ("60", "-1", "x", "1" * 5000):
        assert ask(site, f"/api/images/{number}.png").status == 404


def test_without_the_data_the_explained_images_are_left(finished, monkeypatch):
    monkeypatch.setattr(browse.data, "resolve", lambda _: small.dataset(seed=5))  # other images
    with serving(finished) as other:
        found = ask(other, "/api/images?limit=500").json
        assert 20 <= found["total"] < 60 and "explained images" in found["notice"]
        index = found["images"][0]["index"]
        shown = read_image(ask(other, f"/api/images/{index}.png").body)
        assert (shown == small.dataset().test_pixels[index]).all()


def bomb():
    """The header of a PNG of 50,000 x 50,000 pixels, and next to nothing after it."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed)


GOOD = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(b"", 422, id="empty"),
        pytest.param(b"hello", 422, id="text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, id="svg"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", 422, id="eps"),
        pytest.param(b"8BPS\x00\x01" + bytes(40), 422, id="psd"),
        pytest.param(b"SIMPLE  =                    T".ljust(2880), 422, id="fits"),
        pytest.param(bomb(), 422, id="bomb"),
        pytest.param(file_of(GOOD, "JPEG")[:700], 422, id="truncated"),
        pytest.param(file_of(GOOD.resize((1, 1))), 200, id="1x1"),
        pytest.param(file_of(GOOD.resize((1, 100_000))), 422, id="1x100000"),
        pytest.param(
            file_of(GOOD, "GIF", save_all=True, append_images=[GOOD.rotate(90)]), 200, id="frames"
        ),
        pytest.param(file_of(GOOD.convert("CMYK"), "JPEG"), 200, id="cmyk"),
        pytest.param(
            file_of(Image.fromarray(np.full((40, 40), 40_000, dtype=np.uint16))), 200, id="16 bit"
        ),
        pytest.param(file_of(GOOD.convert("P"), transparency=0), 200, id="palette with alpha"),
        pytest.param(file_of(GOOD) + b"<script>alert(1)</script>", 200, id="polyglot"),
    ],
)
@pytest.mark.fault(24)
def test_any_file_gets_an_answer_or_a_sentence(site, content, status):
    answer = ask(site, "/api/explain", content)
    assert answer.status == status
    if status != 200:
        assert re.fullmatch(r"[^\n]{10,200}", answer.json["error"])
    assert ask(site, "/api/health").status == 200


def test_a_media_type_has_no_case(site, noise):
    assert ask(site, "/api/predict", png(noise), content_type=" IMAGE/PNG ; q=1").status == 200


def test_while_one_image_is_decoded_others_are_answered(finished, noise, monkeypatch):
    busy, free = threading.Event(), threading.Event()

    def decode(content, side):
        if content == b"slow":
            busy.set()
            assert free.wait(30)
            content = png(noise)
        return read_image(content, side)

    monkeypatch.setattr(requests, "read_image", decode)
    with serving(finished) as running, concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(ask, running, "/api/explain", b"slow")
        assert busy.wait(30)
        assert ask(running, "/api/explain", png(noise)).status == 200
        assert not slow.done()
        free.set()
        assert slow.result().status == 200


def test_a_browser_gets_a_page_for_a_wrong_address(site):
    answer = ask(site, "/explorer", accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert answer.status == 404 and answer.headers["content-type"].startswith("text/html")
    text = answer.body.decode()
    assert "There is no such page here." in text and 'href="/explore"' in text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    refused = ask(site, "/", accept="text/html", host="evil.example")
    assert refused.status == 400 and "use http://localhost" in refused.body.decode()


@pytest.mark.parametrize(
    "media", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]
)
@pytest.mark.fault(25)
def test_what_is_not_sent_as_a_image_is_refused(site, noise, media):
    answer = ask(site, "/api/predict", png(noise), content_type=media)
    assert answer.status == 415 and "Content-Type" in answer.json["error"]


@pytest.mark.fault(25)
def test_a_body_that_is_too_large_is_not_read_to_its_end(site, noise, monkeypatch):
    monkeypatch.setattr(requests, "MAX_BYTES", 5000)
    assert ask(site, "/api/predict", b"x" * 5001).status == 413
    endless = (b"x" * 1000 for _ in range(10_000))  # chunked, without a length
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # hanging up is as good
        assert ask(site, "/api/predict", endless).status == 413
    assert ask(site, "/api/predict", png(noise)).status == 200


@pytest.mark.fault(25)
def test_a_gigabyte_is_refused_before_it_comes(site):
    with socket.create_connection(("127.0.0.1", urlsplit(site.url).port), timeout=20) as client:
        client.sendall(
            b"POST /api/explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Content-Length: 1000000000\r\n\r\n"
        )
        assert client.recv(4000).startswith(b"HTTP/1.1 413")


@pytest.mark.fault(25)
def test_two_hundred_at_once_get_an_answer_or_are_told_to_come_again(site, noise):
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        found = list(pool.map(lambda _: ask(site, "/api/explain", png(noise)).status, range(200)))
    assert set(found) <= {200, 503} and found.count(200) >= 16
    assert ask(site, "/api/health").status == 200
    assert ask(site, "/api/explain", png(noise)).status == 200


@pytest.mark.fault(24)
def test_a_photograph_is_turned_as_its_camera_was(site):
    left_dark = np.full((32, 32, 3), 200, dtype=np.uint8)
    left_dark[:, :16] = 20
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was on its side: turn it clockwise
    content = file_of(Image.fromarray(left_dark), "PNG", exif=exif)
    seen = ask(site, "/api/predict", content).json["seen"]
    turned = read_image(base64.b64decode(seen.partition(",")[2]))
    assert (turned[:16] == 20).all() and (turned[16:] == 200).all()


@pytest.mark.fault(25)
def test_a_body_that_does_not_come_is_not_waited_for(site, monkeypatch):
    monkeypatch.setattr(requests, "RECEIVE_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", urlsplit(site.url).port), timeout=20) as client:
        client.sendall(
            b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Content-Length: 1000\r\n\r\nabc"
        )
        assert client.recv(4000).startswith(b"HTTP/1.1 408")


@pytest.mark.fault(25)
def test_a_request_head_that_does_not_come_is_not_waited_for(finished, monkeypatch):
    monkeypatch.setattr(serve, "HEAD_SECONDS", 0.2)
    with serving(finished) as running:
        port = urlsplit(running.url).port
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: local")
            assert client.recv(100) == b""  # closed
        assert ask(running, "/api/health").status == 200


def test_too_many_uploads_get_status_503(finished, noise, monkeypatch):
    busy, free = threading.Event(), threading.Event()

    def slow(content, side):
        busy.set()
        assert free.wait(30)
        return read_image(content, side)

    monkeypatch.setattr(api, "UPLOADS", 1)
    monkeypatch.setattr(requests, "read_image", slow)
    with serving(finished) as running, concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(ask, running, "/api/predict", png(noise))
        assert busy.wait(30)
        rejected = ask(running, "/api/predict", png(noise))
        health = ask(running, "/api/health")
        free.set()
        assert (rejected.status, rejected.headers["retry-after"]) == (503, "1")
        assert health.status == 200
        assert first.result().status == 200


@pytest.mark.fault(36)
def test_requests_at_once_get_what_they_would_get_alone(site, noise):
    wishes = [
        (np.roll(noise, i, axis=0), f"model={role}&method={method}")
        for i, (role, method) in enumerate(
            [("first", "grad_cam"), ("second", "grad_cam"), ("second", "gradient_attention")] * 3
        )
    ]

    def found(wish):
        pixels, query = wish
        return ask(site, f"/api/explain?{query}", png(pixels)).json

    alone = [found(wish) for wish in wishes]
    with concurrent.futures.ThreadPoolExecutor(len(wishes)) as pool:
        assert list(pool.map(found, wishes)) == alone


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", ""])
@pytest.mark.fault(26)
def test_another_name_for_this_machine_is_refused(site, host):
    for path in ("/", "/api/run"):
        assert ask(site, path, Host=host).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.fault(26)
def test_another_sites_request_is_refused(site, noise, headers):
    headers = {name.replace("-", "_"): value for name, value in headers.items()}
    answer = ask(site, "/api/predict", png(noise), **headers)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.fault(26)
def test_no_preflight_is_granted(site):
    answer = ask(
        site, "/api/predict", method="OPTIONS",
        Origin="http://evil.example", Access_Control_Request_Method="POST",
    )  # fmt: skip
    assert answer.status in (403, 405)
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/static/../app.py",
        "/static/%2e%2e/serve/app.py",
        "/static/..%2f..%2fpyproject.toml",
        "//etc/passwd",
        "/static//etc/passwd",
        "/api/images/../../x.png",
    ],
)
@pytest.mark.fault(27)
def test_no_address_leads_to_a_file(site, path):
    answer = ask(site, path)
    assert answer.status == 404 and answer.json == {"error": "Not Found"}


def test_pages_may_load_nothing_from_elsewhere(site):
    for path in ("/", "/explore", "/static/predict.js", "/api/run", "/nothing"):
        policy = ask(site, path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert ask(site, path).headers["x-content-type-options"] == "nosniff"


def test_nothing_that_was_sent_is_kept(site, finished, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where no other process writes

    def files():
        kept = [(path, path.stat().st_mtime_ns) for path in finished.rglob("*")]
        return sorted(kept), sorted(os.listdir(tempfile.gettempdir()))

    caplog.set_level("DEBUG")
    before = files()
    canary = PngInfo()
    canary.add_text("note", "canary-5b1f")
    assert ask(site, "/api/explain", file_of(GOOD, pnginfo=canary)).status == 200
    assert ask(site, "/api/predict", b"canary-5b1f" * 100).status == 422
    assert files() == before
    assert "canary-5b1f" not in caplog.text


@pytest.mark.fault(32)
def test_without_a_model_the_page_explains_and_the_api_says_so(tmp_path, noise):
    with serving(tmp_path) as empty:
        assert ask(empty, "/").status == 200
        for answer in (ask(empty, "/api/run"), ask(empty, "/api/predict", png(noise))):
            assert answer.status == 409 and "no model is trained" in answer.json["error"]
        assert ask(empty, "/api/images").status == 409


@pytest.mark.fault(32)
def test_one_model_is_served_alone(finished, tmp_path, noise):
    os.symlink(finished / "vit", tmp_path / "vit")
    with serving(tmp_path) as one:
        (facts,) = ask(one, "/api/run").json["models"].values()
        (found,) = ask(one, "/api/explain", png(noise)).json["models"].values()
        assert facts["label"] == found["label"] == "ViT"
        compared = {name for name, method in facts["methods"].items() if method["baseline"]}
        assert compared == {"integrated_gradients", "occlusion", "gradient_shap"}
        assert ask(one, "/api/images").status == 409


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return other_experiment(tmp_path_factory.mktemp("others"))


def test_any_two_models_are_served_at_their_size(others, monkeypatch, noise):
    monkeypatch.setattr(browse.data, "resolve", lambda _: larger(small.dataset()))
    with serving(others) as site:
        facts = ask(site, "/api/run").json
        first, second = facts["models"].values()
        assert (first["name"], first["label"], second["label"]) == ("resnet20", "resnet20", "ViT")
        assert (facts["side"], facts["grid"]) == (56, 7)
        assert "smooth_grad" in first["methods"] and "rollout" not in first["methods"]
        (missing,) = first["not_offered"]
        assert missing["because"] == "no attention was seen in it" and len(missing["methods"]) == 3
        assert second["not_offered"] == []
        assert first["methods"]["layer_cam"]["layer"] in first["methods"]["layer_cam"]["layers"]
        assert first["methods"]["grad_cam"]["srg"] is None
        for method in first["methods"]:
            found = ask(site, f"/api/explain?model=first&method={method}", png(noise))
            assert found.status == 200 and found.json["models"]["first"]["method"] == method
        found = ask(site, "/api/predict?hidden=48", png(noise))
        assert read_image(base64.b64decode(found.json["seen"].partition(",")[2]), 56).shape[0] == 56
        assert "0 to 48" in ask(site, "/api/predict?hidden=49", png(noise)).json["error"]
        assert ask(site, "/api/images").json["buckets"]["only_first"] == "Only resnet20 correct"
        shown = Image.open(io.BytesIO(ask(site, "/api/images/7.png").body))
        assert shown.size == (56, 56)


def test_a_model_that_this_process_does_not_know_is_told(others, monkeypatch, noise, caplog):
    monkeypatch.delitem(registry.registered, "resnet20")
    with serving(others) as site:
        for answer in (ask(site, "/api/run"), ask(site, "/api/explain", png(noise))):
            assert answer.status == 409
            assert "resnet20 is not known in this process" in answer.json["error"]
    assert "Traceback" not in caplog.text


def test_a_model_that_cannot_be_explained_is_told(others, monkeypatch):
    def broken(classes, side):
        raise RuntimeError("no such layer in '/home/ada/secret plans/model.pt'")

    monkeypatch.setitem(registry.registered, "resnet20", registry.Registered(broken, "", ""))
    with serving(others) as site:
        answer = ask(site, "/api/run")
        assert answer.status == 409 and "fails with RuntimeError" in answer.json["error"]
        assert "ada" not in answer.json["error"] and "model.pt" in answer.json["error"]


def test_a_model_that_fails_later_gets_a_sentence_and_the_server_goes_on(
    others, monkeypatch, noise, caplog
):
    fails: list[BaseException] = []

    class Net(nn.Sequential):
        def forward(self, images):
            if fails:
                raise fails[0]
            return super().forward(images)

    net = registry.Registered(lambda *size: Net(*resnet20(*size)), "", "")
    monkeypatch.setitem(registry.registered, "resnet20", net)
    with serving(others) as site:
        assert ask(site, "/api/predict", png(noise)).status == 200
        for error in (RuntimeError("no '/home/ada/secret plans/x'"), SystemExit(3)):
            fails[:] = [error]
            for path in ("/api/predict", "/api/explain?model=first"):
                answer = ask(site, path, png(noise))
                assert answer.status == 500 and "ada" not in answer.json["error"]
                sentence = f"resnet20 fails on this image with {type(error).__name__}"
                assert answer.json["error"].startswith(sentence)
            assert ask(site, "/api/explain?model=second", png(noise)).status == 200
        fails.clear()
        assert ask(site, "/api/predict", png(noise)).status == 200
    assert "Traceback" not in caplog.text


def test_a_model_that_is_finished_or_replaced_meanwhile_is_there(finished, tmp_path, noise):
    def top(answer, role):
        return answer.json["models"][role]["top"]

    run_folder.write_json(
        tmp_path / run_folder.EXPERIMENT, run_folder.read_json(finished / run_folder.EXPERIMENT)
    )
    with serving(tmp_path) as growing:
        assert ask(growing, "/api/run").status == 409
        assert "a model see" in ask(growing, "/").body.decode()
        shutil.copytree(finished / "vit", tmp_path / "vit")
        assert list(ask(growing, "/api/run").json["models"]) == ["second"]
        assert "What does the ViT see" in ask(growing, "/").body.decode()
        before = ask(growing, "/api/predict", png(noise))
        shutil.copytree(finished / "cnn", tmp_path / "cnn")
        after = ask(growing, "/api/predict", png(noise))
        assert list(after.json["models"]) == ["first", "second"]
        assert top(after, "second") == top(before, "second")
        assert "What do the CNN and the ViT see" in ask(growing, "/").body.decode()
        weights = safetensors.torch.load_file(tmp_path / "cnn" / run_folder.WEIGHTS)
        save({name: value.flip(0) for name, value in weights.items()}, tmp_path / "cnn")
        replaced = ask(growing, "/api/predict", png(noise))
        assert top(replaced, "first") != top(after, "first")
        assert top(replaced, "second") == top(after, "second")


def save(weights, folder):
    """Weights of a training that was repeated."""
    content = safetensors.torch.save(weights)
    (folder / run_folder.WEIGHTS).write_bytes(content)
    values = run_folder.read_json(folder / run_folder.TRAINING)
    sha256 = hashlib.sha256(content).hexdigest()
    run_folder.write_json(folder / run_folder.TRAINING, values | {"weights_sha256": sha256})


def test_a_study_shows_any_two_of_its_trainings(finished, tmp_path, noise, monkeypatch):
    monkeypatch.setattr(browse.data, "resolve", lambda _: small.dataset())
    for name in ("cnn", "vit"):
        for seed in (0, 1):
            shutil.copytree(finished / name, tmp_path / name / f"seed-{seed}")
    # Of cnn/seed-2 nothing is there yet.
    variants = {name: {"varied": {}, "seeds": [0, 1, 2]} for name in ("cnn", "vit")}
    plan = {"data": {}, "explain": {}, "variants": variants}
    run_folder.write_json(tmp_path / run_folder.STUDY, plan)
    with serving(tmp_path) as study:
        facts = ask(study, "/api/run").json["models"]
        assert [of["label"] for of in facts.values()] == ["CNN (seed 0)", "ViT (seed 0)"]
        choice = "first_training=vit/seed-1&second_training=vit/seed-0"
        html = ask(study, f"/?{choice}").body.decode()
        assert "What do ViT (seed 1) and ViT (seed 0) see" in html
        assert html.count("<option") == 8 and "seed-2" not in html and "/report" not in html
        found = ask(study, f"/api/predict?{choice}", png(noise)).json["models"]
        assert [of["label"] for of in found.values()] == ["ViT (seed 1)", "ViT (seed 0)"]
        counted = ask(study, f"/api/images/counts?{choice}").json
        assert counted["buckets"]["only_first"] == "Only ViT (seed 1) correct"
        assert counted["confusion"]["first"] == counted["confusion"]["second"]
        other = ask(study, "/api/run?second_training=cnn/seed-0").json["models"]
        assert other["first"]["label"] == "ViT (seed 0)"
        for query in ("first_training=vit/seed-2", "first_training=..", choice[:-1] + "1"):
            assert ask(study, f"/api/run?{query}").status == 422
        assert ask(study, "/report").status == 404
        (tmp_path / run_folder.STUDY_REPORT).write_text("<title>The study</title>")
        page = ask(study, "/report")
        assert b"The study" in page.body
        assert page.headers["content-security-policy"].startswith("sandbox allow-scripts")
        assert 'href="/report">Study' in ask(study, "/").body.decode()


def test_models_of_different_images_are_not_set_side_by_side(finished, tmp_path):
    for name in ("cnn", "vit"):
        shutil.copytree(finished / name, tmp_path / name)
    values = run_folder.read_json(tmp_path / "vit" / run_folder.DATA)
    run_folder.write_json(tmp_path / "vit" / run_folder.DATA, values | {"fingerprint": "0" * 64})
    with serving(tmp_path) as mixed:
        for path in ("/api/run", "/api/images"):
            answer = ask(mixed, path)
            assert answer.status == 409
            assert "the CNN and the ViT were trained on diff" in answer.json["error"]


def test_too_many_connections_are_told_to_come_again(finished, monkeypatch):
    monkeypatch.setattr(serve, "CONNECTIONS", 3)
    with serving(finished) as running, contextlib.ExitStack() as stack:
        port = urlsplit(running.url).port
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        with socket.create_connection(("127.0.0.1", port), timeout=20) as one_more:
            answer = b"".join(iter(lambda: one_more.recv(1000), b""))
    assert b" 503 " in answer and b"Retry-After: 1" in answer and answer.endswith(b"}")


def test_stopping_does_not_wait_for_what_is_being_read(finished, monkeypatch, caplog):
    free = threading.Event()
    monkeypatch.setattr(browse, "read", lambda *_: free.wait(30))
    with serving(finished) as running, concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(ask, running, "/api/images")
        ask(running, "/api/health")
        running.server.should_exit = True
        assert waiting.result(timeout=20).status == 503
    free.set()
    assert "Exception" not in caplog.text


def test_a_damaged_model_is_told_without_a_path(finished, tmp_path, noise):
    shutil.copytree(finished / "cnn", tmp_path / "cnn")
    weights = tmp_path / "cnn" / run_folder.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with serving(tmp_path) as damaged:
        answer = ask(damaged, "/api/run")
        assert answer.status == 409 and "weights.safetensors is not" in answer.json["error"]
        assert str(tmp_path.parent) not in answer.json["error"]


def test_beyond_loopback_a_token_is_asked_for(finished, noise):
    with serving(finished, host="0.0.0.0") as public:
        token = public.url.partition("token=")[2]
        assert len(token) > 16
        assert ask(public, "/api/health").status == 200
        for path in ("/", "/api/run", "/static/predict.js", "/?token=wrong"):
            assert ask(public, path).status == 401
        assert ask(public, f"/api/predict?token={token}", png(noise)).status == 401
        entered = ask(public, f"//evil.example/?image=3&token={token}")
        assert (entered.status, entered.headers["location"]) == (303, "/evil.example/?image=3")
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie
        for held in (cookie.partition(";")[0], f'theirs={{"x":1}}; {cookie.partition(";")[0]}'):
            assert ask(public, "/api/run", Cookie=held).status == 200
        bearer = {"Authorization": f"bearer {token}"}
        assert ask(public, "/api/predict", png(noise), **bearer).status == 200


def test_the_command_tells_its_address_and_stops_when_told(finished):
    command = [sys.executable, "-m", "visavis", "serve", str(finished), "--port", "8400"]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        urls = [process.stdout.readline().strip() for process in started]
        assert len(set(urls)) == 2  # the second took the next free port
        for process, url, stop in zip(started, urls, (signal.SIGINT, signal.SIGTERM), strict=True):
            assert ask(SimpleNamespace(url=url), "/api/health").json == {"status": "ok"}
            process.send_signal(stop)
            out, told = process.communicate(timeout=60)
            assert (process.returncode, out, told) == (128 + stop, "", "stopped\n")
    finally:
        for process in started:
            process.kill()
