"""One's own images: a folder of image files for each class."""

import hashlib
import io
import logging
import os
from pathlib import Path

import numpy as np

from visavis import run_folder
from visavis.config import IMAGE_SIDE
from visavis.data import download
from visavis.data.dataset import Dataset, Pixels, class_counts
from visavis.data.images import read_image
from visavis.data.progress_bar import progress_bar
from visavis.errors import CheckpointError, DataError, EnvironmentFault
from visavis.files import lock, replacing

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
UNSUPPORTED = (
    *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".svg", ".psd"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"),
)
"""Suffixes of images that cannot be read; they are counted and reported."""
MIN_CLASSES, MAX_CLASSES = 2, 100
TRAINING, TESTING = ("train", "training"), ("test", "testing")
SPLITS = (*TRAINING, *TESTING, "val", "valid", "validation", "dev")
HIDDEN = (".", "__MACOSX")

MIN_TRAIN = 10
"""Training images of each class, some of which are for validation."""
MIN_TEST = 20
"""Test images of all classes together: with fewer, no interval is informative."""
TEST_FRACTION = 0.2
"""Of each class, where there is no folder of test images."""
MEMORY_BYTES = 2_000_000_000
"""Pixels of all images together. More than that stay in the cache, a file that is mapped into
memory: training reads each batch from it."""
EXAMPLES = 3
"""Unreadable files that are named."""

Files = list[tuple[Path, int]]
"""Paths and labels."""


