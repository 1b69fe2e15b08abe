"""How the process asks the system for memory, on Linux with glibc; elsewhere nothing is changed."""

import contextlib
import ctypes
import os
import sys


def keep() -> None:
    """Let this process keep what it frees, in large pages.

    Otherwise every step gets the same memory from the system anew, page by page, which takes about
    a sixth of a training step on a CPU (docs/benchmarks.md).
    """
    if sys.platform != "linux":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch reads it when it first allocates
    with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block gets pages of its own
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: nothing is handed back by itself


def hand_back() -> None:
    """Give the system what is free now.

    What is kept falls into pieces, and some of them fit nothing new. Once in an epoch this costs
    one step with new pages, and the peak of a long training is lower (docs/benchmarks.md).
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
