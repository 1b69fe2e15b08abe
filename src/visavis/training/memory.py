"""Memory: whether an error says that there is too little, and a setting of the allocator."""

import contextlib
import ctypes
import sys


def out_of_memory(error: BaseException) -> bool:
    """Python, CUDA and torch's CPU allocator each raise an error of their own."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def keep_freed_memory() -> None:
    """Let this process reuse what it frees, instead of returning it to the system at each step.

    On Linux with glibc; elsewhere nothing is changed.

    Otherwise every training step on a CPU gets the same memory page by page again
    (docs/log.md has what that costs).
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
            libc = ctypes.CDLL(None)
            libc.mallopt(-4, 0)  # M_MMAP_MAX: no block gets pages of its own
            libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: nothing is returned by itself
