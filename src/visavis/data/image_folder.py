"""Images of one's own: a folder of files for each class."""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from tqdm import tqdm

from visavis import run_folder
from visavis.config import IMAGE_SIDE
from visavis.data import download
from visavis.data.images import read_image
from visavis.errors import CheckpointError, DataError, EnvironmentFault

log = logging.getLogger(__name__)

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
NOT_READ = (
    *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".svg", ".psd"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"),
)
"""Endings of images that are told of, so that nobody takes them for read."""
CLASSES = (2, 100)
TRAINING, TESTING = ("train", "training"), ("test", "testing")
SPLITS = (*TRAINING, *TESTING, "val", "valid", "validation", "dev")
HIDDEN = (".", "__MACOSX")

FEWEST = 10
"""Training images of a class: one of ten is for validation."""
FEWEST_TESTED = 20
"""Test images of all classes together: of fewer nothing has an interval."""
TEST_SHARE = 0.2
"""Of each class, where there is no folder of test images."""
NAMED = 3
"""Files that are named of those that could not be read."""

Files = list[tuple[Path, int]]


@dataclass(frozen=True)
class Images:
    """What the folder holds, 32 x 32 pixels each."""

    class_names: tuple[str, ...]
    train_pixels: UInt8[np.ndarray, "train 32 32 3"]
    train_labels: Int64[np.ndarray, " train"]
    test_pixels: UInt8[np.ndarray, "test 32 32 3"]
    test_labels: Int64[np.ndarray, " test"]
    own_test: bool
    """Whether the test images were in a folder of their own."""
    notice: str | None
    """What was left out."""


def read(folder: Path) -> Images:
    """The images in DIR/CLASS/…, or in DIR/train/CLASS/… and DIR/test/CLASS/….

    Each is cut to its middle square and scaled as `read_image` does; a file that is no image is
    left out and told. Without a test folder a fifth of each class is for testing, chosen by the
    names of the files, so that the choice is the same every time. What was read is kept in the
    cache until a file changes.

    Raises:
        DataError: no such folder, too few or too many classes, a class with too few images, or
            classes in the test folder that the training folder lacks.
    """
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder}" if not folder.exists() else f"{folder} is a file"
        )
    root, test_root, left_out = _layout(folder)
    names = _classes(root)
    low, high = CLASSES
    if not low <= len(names) <= high:
        raise DataError(
            f"{root} holds {len(names)} folders; put the images of each class in a folder of its "
            f"own, {low} to {high} classes in all"
        )
    if test_root:
        if unknown := sorted(set(_classes(test_root)) - set(names)):
            raise DataError(f"{test_root} has classes that {root.name} lacks: {', '.join(unknown)}")
        train, test = _files(root, names), _files(test_root, names)
    else:
        train, test = _divided(_files(root, names))
    unread = _of_other_kinds([part / name for part in (root, test_root) if part for name in names])
    besides = f"; {unread}" if unread else ""
    pixels, faults = _pixels(folder, [path for path, _ in train + test])
    good = np.array([fault is None for fault in faults], dtype=bool)
    labels = np.array([label for _, label in train + test], dtype=np.int64)
    in_train = np.arange(len(labels)) < len(train)
    for kind, inside, fewest in (("training", in_train, FEWEST), ("test", ~in_train, 1)):
        counts = np.bincount(labels[inside & good], minlength=len(names))
        if counts.min() < fewest:
            name = names[int(counts.argmin())]
            raise DataError(
                f"class {name} in {folder} has {counts.min()} {kind} images; at least {fewest} "
                f"are needed ({', '.join(ENDINGS)}){besides}"
            )
    if (tested := int((good & ~in_train).sum())) < FEWEST_TESTED:
        raise DataError(
            f"{folder} has {tested} test images in all; at least {FEWEST_TESTED} are needed, and "
            f"hundreds to say much{besides}"
        )
    if unread:
        left_out.append(f"Left out: {unread}.")
    return Images(
        tuple(os.fsencode(name).decode(errors="replace") for name in names),
        pixels[good & in_train],
        labels[good & in_train],
        pixels[good & ~in_train],
        labels[good & ~in_train],
        test_root is not None,
        " ".join([*left_out, *_told([fault for fault in faults if fault])]) or None,
    )


