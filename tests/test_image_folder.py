"""A folder of one's own images, as data and in an experiment."""

import contextlib
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

import small
from sites import ask, serving
from visavis import data, run_folder
from visavis.config import DataConfig, ExplainConfig
from visavis.data import download, image_folder, shapes
from visavis.data.images import read_image
from visavis.data.verify import verify
from visavis.errors import ConfigError, DataError, EnvironmentFault
from visavis.presets import preset
from visavis.registry import register_model
from visavis.report.figures import matrices, style
from visavis.stages.evaluate import evaluate
from visavis.stages.run import run
from visavis.stages.train import train


@pytest.fixture
def few(monkeypatch):
    """A single test image is enough."""
    monkeypatch.setattr(image_folder, "MIN_TEST", 1)


def draw(root, names, *, each=12, side=40, seed=0):
    """Noise with a different brightness for each class."""
    generator = np.random.default_rng(seed)
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(each):
            pixels = generator.integers(0, 60 + 40 * label, (side, side + 7, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:03}.png")


def test_each_folder_is_a_class_and_a_fifth_is_for_testing(tmp_path, few):
    draw(tmp_path, ["cats", "ants", ".hidden"], each=20)
    (tmp_path / "readme.txt").write_text("no class")
    (tmp_path / "ants" / "notes.txt").write_text("no image")
    found = image_folder.read(tmp_path)
    assert (
        found.class_names == ("ants", "cats")
        and found.notice is None
        and "20 % of them for testing" in found.description
    )
    assert np.bincount(found.train_labels).tolist() == [16, 16]
    assert np.bincount(found.test_labels).tolist() == [4, 4]
    expected = {read_image(path).tobytes() for path in (tmp_path / "cats").glob("*.png")}
    cats = [
        *found.train_pixels[found.train_labels == 1],
        *found.test_pixels[found.test_labels == 1],
    ]
    assert {pixels.tobytes() for pixels in cats} == expected and len(cats) == 20


def test_one_more_image_moves_no_other_between_training_and_test(tmp_path, few):
    draw(tmp_path, ["a", "b"], each=30)
    before = {pixels.tobytes() for pixels in image_folder.read(tmp_path).test_pixels}
    draw(tmp_path / "x", ["new"], each=1, seed=9)
    (tmp_path / "x" / "new" / "000.png").rename(tmp_path / "a" / "zzz.png")
    os.rmdir(tmp_path / "x" / "new")
    os.rmdir(tmp_path / "x")
    after = {pixels.tobytes() for pixels in image_folder.read(tmp_path).test_pixels}
    assert len(after & before) >= len(before) - 1


def test_test_images_of_their_own_are_taken(tmp_path, few):
    draw(tmp_path / "train", ["a", "b"], each=11)
    draw(tmp_path / "test", ["b"], each=3, seed=1)
    with pytest.raises(DataError, match="has 0 test images"):
        image_folder.read(tmp_path)
    draw(tmp_path / "test", ["a"], each=2, seed=2)
    found = image_folder.read(tmp_path)
    assert "separate" in found.description
    assert (len(found.train_labels), found.test_labels.tolist()) == (22, [0, 0, 1, 1, 1])
    draw(tmp_path / "test", ["c"], each=1)
    with pytest.raises(DataError, match="classes that train lacks: c"):
        image_folder.read(tmp_path)


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing")])
def test_splits_have_other_names_and_other_folders_are_reported(tmp_path, few, names):
    for seed, part in enumerate((*names, "val")):
        draw(tmp_path / part, ["cat", "dog"], seed=seed)
    found = image_folder.read(tmp_path)
    assert found.class_names == ("cat", "dog") and "separate" in found.description
    assert found.notice is not None and "Left out: the folders val" in found.notice
    assert len(found.train_labels) == 24


def test_test_images_without_classes_are_left_out_and_reported(tmp_path, few):
    draw(tmp_path / "train", ["cat", "dog"], each=20)
    draw(tmp_path, ["test"], each=3)
    found = image_folder.read(tmp_path)
    assert found.class_names == ("cat", "dog") and "20 % of them for testing" in found.description
    assert found.notice is not None and "Left out: the folders test" in found.notice


def test_validation_images_alone_are_not_taken_for_classes(tmp_path):
    draw(tmp_path / "val", ["cat", "dog"])
    draw(tmp_path / "test", ["cat", "dog"])
    with pytest.raises(DataError, match="but no train"):
        image_folder.read(tmp_path)


def test_two_similar_folders_are_not_confused(tmp_path, few):
    for place, colour in (("one", "red"), ("two", "blue")):
        draw(tmp_path / place, ["a", "b"])
        for path in sorted((tmp_path / place).rglob("*.png")):
            Image.new("RGB", (32, 32), colour).save(path.with_suffix(".bmp"))
            path.unlink()
            os.utime(path.with_suffix(".bmp"), (1, 1))
    red, blue = (image_folder.read(tmp_path / place) for place in ("one", "two"))
    assert (red.train_pixels[..., 0] == 255).all() and (blue.train_pixels[..., 2] == 255).all()


def test_classes_may_be_called_train_and_test(tmp_path, few):
    draw(tmp_path, ["train", "test"])
    assert image_folder.read(tmp_path).class_names == ("test", "train")


def test_files_that_are_no_images_are_left_out_and_reported(tmp_path, few):
    draw(tmp_path, ["a", "b"], each=14)
    for i in range(4):
        (tmp_path / "a" / f"broken {i}.jpg").write_bytes(b"no")
    found = data.resolve(DataConfig(source="folder", dir=tmp_path))
    assert len(found.train_labels) + len(found.test_labels) == 28
    assert found.notice is not None
    start = f"Left out: 4 files that could not be read: {Path('a') / 'broken 0.jpg'}"
    assert found.notice.startswith(start)
    assert found.notice.endswith("and 1 more.")


def test_images_in_unsupported_formats_are_reported(tmp_path, few):
    draw(tmp_path, ["a", "b"])
    for name in ("1.HEIC", "2.heic", "3.avif", "._4.heic"):
        (tmp_path / "a" / name).write_bytes(b"from a phone")
    expected = "3 images in unsupported formats (.avif, .heic); save them as JPEG or PNG"
    assert image_folder.read(tmp_path).notice == f"Left out: {expected}."
    for path in (tmp_path / "b").glob("*.png"):
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(
        DataError, match=r"has 0 training images.*; 15 images in unsupported formats"
    ):
        image_folder.read(tmp_path)


def test_pixels_are_cached_until_a_file_changes(tmp_path, few, monkeypatch):
    draw(tmp_path, ["a", "b"])
    first = image_folder.read(tmp_path)
    reads = []

    def counted(path, side, *, name):
        reads.append(path.name)
        return read_image(path, side, name=name)

    monkeypatch.setattr(image_folder, "read_image", counted)
    again = image_folder.read(tmp_path)
    assert reads == [] and (again.train_pixels == first.train_pixels).all()
    Image.new("RGB", (50, 50), "red").save(tmp_path / "a" / "000.png")
    changed = image_folder.read(tmp_path)
    assert reads
    assert [p for p in (*changed.train_pixels, *changed.test_pixels) if (p[..., 0] == 255).all()]


def test_of_two_processes_one_reads_the_images(tmp_path, few, monkeypatch):
    draw(tmp_path, ["a", "b"])
    convert, lock, converted = image_folder._convert, image_folder.lock, []

    def counted(*arguments):
        converted.append(1)
        return convert(*arguments)

    @contextlib.contextmanager
    def late(folder, *, wait):
        """Locked after another process, which reads the same images."""
        monkeypatch.setattr(image_folder, "lock", lock)
        image_folder.read(tmp_path)
        with lock(folder, wait=wait):
            yield

    monkeypatch.setattr(image_folder, "_convert", counted)
    monkeypatch.setattr(image_folder, "lock", late)
    assert len(image_folder.read(tmp_path).train_pixels) == 20
    assert len(converted) == 1


def test_images_that_change_places_change_labels(tmp_path, few):
    """As a wrong label is corrected: files of one size and date."""
    for name, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.new("RGB", (32, 32), colour).save(tmp_path / name / f"{i}.bmp")
            os.utime(tmp_path / name / f"{i}.bmp", (1, 1))
    before = image_folder.read(tmp_path)
    for i in range(12):
        (tmp_path / "a" / f"{i}.bmp").rename(tmp_path / "moved")
        (tmp_path / "b" / f"{i}.bmp").rename(tmp_path / "a" / f"{i}.bmp")
        (tmp_path / "moved").rename(tmp_path / "b" / f"{i}.bmp")
    after = image_folder.read(tmp_path)
    for found, first in ((before, "red"), (after, "blue")):
        pixels = found.train_pixels[found.train_labels == 0]
        assert (pixels[..., ("red", "green", "blue").index(first)] == 255).all()


def test_an_image_that_was_repaired_is_read(tmp_path, few):
    draw(tmp_path, ["a", "b"])
    path = tmp_path / "a" / "003.png"
    content, date = path.read_bytes(), path.stat().st_mtime_ns
    for written, left_out in ((bytes(len(content)), 1), (content, 0)):
        path.write_bytes(written)
        os.utime(path, ns=(date, date))
        found = image_folder.read(tmp_path)
        assert len(found.train_labels) + len(found.test_labels) == 24 - left_out
        assert ("003.png" in (found.notice or "")) == bool(left_out)


def test_the_cache_keeps_one_copy_of_a_folder_at_each_size(tmp_path, few):
    for place in ("own", "another"):
        draw(tmp_path / place, ["a", "b"])
    for size in (32, 40):
        image_folder.read(tmp_path / "another", size)
    for i in range(3):
        Image.new("RGB", (50, 50), "red").save(tmp_path / "own" / "a" / f"{i:03}.png")
        for size in (32, 40):
            image_folder.read(tmp_path / "own", size)
    assert len(list(download.cache_folder().glob("folder-*.npy"))) == 4
    assert len(list(download.cache_folder().glob("folder-*.npz"))) == 4


def test_images_are_read_at_the_size_asked_for(tmp_path, few):
    draw(tmp_path, ["a", "b"])
    large = data.resolve(DataConfig(source="folder", dir=tmp_path, size=48))
    assert (large.side, large.test_pixels.shape[1:]) == (48, (48, 48, 3))
    expected = {read_image(path, 48).tobytes() for path in tmp_path.rglob("*.png")}
    assert {pixels.tobytes() for pixels in (*large.train_pixels, *large.test_pixels)} == expected
    assert data.resolve(DataConfig(source="folder", dir=tmp_path)).side == 32


def test_the_first_training_images_are_of_all_classes(tmp_path, few):
    draw(tmp_path, ["a", "b", "c"], each=30)
    assert set(image_folder.read(tmp_path).train_labels[:12]) == {0, 1, 2}


def test_what_exceeds_the_memory_stays_in_the_cache(tmp_path, few, monkeypatch):
    draw(tmp_path, ["a", "b"], each=20)
    (tmp_path / "a" / "000.png").write_bytes(b"no")
    (tmp_path / "b" / "007.png").write_bytes(b"no")
    inside = image_folder.read(tmp_path, 40)
    monkeypatch.setattr(image_folder, "MEMORY_BYTES", 1)
    for path in download.cache_folder().glob("folder-*"):
        path.unlink()
    for _ in ("written", "read again"):
        mapped = image_folder.read(tmp_path, 40)
        for part in ("train_pixels", "test_pixels"):
            assert isinstance(getattr(mapped, part), np.memmap)
            assert not isinstance(getattr(inside, part), np.memmap)
            assert np.array_equal(getattr(mapped, part), getattr(inside, part))
        assert mapped.fingerprint == inside.fingerprint
        assert (data.info(mapped), verify(mapped)) == (data.info(inside), verify(inside))


def test_a_training_is_the_same_from_memory_and_from_the_cache(tmp_path, few, monkeypatch):
    draw(tmp_path / "own", ["a", "b"], each=40, side=50)
    found = []
    for limit in (image_folder.MEMORY_BYTES, 1):
        monkeypatch.setattr(image_folder, "MEMORY_BYTES", limit)
        dataset = image_folder.read(tmp_path / "own", 64)
        folder = tmp_path / str(limit)
        train(folder, small.experiment(), "cnn", dataset)
        evaluate(folder, dataset)
        weights = (folder / run_folder.WEIGHTS).read_bytes()
        found.append((weights, run_folder.read_arrays(folder / run_folder.PREDICTIONS)))
    (weights, inside), (others, mapped) = found
    assert weights == others
    assert all(np.array_equal(inside[key], mapped[key]) for key in inside)


def test_a_cache_that_is_cut_off_is_written_again(tmp_path, few):
    draw(tmp_path, ["a", "b"])
    first = image_folder.read(tmp_path)
    (cache,) = download.cache_folder().glob("folder-*.npy")
    for size in (1_000, 10, 0):
        os.truncate(cache, size)
        assert image_folder.read(tmp_path).fingerprint == first.fingerprint


def test_without_a_cache_images_must_fit_into_memory(tmp_path, few, monkeypatch):
    draw(tmp_path / "own", ["a", "b"])
    (tmp_path / "file").write_text("")
    cached = image_folder.read(tmp_path / "own")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert image_folder.read(tmp_path / "own").fingerprint == cached.fingerprint
    monkeypatch.setattr(image_folder, "MEMORY_BYTES", 1)
    with pytest.raises(EnvironmentFault, match="cannot write"):
        image_folder.read(tmp_path / "own")


@pytest.mark.parametrize(
    ("names", "each", "message"),
    [
        ([], 1, "holds 0 folders"),
        (["a"], 20, "holds 1 folder;"),
        ([f"{i:03}" for i in range(101)], 0, "holds 101 folders"),
        (["a", "b"], 0, "class a in .* has 0 training images"),
        (["a", "b"], 11, "at least 10 are needed"),
        (["a", "b"], 40, "16 test images in all; at least 20 are needed"),
    ],
)
@pytest.mark.fault(19)
def test_a_folder_that_cannot_be_used_is_refused(tmp_path, names, each, message):
    draw(tmp_path, names, each=each)
    with pytest.raises(DataError, match=message):
        image_folder.read(tmp_path)


def test_images_that_cannot_be_read_are_the_reason_for_too_few(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(30):
            (tmp_path / name / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0 training images.*; left out: 60 files that could not"):
        image_folder.read(tmp_path)


def test_no_folder_of_the_user_is_in_what_a_report_says(tmp_path, few, monkeypatch):
    read_bytes = Path.read_bytes

    def denied(self):
        if self.name == "001.png":
            raise PermissionError(13, "Permission denied", str(self))
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", denied)
    draw(tmp_path, ["a", "b"], each=60)
    notice = image_folder.read(tmp_path).notice
    assert "cannot read a/001.png: Permission denied" in notice and str(tmp_path) not in notice


def test_a_folder_around_the_folder_is_told(tmp_path):
    draw(tmp_path / "inner", ["a", "b"], each=20)
    with pytest.raises(DataError, match=r"if they are the folders in .*inner, pass that"):
        image_folder.read(tmp_path)


def test_own_images_without_their_source_are_told(tmp_path):
    draw(tmp_path, ["a", "b"], each=2)
    with pytest.raises(DataError, match=r"no CIFAR-10 in .*; .* add --data\.source folder"):
        data.resolve(DataConfig(dir=tmp_path))


def test_a_folder_must_be_named_and_be_there(tmp_path):
    with pytest.raises(ConfigError, match=r"--data\.dir"):
        data.resolve(DataConfig(source="folder"))
    with pytest.raises(DataError, match="does not exist; give a folder"):
        image_folder.read(tmp_path / "nothing")


def test_few_images_get_small_batches():
    assert preset("standard", "folder").cnn.optim.batch_size == 50


@pytest.mark.usefixtures("own_registry", "few_points")
def test_two_classes_go_through_an_experiment_of_a_registered_model_and_a_vit(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("visavis.report.page.svg", lambda figure, name="": "")
    layers = (nn.Conv2d(3, 12, 4, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    register_model("net", lambda classes, side: nn.Sequential(*layers, nn.Linear(12, classes)))
    pixels, labels, _ = shapes.draw(700, seed=3)
    for label, name in ((0, "disc & <b>"), (4, "star")):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i, array in enumerate(pixels[labels == label]):
            Image.fromarray(array).save(tmp_path / "own" / name / f"{i}.png")
    dataset = data.resolve(DataConfig(source="folder", dir=tmp_path / "own"))
    experiment = dataclasses.replace(
        small.experiment(),
        first="net",
        explain=ExplainConfig(images=20, sweep_images=20, methods=("layer_cam", "smooth_grad")),
    )
    out = tmp_path / "out"
    report = run(out, experiment, "smoke", dataset)
    explanations = run_folder.read_json(out / "net" / run_folder.EXPLANATIONS)
    assert {"layer_cam", "smooth_grad"} <= explanations["methods"].keys()
    assert "no attention was seen in it" in explanations["not_offered"]["rollout"]
    comparison = run_folder.read_json(out / run_folder.COMPARISON)
    assert comparison["labels"] == {"first": "net", "second": "ViT"}
    assert np.shape(comparison["models"]["first"]["confusion_matrix"]) == (2, 2)
    html = report.read_text(encoding="utf-8")
    assert "disc &amp; &lt;b&gt;" in html and "disc & <b>" not in html
    assert "net and ViT, face to face" in html and "the CNN" not in html
    with serving(out) as site:
        image = next((tmp_path / "own" / "star").iterdir()).read_bytes()
        for answer in ask(site, "/api/predict", image).json["models"].values():
            assert {guess["class"] for guess in answer["top"]} == {"disc & <b>", "star"}


def test_a_matrix_of_a_hundred_classes_stays_small():
    counts = np.random.default_rng(0).integers(0, 50, (100, 100))
    names = [f"class {i}" for i in range(100)]
    for figure in (
        matrices.confusion(counts, names, label="CNN", colour="#0072b2"),
        matrices.confusion_difference(counts, names, {"first": "CNN", "second": "ViT"}),
    ):
        assert len(style.svg(figure)) < 200_000
