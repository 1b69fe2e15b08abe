"""The layouts of CIFAR-10 and CIFAR-100, in miniature: 20 training and 5 test images."""

import dataclasses
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from visavis.data import cifar, cifar_parquet
from visavis.errors import DataError
from visavis.files import file_sha256


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(cifar, "TRAIN", 20)
    monkeypatch.setattr(cifar, "TEST", 5)


@pytest.fixture(scope="module")
def batches():
    """Five training batches of 4 and a test batch of 5: pixels (n, 32, 32, 3) and labels."""
    generator = np.random.default_rng(0)
    return [
        (generator.integers(0, 256, (n, 32, 32, 3), np.uint8), generator.integers(0, 10, n))
        for n in (4, 4, 4, 4, 4, 5)
    ]


def rows(pixels):
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)


def binary(pixels, labels):
    return np.concatenate([labels.astype(np.uint8)[:, None], rows(pixels)], axis=1).tobytes()


def pickled(data, labels):
    return pickle.dumps({b"batch_label": b"x", b"data": data, b"labels": labels}, protocol=4)


def python(pixels, labels):
    return pickled(rows(pixels), labels.tolist())


def write_batches(folder, batches, encode, ending=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, batch in zip(cifar.BATCHES, batches, strict=True):
        (folder / (name + ending)).write_bytes(encode(*batch))


def write_parquet(folder, batches, kind="PNG"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (
        (cifar_parquet.TRAIN_FILE, batches[:5]),
        (cifar_parquet.TEST_FILE, batches[5:]),
    ):
        files = []
        for image in np.concatenate([pixels for pixels, _ in part]):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, kind)
            files.append({"bytes": buffer.getvalue(), "path": None})
        labels = np.concatenate([labels for _, labels in part])
        parquet.write_table(pa.table({"img": files, "label": labels}), folder / name)


def write_archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def admit(monkeypatch, path):
    """Let the archive pass for the published one."""
    versions = [
        dataclasses.replace(of, sha256=file_sha256(path)) if of.archive == path.name else of
        for of in cifar.VERSIONS
    ]
    monkeypatch.setattr(cifar, "VERSIONS", versions)


def check(read, batches):
    assert np.array_equal(read.train_pixels, np.concatenate([p for p, _ in batches[:5]]))
    assert np.array_equal(read.train_labels, np.concatenate([n for _, n in batches[:5]]))
    assert np.array_equal(read.test_pixels, batches[5][0])
    assert np.array_equal(read.test_labels, batches[5][1])
    assert read.train_labels.dtype == read.test_labels.dtype == np.int64


@pytest.mark.parametrize("inside", ["cifar-10-batches-bin", "."])
def test_unpacked_binary(tmp_path, batches, inside):
    write_batches(tmp_path / inside, batches, binary, ".bin")
    check(cifar.read(tmp_path), batches)


@pytest.mark.parametrize("inside", ["cifar-10-batches-py", "."])
def test_unpacked_python(tmp_path, batches, inside):
    write_batches(tmp_path / inside, batches, python)
    check(cifar.read(tmp_path), batches)


def test_python_2_pickle_as_published(batches):
    """The published batches are protocol 2 pickles by Python 2, whose strings are bytes."""
    pixels, labels = batches[0]
    data = rows(pixels)
    old = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b"
        b"\x87R(K\x01K\x04M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff"
        b"\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + len(data.tobytes()).to_bytes(4, "little")
        + data.tobytes()
        + b"tbU\x06labels]("
        + b"".join(b"K" + bytes([label]) for label in labels)
        + b"eu."
    )
    read_pixels, read_labels = cifar.PYTHON.parse(Path("x"), old, 4, 10)
    assert np.array_equal(read_pixels, pixels)
    assert np.array_equal(read_labels, labels)