def _layout(folder: Path) -> tuple[Path, Path | None, list[str]]:
    """Where the classes are, where those of the test images, and what is left out.

    Raises:
        DataError: training and test folders, or what looks like them, without classes in them.
    """
    parts = {name.lower(): folder / name for name in _classes(folder)}
    divided = {name: path for name, path in parts.items() if name in SPLITS and _classes(path)}
    if not divided:
        return folder, None, []
    train = next((divided[name] for name in TRAINING if name in divided), None)
    if train is None:
        raise DataError(
            f"{folder} holds {', '.join(path.name for path in divided.values())} with folders in "
            "them, but no train; put the classes into train, and test if there is one, or straight "
            f"into {folder.name}"
        )
    test = next((divided[name] for name in TESTING if name in divided), None)
    others = [path.name for path in parts.values() if path not in (train, test)]
    left_out = []
    if others:
        read_are = f"{train.name} and {test.name} are" if test else f"{train.name} is"
        left_out = [f"Left out: {', '.join(others)}; only {read_are} read, for the classes in it."]
    return train, test, left_out


def _classes(root: Path) -> tuple[str, ...]:
    return tuple(
        sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(HIDDEN))
    )


def _files(root: Path, names: tuple[str, ...]) -> Files:
    """The image files of each class, in the order of their names."""
    return [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in ENDINGS and path.name[0] != "." and path.is_file()
    ]


def _of_other_kinds(folders: list[Path]) -> str:
    """How many images there are whose kind is not read; empty if there are none."""
    endings = [
        path.suffix.lower()
        for folder in folders
        if folder.is_dir()
        for path in folder.rglob("*")
        if path.suffix.lower() in NOT_READ and path.name[0] != "." and path.is_file()
    ]
    if not endings:
        return ""
    kinds = ", ".join(sorted(set(endings)))
    number = "1 image" if len(endings) == 1 else f"{len(endings)} images"
    return f"{number} of a kind that is not read ({kinds}); save them as JPEG or PNG"


def _divided(files: Files) -> tuple[Files, Files]:
    """A fifth of each class for testing: those whose names have the smallest digests."""
    train: Files = []
    test: Files = []
    for label in sorted({label for _, label in files}):
        members = [entry for entry in files if entry[1] == label]
        members.sort(key=lambda entry: hashlib.sha256(os.fsencode(entry[0].name)).digest())
        held = round(TEST_SHARE * len(members))
        test += sorted(members[:held])
        train += sorted(members[held:])
    return train, test


def _pixels(
    folder: Path, paths: list[Path]
) -> tuple[UInt8[np.ndarray, "n 32 32 3"], list[str | None]]:
    """All images, and for each why it could not be read; from the cache if nothing changed."""
    digest = hashlib.sha256(b"1" + os.fsencode(folder.resolve()))  # 1: changes with what is kept
    for path in paths:
        facts = path.stat()
        name = os.fsencode(path.relative_to(folder))
        digest.update(name + f"\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    kept = download.cache_folder() / f"folder-{digest.hexdigest()[:20]}.npz"
    if kept.exists():
        try:
            stored = run_folder.read_arrays(kept)
            return stored["pixels"], [str(fault) or None for fault in stored["faults"]]
        except (CheckpointError, KeyError):
            log.info("%s is damaged; reading the images anew", kept)
    log.info("reading %d images from %s", len(paths), folder)
    pixels = np.zeros((len(paths), IMAGE_SIDE, IMAGE_SIDE, 3), dtype=np.uint8)
    faults: list[str | None] = [None] * len(paths)
    with tqdm(total=len(paths), desc="reading", unit=" images", disable=None) as progress:
        for i, path in enumerate(paths):
            try:
                pixels[i] = read_image(path, name=str(path.relative_to(folder)))
            except (DataError, OSError) as error:
                faults[i] = str(error)
            progress.update()
    try:
        run_folder.write_arrays(
            kept, pixels=pixels, faults=np.array([fault or "" for fault in faults])
        )
    except EnvironmentFault as error:
        log.info("the images are read anew next time: %s", error)
    return pixels, faults


def _told(faults: list[str]) -> list[str]:
    if not faults:
        return []
    more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    number = "One file" if len(faults) == 1 else f"{len(faults)} files"
    return [f"{number} could not be read and stayed out: {'; '.join(faults[:NAMED])}{more}."]
