"""What this machine can do at most, by a short calibration."""

from __future__ import annotations

import json
import subprocess
import sys

from skerry.adapt.profiles.roofline import Peaks
from skerry.app.profiling import runner
from skerry.core.errors import StateError

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
        return peaks_at(found, place="here")
    except (subprocess.SubprocessError, OSError, ValueError, KeyError) as error:
        raise StateError(
            f"the calibration failed: {error}",
            hint="Give a target whose file states the peaks: --target NAME.",
        ) from error


def peaks_at(found: dict[str, float], *, place: str) -> Peaks:
    """What the runner measured somewhere.

    Raises:
        KeyError: A figure is missing.
    """
    side, mib = runner.SIDE, runner.COPIED_BYTES >> 20
    return Peaks(
        gops=float(found["gops"]),
        dtype="float32",
        bandwidth_gb_s=float(found["bandwidth_gb_s"]),
        source=f"measured {place}: a float32 product of side {side}, "
        f"a copy of {mib} MiB",
    )
