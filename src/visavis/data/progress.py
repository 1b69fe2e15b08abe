"""The progress bar of everything that takes longer than a moment."""

from tqdm import tqdm


def progress_bar(total: int, what: str) -> "tqdm[None]":
    """A bar that counts images; shown only where standard error is a terminal.

    Use it as a context manager, and its `update` as a `progress` function.
    """
    return tqdm(total=total, desc=what, unit=" images", disable=None)
