"""Free memory goes back to the system, where it would stay with the process.

Pictures of many cameras are allocated by many threads. The C library keeps a heap for
several of them each, and what is freed in the middle of one stays there: fifty cameras
held a quarter more after minutes than they used. glibc gives it back when asked to, and
keeps fewer heaps when told to.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

EACH_S = 30.0
"""How often it is given back; it takes some milliseconds, away from the event loop."""


MOST_HEAPS = 2

_M_ARENA_MAX = -8
"""The parameter's number in `malloc.h`."""


def keep_few() -> None:
    """Keep few heaps from now on; does nothing where there is no such thing."""
    library = _library()
    if library is not None:
        library.mallopt(_M_ARENA_MAX, MOST_HEAPS)


def give_back() -> None:
    """Give free memory back to the system; does nothing where it cannot be asked."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)


@cache
def _library() -> Any:
    """The C library, where it is glibc; else None."""
    try:
        library = ctypes.CDLL(None)
        return library if library.malloc_trim and library.mallopt else None
    except (OSError, AttributeError, TypeError):  # another C library, or Windows
        return None