@pytest.mark.parametrize("inside", ["plain_text", "."])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_parquet(tmp_path, batches, inside, kind):
    write_parquet(tmp_path / inside, batches, kind)
    read = cifar.read(tmp_path)
    assert ("JPEG" in read.description) == (kind == "JPEG")
    assert (read.notice is None) == (kind == "PNG")
    if kind == "PNG":
        check(read, batches)
    else:
        assert np.array_equal(read.test_labels, batches[5][1])
        assert np.abs(read.test_pixels.mean() - batches[5][0].mean()) < 5


@pytest.mark.parametrize(
    ("name", "inside", "encode", "ending"),
    [
        ("cifar-10-binary.tar.gz", "cifar-10-batches-bin", binary, ".bin"),
        ("cifar-10-python.tar.gz", "cifar-10-batches-py", python, ""),
    ],
)
@pytest.mark.fault(17)
def test_archive_is_read_by_member_name_and_nothing_is_written(
    tmp_path, monkeypatch, batches, name, inside, encode, ending
):
    members = [
        (f"{inside}/{batch_name}{ending}", encode(*batch))
        for batch_name, batch in zip(cifar.BATCHES, batches, strict=True)
    ]
    strange = [("../outside", b"x"), (f"/tmp/{inside}/test_batch{ending}", b"x"), ("other", b"y")]
    folder = tmp_path / "data"
    folder.mkdir()
    write_archive(folder / name, strange + members + [(f"{inside}/huge", bytes(10**6))])
    admit(monkeypatch, folder / name)
    check(cifar.read(folder), batches)
    assert os.listdir(tmp_path) == ["data"]
    assert os.listdir(folder) == [name]


@pytest.mark.fault(15)
def test_archive_with_another_hash_is_not_opened(tmp_path, monkeypatch, batches):
    monkeypatch.setattr(tarfile, "open", lambda *args: pytest.fail("it was opened"))
    path = tmp_path / cifar.PYTHON.archive
    for content in (b"", b"<html>Too many requests</html>", os.urandom(1_000)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz is damaged or not the"):
            cifar.read(tmp_path)


class Hostile:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.fault(18)
def test_hostile_pickle_is_refused_before_it_runs(tmp_path, batches):
    folder = tmp_path / cifar.PYTHON.folder
    write_batches(folder, batches, python)
    canary = tmp_path / "canary"
    for protocol in (0, 2, 4):
        content = pickle.dumps({0: Hostile(canary)}, protocol=protocol)
        (folder / "data_batch_3").write_bytes(content)
        with pytest.raises(DataError, match=r"data_batch_3 is refused: .*mkdir"):
            cifar.read(tmp_path)
        assert not canary.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04garbage",
        pickle.dumps([1, 2]),
        pickled([[0] * 3072] * 4, [0] * 4),
        pickled(np.zeros((4, 3072)), [0] * 4),
        pickled(np.zeros((3, 3072), np.uint8), [0] * 3),
        pickled(np.zeros((4, 3072), np.uint8), [0] * 3),
        pickled(np.zeros((4, 3072), np.uint8), [[0], [1, 2]]),
        pickled(np.zeros((4, 3072), np.uint8), [0.5] * 4),
        bytes(100_000),
    ],
)
def test_damaged_python_batch_names_the_file(tmp_path, batches, content):
    write_batches(tmp_path, batches, python)
    (tmp_path / "data_batch_2").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_2"):
        cifar.read(tmp_path)


def test_truncated_binary_batch_and_missing_batch(tmp_path, batches):
    write_batches(tmp_path, batches, binary, ".bin")
    path = tmp_path / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_4\.bin has 12291 bytes, not 12292"):
        cifar.read(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"data_batch_4\.bin is missing"):
        cifar.read(tmp_path)


