"""Progress on a terminal."""

from typing import Any

from tqdm import tqdm


def bar(total: int, what: str) -> Any:
    """A progress bar on stderr with the time left, where that is a terminal."""
    return tqdm(total=total, desc=what, unit=" pictures", disable=None)
