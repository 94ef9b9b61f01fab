"""Huge pages for large fresh arrays of libraries that do not ask for them.

The first touch of fresh pages takes longer than a rotation. Linux gives 2 MiB at a time to those who
ask, else 4 KiB. NumPy asks; torch does with ``THP_MEM_ALLOC_ENABLE=1`` in the environment, and not by
default. ``ROPE_XP_HUGE_PAGES=0`` switches this off.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

#: Bytes below which nothing is gained.
SMALLEST = 2**22


@functools.cache
def _madvise() -> Callable[[int, int], None] | None:
    """What asks for huge pages from an address on; None where nobody can, or shall."""
    import ctypes
    import mmap

    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None or os.environ.get("ROPE_XP_HUGE_PAGES") == "0":
        return None
    function = getattr(ctypes.CDLL(None), "madvise", None)
    if function is None:
        return None

    def advise(address: int, size: int) -> None:
        start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        size = (address + size - start) // mmap.PAGESIZE * mmap.PAGESIZE
        function(ctypes.c_void_p(start), ctypes.c_size_t(size), advice)

    return advise


def advise_huge_pages(address: int, size: int) -> None:
    """Ask for huge pages in memory that was not touched yet; others stay as they are."""
    if size >= SMALLEST:
        madvise = _madvise()
        if madvise is not None:
            madvise(address, size)
