"""One's own images: a folder of image files for each class."""

import hashlib
import logging
import os
from pathlib import Path

import numpy as np

from visavis import run_folder
from visavis.config import IMAGE_SIDE
from visavis.data import download
from visavis.data.dataset import Dataset, Pixels, class_counts
from visavis.data.images import read_image
from visavis.data.progress import progress_bar
from visavis.errors import CheckpointError, DataError, EnvironmentFault

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
"""Training images of each class: one in ten is for validation."""
MIN_TEST = 20
"""Test images of all classes together: with fewer, no interval is informative."""
TEST_FRACTION = 0.2
"""Of each class, where there is no folder of test images."""
EXAMPLES = 3
"""Unreadable files that are named."""

Files = list[tuple[Path, int]]
"""Paths and labels."""


def read(folder: Path) -> Dataset:
    """The images in DIR/CLASS/…, or in DIR/train/CLASS/… and DIR/test/CLASS/….

    Each is cropped to its central square and resized as `read_image` does; unreadable files are
    left out and reported. Without a test folder, a fifth of each class becomes test images, chosen
    by a hash of the file name, so that the choice is the same every time. Pixels are cached until
    a file changes.

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
        raise DataError(
            f"{root} holds {len(names)} folders; put the images of each class in a folder of its "
            f"own, {MIN_CLASSES} to {MAX_CLASSES} classes in all"
        )
    train, test = _train_and_test(root, test_root, names)
    roots = [root, test_root] if test_root else [root]
    if unsupported := _unsupported([root / name for root in roots for name in names]):
        notices.append(f"Left out: {unsupported}.")
    pixels, errors = _pixels(folder, [path for path, _ in train + test])
    notices += _unreadable([error for error in errors if error])
    good = np.array([not error for error in errors], dtype=bool)
    labels = np.array([label for _, label in train + test], dtype=np.int64)
    is_train = np.arange(len(labels)) < len(train)
    in_train, in_test = good & is_train, good & ~is_train
    _require_enough(folder, names, labels[in_train], labels[in_test], unsupported)
    return Dataset(
        source="folder",
        description=f"images of {len(names)} classes from a folder, "
        + ("with separate test images" if test_root else "a fifth of them for testing"),
        class_names=tuple(os.fsencode(name).decode(errors="replace") for name in names),
        train_pixels=pixels[in_train],
        train_labels=labels[in_train],
        test_pixels=pixels[in_test],
        test_labels=labels[in_test],
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
            own.sort(key=lambda path: hashlib.sha256(os.fsencode(path.name)).digest())
            count = round(TEST_FRACTION * len(own))
            held_out, own = sorted(own[:count]), sorted(own[count:])
        train += [(path, label) for path in own]
        test += [(path, label) for path in held_out]
    return train, test


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
    folder: Path, names: list[str], train: np.ndarray, test: np.ndarray, unsupported: str
) -> None:
    """Raise DataError if classes have too few images; `unsupported` may be the reason."""
    hint = f"; {unsupported}" if unsupported else ""
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


def _pixels(folder: Path, paths: list[Path]) -> tuple[Pixels, list[str]]:
    """All images, and for each why it could not be read, empty if it could; cached."""
    digest = hashlib.sha256(b"2" + os.fsencode(folder.resolve()))  # 2: version of the cache
    for path in paths:
        facts = path.stat()
        name = os.fsencode(path.relative_to(folder))
        digest.update(name + f"\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    cache = download.cache_folder() / f"folder-{digest.hexdigest()[:20]}.npz"
    if cache.exists():
        try:
            stored = run_folder.read_arrays(cache)
            return stored["pixels"], stored["errors"].tolist()
        except (CheckpointError, KeyError):
            log.info("%s is damaged; reading the images again", cache)
    log.info("reading %d images from %s", len(paths), folder)
    pixels = np.zeros((len(paths), IMAGE_SIDE, IMAGE_SIDE, 3), dtype=np.uint8)
    errors = [""] * len(paths)
    with progress_bar(len(paths), "reading") as bar:
        for i, path in enumerate(paths):
            try:
                pixels[i] = read_image(path, name=str(path.relative_to(folder)))
            except (DataError, OSError) as error:
                errors[i] = str(error)
            bar.update()
    try:
        run_folder.write_arrays(cache, pixels=pixels, errors=np.array(errors))
    except EnvironmentFault as error:
        log.info("the images are not cached: %s", error)
    return pixels, errors
