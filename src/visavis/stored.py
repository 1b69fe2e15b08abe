"""Reading files that may be damaged, altered, or of another program: JSON and arrays.

Whatever is wrong with one is a CheckpointError that names the file, the fault, and what to do.
"""

import fnmatch
import hashlib
import json
import math
import types
import typing
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visavis.errors import CheckpointError

MAX_JSON_BYTES = 200_000_000
MAX_ARRAY_BYTES = 8_000_000_000
"""Of all arrays of a file together, before compression."""
KINDS = {"finite": "f", "float": "f", "index": "iu", "bool": "b", "byte": "u"}
"""What `check_arrays` calls the kinds of NumPy's types; an index is not negative."""


class MissingKeyError(CheckpointError, KeyError):
    """A file lacks a value; also a KeyError, as a mapping's should be."""


class Stored(dict[str, Any]):
    """What a file holds, or an object within; asking for a key that it lacks names the file."""

    def __init__(self, values: Mapping[str, Any], path: Path, remedy: str) -> None:
        super().__init__(values)
        self.path, self.remedy = path, remedy

    def __missing__(self, key: str) -> Any:
        raise MissingKeyError(f"{self.path} lacks {key}; {self.remedy}")


def content(path: Path, limit: int) -> bytes:
    """The bytes of a file of at most `limit` bytes.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        ValueError: it is larger, or a folder, a device or a pipe, which could wait without end.
    """
    require_file(path)
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"it has {size:,} bytes, more than the {limit:,} that are read")
    return path.read_bytes()


def require_file(path: Path) -> None:
    """Raise FileNotFoundError if there is nothing, and ValueError if it is not a regular file."""
    if not path.is_file():
        raise ValueError("it is not a file") if path.exists() else FileNotFoundError(path)


def parse(text: str, path: Path, remedy: str) -> Any:
    """What JSON says; its objects are `Stored`.

    Raises:
        ValueError: it is damaged, nested too deeply, or holds a number or text that cannot be used.
    """
    try:
        values = json.loads(
            text,
            object_hook=lambda values: Stored(values, path, remedy),
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
        if "\\u" in text:
            json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return values


def checksum(values: Mapping[str, Any]) -> str:
    """SHA-256 of what JSON says, hexadecimal, whatever its layout and the order of its keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _integer(text: str) -> int:
    if len(text) > 18:
        raise ValueError(f"the number {text[:18]}… is too large")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"it holds {text}, which is no number")
    return value


def check_types(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Raise a ValueError if one of the values is of another type than in `kinds`.

    Args:
        kinds: also str | None, list[str], dict[str, str], and tuple[int, int] for a list of two.
    """
    for key in values.keys() & kinds.keys():
        value, kind = values[key], kinds[key]
        if not _fits(value, kind):
            name = kind.__name__ if isinstance(kind, type) else kind
            raise ValueError(f"{key} is a {type(value).__name__}, not a {name}")


def _fits(value: Any, kind: Any) -> bool:
    origin, of = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is types.UnionType:
        return any(_fits(value, each) for each in of)
    if origin is tuple:
        pairs = zip(value, of, strict=False) if isinstance(value, list) else ()
        return [_fits(*pair) for pair in pairs] == [True] * len(of) and len(value) == len(of)
    if isinstance(value, bool) and kind is not bool:
        return False
    accepted: Any = (int, float) if kind is float else origin
    if not isinstance(value, accepted):
        return False
    inside: list[Any] = list(value.values() if origin is dict else value) if of else []
    if of and isinstance(of[-1], type):  # one of each type stands for all
        inside = list({type(each): each for each in inside}.values())
    return all(_fits(each, of[-1]) for each in inside)


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz; pickled objects are not loaded.

    Raises:
        FileNotFoundError: there is none.
        Exception: anything else; zipfile, zlib and numpy have some of their own.
    """
    require_file(path)
    with zipfile.ZipFile(path) as archive:
        if (size := sum(entry.file_size for entry in archive.infolist())) > MAX_ARRAY_BYTES:
            raise ValueError(f"it holds {size / 1e9:,.0f} GB")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return dict(archive)


def check_arrays(found: Mapping[str, np.ndarray], shapes: Mapping[str, str]) -> None:
    """Check arrays against patterns of their names, each with a kind and its dimensions.

    Args:
        shapes: such as {"logits": "finite n classes", "map_*": "float n g g"}: dimensions of one
            name have one length, in all arrays. The first pattern that fits a name counts; arrays
            that none fits are not checked.

    Raises:
        ValueError: one has another type or shape, a negative index, or NaN where none may be.
    """
    lengths: dict[str, int] = {}
    for name, array in found.items():
        for pattern, shape in shapes.items():
            if fnmatch.fnmatchcase(name, pattern):
                _check_array(name, array, shape, lengths)
                break


def _check_array(name: str, array: np.ndarray, shape: str, lengths: dict[str, int]) -> None:
    kind, *dimensions = shape.split()
    fits = array.dtype.kind in KINDS[kind] and array.ndim == len(dimensions)
    if not fits or any(
        lengths.setdefault(of, length) != length
        for of, length in zip(dimensions, array.shape, strict=True)
    ):
        raise ValueError(f"{name} has type {array.dtype} and shape {array.shape}")
    if kind == "finite" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    if kind == "index" and array.size and array.min() < 0:
        raise ValueError(f"{name} holds {array.min()}, which is no index")
