"""What this machine can do at most, by a short calibration."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

from skerry.adapt.profiles.roofline import Peaks
from skerry.app.profiling import runner
from skerry.core.errors import StateError
from skerry.core.profile import UNSTABLE

LIMIT_S = 120.0


def measure_peaks(*, threads: int) -> Peaks:
    """Measure a product of two square float32 matrices, and a copy past the caches.

    It is the runner's own calibration, as on a device, in a process of its own: numpy
    learns only at its start how many threads it may use.

    Args:
        threads: CPU threads of the inferences that are held to the roof.

    Raises:
        StateError: The process failed.
    """
    argv = [sys.executable, runner.__file__, runner.CALIBRATE, str(threads)]
    try:
        done = subprocess.run(argv, capture_output=True, check=True, timeout=LIMIT_S)
        found = json.loads(done.stdout.removeprefix(runner.MARK.encode()))
        gops, bandwidth_gb_s = (float(found[key]) for key in ("gops", "bandwidth_gb_s"))
    except (subprocess.SubprocessError, OSError, ValueError, KeyError) as error:
        raise StateError(
            f"the calibration failed: {error}",
            hint="Give a target whose file states the peaks: --target NAME.",
        ) from error
    return peaks_at(gops, bandwidth_gb_s, place="here")


def peaks_at(gops: float, bandwidth_gb_s: float, *, place: str) -> Peaks:
    """What the runner measured somewhere."""
    side, mib = runner.SIDE, runner.COPIED_BYTES >> 20
    return Peaks(
        gops=gops,
        dtype="float32",
        bandwidth_gb_s=bandwidth_gb_s,
        source=f"measured {place}: a float32 product of side {side}, "
        f"a copy of {mib} MiB",
    )


def best_peaks(before: Peaks, after: Peaks) -> Peaks:
    """The higher of two calibrations, for a neighbour can only lower one.

    Where they are too far apart to be believed, the source says so.
    """
    pairs = (
        (before.gops, after.gops),
        (before.bandwidth_gb_s, after.bandwidth_gb_s),
    )
    apart = max(max(pair) / max(min(pair), 1e-9) - 1 for pair in pairs)
    words = f"; before and after differ by {apart * 100:.0f} %"
    return replace(
        before,
        gops=max(pairs[0]),
        bandwidth_gb_s=max(pairs[1]),
        source=before.source + (words if apart > UNSTABLE else ""),
    )
