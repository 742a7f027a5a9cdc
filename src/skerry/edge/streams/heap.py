"""Free memory goes back to the system, where it would stay with the process.

Pictures of many cameras are allocated by many threads. The C library keeps a heap for
several of them each, and what is freed in the middle of one stays there: fifty cameras
held a quarter more after minutes than they used. glibc gives it back when asked to.
"""

from __future__ import annotations

import ctypes
from functools import cache

EACH_S = 30.0
"""How often it is given back; it takes some milliseconds, away from the event loop."""


def give_back() -> None:
    """Give free memory back to the system; does nothing where it cannot be asked."""
    trim = _find()
    if trim is not None:
        trim(0)


@cache
def _find() -> ctypes._NamedFuncPointer | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, or Windows
        return None
