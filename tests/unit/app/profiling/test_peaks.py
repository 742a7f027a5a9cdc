from __future__ import annotations

from dataclasses import replace

from skerry.adapt.profiles.roofline import Peaks
from skerry.app.profiling.peaks import best_peaks, measure_peaks

PEAKS = Peaks(gops=100, dtype="float32", bandwidth_gb_s=10, source="measured")


def test_the_higher_calibration_counts() -> None:
    """A neighbour only lowers one; when it does by much, that is said."""
    after = replace(PEAKS, gops=104, bandwidth_gb_s=9.5)
    assert best_peaks(PEAKS, after) == replace(PEAKS, gops=104)
    disturbed = replace(PEAKS, gops=50)
    found = best_peaks(disturbed, PEAKS)
    assert found.gops == 100
    assert found.source == "measured; before and after differ by 100 %"


def test_this_machine_has_peaks() -> None:
    """Of one thread: at least a tenth of a GOP/s and of a GB/s."""
    found = measure_peaks(threads=1)
    assert found.gops > 0.1
    assert found.bandwidth_gb_s > 0.1
    assert "measured here" in found.source
