"""The progress bar of everything that takes longer than a moment."""

from tqdm import tqdm


def progress_bar(total: int, what: str | None) -> "tqdm[None]":
    """A bar that counts images; shown only on a terminal, and only with a description.

    Use it as a context manager, and its `update` as a `progress` function.
    """
    return tqdm(total=total, desc=what, unit=" images", disable=None if what else True)
