"""What this machine can do at most: one large product, one large copy.

The two roofs of the roofline model (S. Williams, A. Waterman and D. Patterson,
"Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52(4), 2009).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skerry.core.clock import Clock, SystemClock

SIDE = 1024
COPIED_BYTES = 64 * 2**20
TRIES = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """The roofs under which a processor works.

    Attributes:
        gops: 10⁹ operations a second, a multiply-add counted as two.
        dtype: What those compute in; what computes in another has no such roof.
        bandwidth_gb_s: 10⁹ bytes a second, to and from the memory together.
        source: Where the figures are from.
    """

    gops: float
    dtype: str
    bandwidth_gb_s: float
    source: str


def measure_peaks(*, threads: int = 1, clock: Clock | None = None) -> Peaks:
    """Measure a product of two square float32 matrices, and a copy past the caches.

    numpy's product may use as many threads as it likes: its CPU time tells what one
    thread does, and the roof is that many times `threads`. The copy is of one thread,
    and its bytes count twice, read and written. The fastest of a few tries counts.

    Args:
        threads: CPU threads of the inferences that are held to the roof.
        clock: What measures time; this machine's clock by default.
    """
    clock = clock or SystemClock()
    chance = np.random.default_rng(0)
    left, right = chance.standard_normal((2, SIDE, SIDE), dtype=np.float32)
    made = np.empty_like(left)
    product_s = _fastest(lambda: np.matmul(left, right, out=made), clock.cpu_s)
    source = np.ones(COPIED_BYTES // 4, np.float32)
    target = np.zeros_like(source)
    copy_s = _fastest(lambda: np.copyto(target, source), clock.wall_s)
    return Peaks(
        gops=threads * 2 * SIDE**3 / product_s / 1e9,
        dtype="float32",
        bandwidth_gb_s=2 * COPIED_BYTES / copy_s / 1e9,
        source=f"measured here: a float32 product of side {SIDE}, "
        f"a copy of {COPIED_BYTES >> 20} MiB",
    )


def _fastest(call: Callable[[], object], read_s: Callable[[], float]) -> float:
    call()
    times = []
    for _ in range(TRIES):
        began_s = read_s()
        call()
        times.append(read_s() - began_s)
    return max(min(times), 1e-9)