@pytest.mark.parametrize("layout", ["binary", "python", "parquet"])
@pytest.mark.fault(19)
def test_label_out_of_range_names_file_and_image(tmp_path, batches, layout):
    wrong = [(pixels, labels.copy()) for pixels, labels in batches]
    wrong[5][1][3] = 10
    if layout == "parquet":
        write_parquet(tmp_path, wrong)
    else:
        encode, ending = (binary, ".bin") if layout == "binary" else (python, "")
        write_batches(tmp_path, wrong, encode, ending)
    with pytest.raises(DataError, match=r"test[-_].*: image 3 has label 10, allowed are 0 to 9"):
        cifar.read(tmp_path)


def test_parquet_with_an_image_that_cannot_be_used(tmp_path, batches):
    write_parquet(tmp_path, batches)
    path = tmp_path / cifar_parquet.TEST_FILE
    good = parquet.read_table(path).to_pylist()
    bmp, large = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (32, 32)).save(bmp, "BMP")
    Image.new("RGB", (33, 32)).save(large, "PNG")
    for data in (None, b"", good[2]["img"]["bytes"][:500], bmp.getvalue(), large.getvalue()):
        rows = [dict(row) for row in good]
        rows[2] = {"img": {"bytes": data, "path": None}, "label": 0}
        parquet.write_table(pa.Table.from_pylist(rows), path)
        with pytest.raises(DataError, match=r"test-00000-of-00001\.parquet: image 2 "):
            cifar.read(tmp_path)


def test_parquet_that_would_fill_the_memory_is_refused_or_read_in_little(
    tmp_path, batches, monkeypatch
):
    """One image, stored once with 100 MB of padding, for all rows: 6 kB in the file."""
    write_parquet(tmp_path, batches)
    good = io.BytesIO()
    Image.new("RGB", (32, 32)).save(good, "PNG")

    def write(count, padding):
        rows = pa.array([0] * count, pa.int32())
        image = pa.DictionaryArray.from_arrays(rows, pa.array([good.getvalue() + bytes(padding)]))
        images = pa.StructArray.from_arrays([image], ["bytes"])
        table = pa.table({"img": images, "label": [1] * count})
        path = tmp_path / cifar_parquet.TEST_FILE
        parquet.write_table(table, path, compression="zstd", store_schema=False)

    monkeypatch.setattr(cifar, "TEST", 4)
    write(4, 100_000_000)
    with pytest.raises(DataError, match="holds 100 MB, too many for 4 images"):
        cifar.read(tmp_path)
    write(4, 60_000)
    cifar.read(tmp_path)
    write(
        1_000, 60_000
    )  # repeated for each row, it would be 60 MB; pages being read are a few copies
    before = pa.total_allocated_bytes()
    opened = parquet.ParquetFile(tmp_path / cifar_parquet.TEST_FILE, read_dictionary=["img.bytes"])
    held = [pa.total_allocated_bytes() - before for _ in cifar_parquet.stored_images(opened)]
    assert len(held) == 1_000 and max(held) < 6_000_000


