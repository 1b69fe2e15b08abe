import dataclasses
import json

import numpy as np
import pytest

from visavis import data
from visavis.config import DataConfig
from visavis.data import cifar, dataset, download, shapes
from visavis.data.verify import verify
from visavis.errors import DataError, EnvironmentFault


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch):
    monkeypatch.setattr(shapes, "TRAIN", 200)
    monkeypatch.setattr(shapes, "TEST", 100)


@pytest.fixture
def drawn():
    return data.resolve(DataConfig(source="shapes"))


def test_shapes_need_neither_file_nor_network(monkeypatch, drawn):
    monkeypatch.setattr(download, "fetch", lambda _: pytest.fail("it went to the network"))
    again = data.resolve(DataConfig(source="shapes"))
    assert again.source == "shapes"
    assert again.notice is None
    assert again.fingerprint == drawn.fingerprint
    assert again.test_masks.shape == (100, 32, 32)
    # No test image is a training image.
    train = {image.tobytes() for image in again.train_pixels}
    assert not any(image.tobytes() in train for image in again.test_pixels)


def test_auto_takes_cifar10_if_it_is_available(tmp_path, monkeypatch, drawn):
    monkeypatch.setattr(download, "fetch", lambda source: tmp_path / source)
    read = []
    monkeypatch.setattr(cifar, "read", lambda *given: read.append(given) or drawn)
    for source in ("auto", "cifar10", "cifar100"):
        assert data.resolve(DataConfig(source=source)) is drawn
    (ten, hundred) = ((tmp_path / name, name) for name in ("cifar10", "cifar100"))
    assert read == [ten, ten, hundred]


@pytest.mark.parametrize("error", [DataError("all hosts are down"), EnvironmentFault("disk full")])
def test_auto_falls_back_to_shapes_and_gives_the_reason(monkeypatch, error):
    def fetch(source):
        raise error

    monkeypatch.setattr(download, "fetch", fetch)
    dataset = data.resolve(DataConfig(source="auto"))
    assert dataset.source == "shapes"
    assert "CIFAR-10 is not available" in dataset.notice
    assert str(error) in dataset.notice
    for source in ("cifar10", "cifar100"):
        with pytest.raises(type(error), match=str(error)):
            data.resolve(DataConfig(source=source))


def test_a_folder_that_was_given_is_never_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "fetch", lambda _: pytest.fail("it went to the network"))
    for source in ("auto", "cifar10", "cifar100"):
        with pytest.raises(DataError, match=r"no CIFAR-100? in"):
            data.resolve(DataConfig(source=source, dir=tmp_path))


def test_fingerprint_sees_every_pixel_and_label_and_nothing_else(drawn):
    original = drawn.fingerprint
    assert len(original) == 64
    assert dataclasses.replace(drawn, description="elsewhere", notice="x").fingerprint == original
    for name in ("train_pixels", "train_labels", "test_pixels", "test_labels"):
        changed = getattr(drawn, name).copy()
        changed.flat[-1] ^= 1
        assert dataclasses.replace(drawn, **{name: changed}).fingerprint != original
    moved = np.roll(drawn.train_pixels, 1, axis=0)
    assert dataclasses.replace(drawn, train_pixels=moved).fingerprint != original


def test_split_is_stratified_complete_and_seeded():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 50))
    train, validation = data.split(labels, 0.1, seed=3)
    assert train.dtype == validation.dtype == np.int32
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(500))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(validation) > 0)
    assert data.class_counts(labels[validation], 10) == [5] * 10
    assert data.class_counts(labels[train], 10) == [45] * 10
    assert np.array_equal(data.split(labels, 0.1, seed=3)[1], validation)
    assert not np.array_equal(data.split(labels, 0.1, seed=4)[1], validation)


def test_split_of_uneven_classes_keeps_their_shares():
    labels = np.repeat(np.arange(10), [20, 40, 60, 80, 100, 20, 40, 60, 80, 100])
    _, validation = data.split(labels, 0.25, seed=0)
    assert data.class_counts(labels[validation], 10) == [5, 10, 15, 20, 25] * 2


def test_split_refuses_a_class_that_is_too_small():
    with pytest.raises(DataError, match="class 9 has 2 training images"):
        data.split(np.repeat(np.arange(10), [20] * 9 + [2]), 0.1, seed=0)


def test_info_is_json_and_right(drawn):
    info = json.loads(json.dumps(data.info(drawn)))
    assert info["side"] == 32
    assert info["counts"] == {"train": [20] * 10, "test": [10] * 10}
    scaled = drawn.train_pixels / 255
    assert info["channel_mean"] == pytest.approx(scaled.mean(axis=(0, 1, 2)), abs=1e-4)
    assert info["channel_std"] == pytest.approx(scaled.std(axis=(0, 1, 2)), abs=1e-4)
    assert info["ground_truth_masks"] is True


def with_leaks(drawn, count, *, other_label=0):
    """The shapes with `count` training images among the test images."""
    test, labels = drawn.test_pixels.copy(), drawn.test_labels.copy()
    test[:count], labels[:count] = drawn.train_pixels[-count:], drawn.train_labels[-count:]
    labels[:other_label] = (labels[:other_label] + 1) % 10
    return dataclasses.replace(drawn, test_pixels=test, test_labels=labels)


def test_leaked_test_images_are_counted_and_reported(monkeypatch, caplog, drawn):
    caplog.set_level("INFO")
    leaky = with_leaks(drawn, 40, other_label=15)
    assert leaky.leaked == {index: [160 + index] for index in range(40)}
    monkeypatch.setattr(shapes, "dataset", lambda: leaky)
    described = data.describe(data.resolve(DataConfig(source="shapes")))
    assert described["leaked"] == {"images": 40, "other_label": 15}
    expected = "40 of the 100 test images are also training images, byte for byte, 15 of them under"
    assert described["notice"].startswith(expected)
    assert caplog.messages == [f"NOTE: {described['notice']}"]


def test_a_few_leaked_test_images_are_counted_alone(monkeypatch, drawn):
    assert data.describe(drawn)["leaked"] == {"images": 0, "other_label": 0}
    monkeypatch.setattr(dataset, "LEAKED_FRACTION", 0.02)
    few = data.describe(with_leaks(drawn, 1))
    assert (few["leaked"]["images"], few["notice"]) == (1, None)
    assert data.describe(with_leaks(drawn, 2))["notice"] is not None


def test_images_that_differ_outside_their_middle_row_are_not_the_same(drawn):
    leaky = with_leaks(drawn, 40)
    leaky.test_pixels[3, 0, 0] ^= 1
    assert sorted(leaky.leaked) == [index for index in range(40) if index != 3]


def test_verify_finds_nothing_wrong_with_the_shapes(drawn):
    assert verify(drawn) == []


@pytest.mark.fault(19)
def test_verify_names_each_problem_and_its_index(drawn):
    train, labels, test = (
        array.copy() for array in (drawn.train_pixels, drawn.train_labels, drawn.test_pixels)
    )
    train[7] = 90
    test[4] = train[11]
    train[33] = train[30]
    labels[33] = (labels[30] + 1) % 10
    broken = dataclasses.replace(drawn, train_pixels=train, train_labels=labels, test_pixels=test)
    text = "\n".join(verify(broken))
    assert "1 training images have a single colour: 7." in text
    assert "1 test images are also training images, " in text
    assert " of them with another label: test 4 = training 11." in text
    assert "1 training images repeat an earlier one, 1 of them with another" in text
    assert "label: 33 = 30." in text
    assert "The training classes are not equally large: " in text
