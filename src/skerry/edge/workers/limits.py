"""What a worker process may take."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

_HEADROOM_BYTES = 1 << 30


def _half_of_all_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a worker process may take.

    Attributes:
        memory_bytes: Private memory in use, looked at every quarter of a second; a
            worker that holds more is killed. Half of this machine's by default.
        load_s: How long loading a model may take.
        run_s: How long one inference may take where nobody interrupts it before.
    """

    memory_bytes: int = field(default_factory=_half_of_all_bytes)
    load_s: float = 120.0
    run_s: float = 60.0

    @property
    def reserved_bytes(self) -> int:
        """Private memory that a worker may ask for, whether it uses it or not.

        The kernel refuses more at once, before the next look. It is wider than what may
        be in use: allocators and thread stacks ask for much that they never touch.
        """
        return 2 * self.memory_bytes + _HEADROOM_BYTES
