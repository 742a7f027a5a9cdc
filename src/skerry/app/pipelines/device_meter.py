"""Latencies of a search on a device: shipped there, run, removed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skerry.app.profiling.device import (
    Shipped,
    check_shipped,
    parse_place,
    profile_on,
)
from skerry.compress.search.meter import Meter
from skerry.core.durable import hold
from skerry.core.profile import Profile
from skerry.tasks.profiling import Subject

REPEATS = 30


def check_device(on: str, runtime: str) -> None:
    """Refuse a place that cannot be measured on, before anything is made for it.

    Raises:
        UsageError: It is none, or this runtime is not measured on devices.
    """
    parse_place(on)
    check_shipped(runtime)


def device_meter(on: str, lock: Path) -> Meter:
    """What measures on a device.

    Args:
        on: `ssh://[USER@]HOST` or `adb://SERIAL`.
        lock: Held while the device is busy: workers make and score beside one another,
            and measure one after the other.

    Raises:
        UsageError: There is no such place.
    """
    place = parse_place(on)

    def measure(subjects: Sequence[Subject]) -> Sequence[Profile]:
        shipped = [
            Shipped(
                model=one.model,
                runtime=one.runtime.name,
                inputs=one.inputs,
                threads=one.options.threads,
            )
            for one in subjects
        ]
        with hold(lock, who="worker", is_waiting=True):
            profiles, _ = profile_on(place, shipped, repeats=REPEATS)
        return profiles

    return Meter(place=on, measure=measure)