def test_parquet_that_is_not_what_it_is_called(tmp_path, batches):
    write_parquet(tmp_path, batches)
    path = tmp_path / cifar_parquet.TEST_FILE
    whole = path.read_bytes()
    tables = (
        pa.table({"image": [1] * 5, "label": [1] * 5}),
        pa.table({"img": [1] * 5, "label": [1] * 5}),
        pa.table({"img": [{"bytes": b""}] * 5}),
        pa.table({"img": [{"bytes": b""}] * 4, "label": [1] * 4}),
    )
    for write in (
        *(lambda table=table: parquet.write_table(table, path) for table in tables),
        lambda: path.write_bytes(whole[: len(whole) // 2]),
        lambda: path.write_bytes(b""),
        path.unlink,
    ):
        write()
        with pytest.raises(DataError, match=r"test-00000-of-00001\.parquet"):
            cifar.read(tmp_path)


def test_a_folder_without_cifar10_is_an_error_that_lists_the_layouts(tmp_path):
    with pytest.raises(DataError, match="does not exist; give the folder"):
        cifar.read(tmp_path / "none")
    with pytest.raises(DataError, match=r"binary\.tar\.gz.*plain_text.*; found nothing"):
        cifar.read(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"found notes\.txt"):
        cifar.read(tmp_path)
    with pytest.raises(DataError, match="is a file; give the folder"):
        cifar.read(tmp_path / "notes.txt")


NAMES = [f"class_{i}" for i in range(100)]


@pytest.fixture(scope="module")
def hundred():
    """A training batch of 20 and a test batch of 5, of 100 classes."""
    generator = np.random.default_rng(1)
    return [
        (generator.integers(0, 256, (n, 32, 32, 3), np.uint8), generator.integers(0, 100, n))
        for n in (20, 5)
    ]


def binary_100(batches):
    """The files of the binary version by name; the coarse labels differ from the fine ones."""
    files = {"fine_label_names.txt": "\n".join(NAMES).encode() + b"\n\n"}
    for name, (pixels, labels) in zip(("train.bin", "test.bin"), batches, strict=True):
        both = np.stack([labels // 5, labels], axis=1).astype(np.uint8)
        files[name] = np.concatenate([both, rows(pixels)], axis=1).tobytes()
    return files


def python_100(batches):
    """The files of the Python version by name."""
    meta = {b"fine_label_names": [n.encode() for n in NAMES], b"coarse_label_names": [b"x"] * 20}
    files = {"meta": pickle.dumps(meta)}
    for name, (pixels, labels) in zip(("train", "test"), batches, strict=True):
        of = {b"fine_labels": labels.tolist(), b"coarse_labels": (labels // 5).tolist()}
        files[name] = pickle.dumps({b"data": rows(pixels), **of})
    return files


VERSIONS_100 = pytest.mark.parametrize(
    ("version", "made"), [(cifar.BINARY_100, binary_100), (cifar.PYTHON_100, python_100)]
)


def check_100(read, hundred):
    assert read.source == "cifar100" and read.class_names == tuple(NAMES)
    for part, (pixels, labels) in zip(("train", "test"), hundred, strict=True):
        assert np.array_equal(getattr(read, f"{part}_pixels"), pixels)
        assert np.array_equal(getattr(read, f"{part}_labels"), labels)


@VERSIONS_100
@pytest.mark.parametrize("packed", [True, False])
def test_cifar_100_with_its_fine_labels(tmp_path, monkeypatch, hundred, version, made, packed):
    files = made(hundred)
    if packed:
        members = [(f"{version.folder}/{name}", content) for name, content in files.items()]
        write_archive(tmp_path / version.archive, members)
        with pytest.raises(DataError, match="is damaged or not the published file"):
            cifar.read(tmp_path, "cifar100")
        admit(monkeypatch, tmp_path / version.archive)
    else:
        (tmp_path / version.folder).mkdir()
        for name, content in files.items():
            (tmp_path / version.folder / name).write_bytes(content)
    check_100(cifar.read(tmp_path, "cifar100"), hundred)
    with pytest.raises(DataError, match="no CIFAR-10 in"):
        cifar.read(tmp_path)


@VERSIONS_100
def test_what_is_wrong_with_cifar_100_is_named(tmp_path, hundred, version, made):
    names = next(iter(made(hundred)))
    for damaged in (names, *version.batches):
        for name, content in made(hundred).items():
            (tmp_path / name).write_bytes(content[:-50] if name == damaged else content)
        with pytest.raises(DataError, match=damaged):
            cifar.read(tmp_path, "cifar100")
    (tmp_path / names).unlink()
    with pytest.raises(DataError, match=f"{names} is missing"):
        cifar.read(tmp_path, "cifar100")


@pytest.mark.fault(18)
def test_hostile_names_are_refused_before_they_run(tmp_path, hundred):
    for name, content in python_100(hundred).items():
        (tmp_path / name).write_bytes(content)
    canary = tmp_path / "canary"
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": Hostile(canary)}))
    with pytest.raises(DataError, match=r"meta is refused: .*mkdir"):
        cifar.read(tmp_path, "cifar100")
    assert not canary.exists()
