"""How the process asks the system for memory, on Linux with glibc; elsewhere nothing is changed."""

import contextlib
import ctypes
import sys
from pathlib import Path

MADV_HUGEPAGE = 14


def keep() -> None:
    """Let this process keep what it frees.

    Otherwise every step gets the same memory from the system anew, page by page, which takes about
    a sixth of a training step on a CPU (docs/benchmarks.md).
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block gets pages of its own
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: nothing is handed back by itself


def hand_back() -> None:
    """Give the system what is free now; what comes in its place comes in large pages.

    What is kept falls into pieces, and some of them fit nothing new. Once in an epoch this costs
    one step with new pages, and the peak of a long training is lower (docs/benchmarks.md).
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        # PyTorch's own large pages (THP_MEM_ALLOC_ENABLE) start each array on one, and what is
        # left between the arrays fits nothing.
        for line in Path("/proc/self/maps").read_text().splitlines():
            if line.endswith("[heap]"):
                start, end = (int(address, 16) for address in line.split()[0].split("-"))
                libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_HUGEPAGE)