def read(folder: Path, side: int = IMAGE_SIDE) -> Dataset:
    """The images in DIR/CLASS/…, or in DIR/train/CLASS/… and DIR/test/CLASS/….

    Each is cropped to its central square and resized to `side` as `read_image` does; unreadable
    files are left out and reported. Without a test folder, some images of each class become test
    images, chosen by a hash of the file name, so that the choice is the same every time. Pixels are
    cached until a file changes, and stay in the cache if they exceed MEMORY_BYTES.

    Raises:
        DataError: no such folder, too few or too many classes, a class with too few images, or
            classes in the test folder that the training folder lacks.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"--data.dir {folder} {what}; give a folder of images")
    root, test_root, notices = _layout(folder)
    names = _classes(root)
    if not MIN_CLASSES <= len(names) <= MAX_CLASSES:
        deeper = [root / name for name in names if len(_classes(root / name)) >= MIN_CLASSES]
        hint = f"; if they are the folders in {deeper[0]}, pass that" if deeper else ""
        raise DataError(
            f"{root} holds {len(names)} folder{'s' * (len(names) != 1)}; put the images of each "
            f"class in a folder of its own, {MIN_CLASSES} to {MAX_CLASSES} classes in all{hint}"
        )
    train, test = _train_and_test(root, test_root, names)
    roots = [root, test_root] if test_root else [root]
    if unsupported := _unsupported([root / name for root in roots for name in names]):
        notices.append(f"Left out: {unsupported}.")
    pixels, errors = _pixels(folder, [path for path, _ in train + test], side)
    unread = _unreadable(sorted(filter(None, errors)))
    notices += unread
    good = np.array([not error for error in errors], dtype=bool)
    labels = np.array([label for _, label in train + test], dtype=np.int64)
    is_train = np.arange(len(labels)) < len(train)
    train_labels, test_labels = labels[good & is_train], labels[good & ~is_train]
    _require_enough(folder, names, train_labels, test_labels, [unsupported, *unread])
    return Dataset(
        source="folder",
        description=f"images of {len(names)} classes from a folder, "
        + (
            "with separate test images"
            if test_root
            else f"{100 * TEST_FRACTION:.0f} % of them for testing"
        ),
        class_names=tuple(os.fsencode(name).decode(errors="replace") for name in names),
        train_pixels=pixels[: len(train_labels)],
        train_labels=train_labels,
        test_pixels=pixels[len(train_labels) : good.sum()],
        test_labels=test_labels,
        notice=" ".join(notices) or None,
    )


def _layout(folder: Path) -> tuple[Path, Path | None, list[str]]:
    """The folder of the classes, that of the classes of test images, and what is left out."""
    parts = {name.lower(): folder / name for name in _classes(folder)}
    divided = {name: path for name, path in parts.items() if name in SPLITS and _classes(path)}
    if not divided:
        return folder, None, []
    train = next((divided[name] for name in TRAINING if name in divided), None)
    if train is None:
        raise DataError(
            f"{folder} holds {', '.join(path.name for path in divided.values())} with folders in "
            "them, but no train; put the classes into train, and test if there is one, or directly "
            f"into {folder.name}"
        )
    test = next((divided[name] for name in TESTING if name in divided), None)
    others = [path.name for path in parts.values() if path not in (train, test)]
    return train, test, [f"Left out: the folders {', '.join(others)}."] if others else []


def _classes(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(HIDDEN))


def _with_suffix(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in suffixes and path.name[0] != "." and path.is_file()
    ]


def _train_and_test(root: Path, test_root: Path | None, names: list[str]) -> tuple[Files, Files]:
    if test_root and (unknown := sorted(set(_classes(test_root)) - set(names))):
        raise DataError(f"{test_root} has classes that {root.name} lacks: {', '.join(unknown)}")
    train: Files = []
    test: Files = []
    for label, name in enumerate(names):
        own = _with_suffix(root / name, SUFFIXES)
        if test_root:
            held_out = _with_suffix(test_root / name, SUFFIXES)
        else:
            own.sort(key=_by_name)
            count = round(TEST_FRACTION * len(own))
            held_out, own = sorted(own[:count]), sorted(own[count:])
        train += [(path, label) for path in own]
        test += [(path, label) for path in held_out]
    # Not class by class: the models' first layers are fitted to the first of them.
    return sorted(train, key=lambda of: _by_name(of[0])), test


def _by_name(path: Path) -> bytes:
    """Sorts files in an order that is random, but does not change when some are added."""
    return hashlib.sha256(os.fsencode(path.name)).digest()


def _unsupported(folders: list[Path]) -> str:
    """How many images there are in a format that cannot be read; empty if there are none."""
    suffixes = [p.suffix.lower() for folder in folders for p in _with_suffix(folder, UNSUPPORTED)]
    if not suffixes:
        return ""
    number = "1 image" if len(suffixes) == 1 else f"{len(suffixes)} images"
    formats = ", ".join(sorted(set(suffixes)))
    return f"{number} in unsupported formats ({formats}); save them as JPEG or PNG"


def _unreadable(errors: list[str]) -> list[str]:
    if not errors:
        return []
    more = f"; and {len(errors) - EXAMPLES} more" if len(errors) > EXAMPLES else ""
    number = "1 file" if len(errors) == 1 else f"{len(errors)} files"
    return [f"Left out: {number} that could not be read: {'; '.join(errors[:EXAMPLES])}{more}."]


def _require_enough(
    folder: Path, names: list[str], train: np.ndarray, test: np.ndarray, left_out: list[str]
) -> None:
    """Raise DataError if classes have too few images; `left_out` may be the reason."""
    reasons = [reason.removesuffix(".") for reason in left_out if reason]
    hint = "".join(f"; {reason[0].lower()}{reason[1:]}" for reason in reasons)
    for kind, labels, least in (("training", train, MIN_TRAIN), ("test", test, 1)):
        counts = class_counts(labels, len(names))
        if (fewest := min(counts)) < least:
            raise DataError(
                f"class {names[counts.index(fewest)]} in {folder} has {fewest} {kind} images; "
                f"at least {least} are needed ({', '.join(SUFFIXES)}){hint}"
            )
    if len(test) < MIN_TEST:
        raise DataError(
            f"{folder} has {len(test)} test images in all; at least {MIN_TEST} are needed, and "
            f"hundreds for narrow intervals{hint}"
        )


def _pixels(folder: Path, paths: list[Path], side: int) -> tuple[Pixels, list[str]]:
    """The images, from the cache if no file was changed, moved or made readable since.

    The cache holds a folder's images once for each size.

    Returns:
        The readable images in the order of `paths`, then unused rows; and for each path why it
        could not be read, empty if it could.
    """
    digest = hashlib.sha256(f"4 {side} ".encode() + os.fsencode(folder.resolve()))  # 4: version
    place = digest.hexdigest()[:20]
    for path in paths:
        file = path.stat()
        # Two files of one size and date can change places; st_ctime_ns sees new permissions, too.
        facts = file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns
        digest.update(os.fsencode(path.relative_to(folder)) + f"\0{facts}\n".encode())
    cache = download.cache_folder() / f"folder-{place}-{digest.hexdigest()[:20]}.npy"
    errors_cache = cache.with_suffix(".npz")
    fits = len(paths) * side**2 * 3 <= MEMORY_BYTES

    def stored() -> tuple[Pixels, list[str]] | None:
        if not errors_cache.exists():
            return None
        try:
            errors = run_folder.read_arrays(errors_cache)["errors"].tolist()
            return np.load(cache, mmap_mode=None if fits else "r"), errors
        except (CheckpointError, OSError, ValueError, EOFError):
            log.info("%s is damaged; reading the images again", cache)
            return None

    if found := stored():
        return found
    try:
        with lock(cache.parent, wait=True):
            if found := stored():  # another process was quicker
                return found
            log.info("reading %d images from %s", len(paths), folder)
            for stale in cache.parent.glob(f"folder-{place}-*"):
                stale.unlink()
            with replacing(cache) as temporary, temporary.open("wb") as content:
                errors = _convert(folder, paths, side, content)
            run_folder.write_arrays(errors_cache, errors=np.array(errors))
            if found := stored():
                return found
    except EnvironmentFault as error:
        if not fits:
            raise
        log.info("the images are not cached: %s", error)
    memory = io.BytesIO()
    errors = _convert(folder, paths, side, memory)
    memory.seek(0)
    return np.load(memory), errors


def _convert(folder: Path, paths: list[Path], side: int, file: io.BufferedIOBase) -> list[str]:
    """Write the images as .npy, one after the other, and return why each could not be read."""
    shape = (len(paths), side, side, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    errors = []
    with progress_bar(len(paths), "reading") as bar:
        for path in paths:
            try:
                pixels = read_image(path, side, name=str(path.relative_to(folder)))
            except (DataError, OSError) as error:
                errors.append(str(error))
            else:
                errors.append("")
                file.write(pixels.data)
            bar.update()
    file.write(bytes(side**2 * 3 * sum(map(bool, errors))))  # rows that remain unused
    return errors
