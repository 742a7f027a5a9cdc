from __future__ import annotations

from dataclasses import replace

import pytest

from skerry.adapt.profiles.roofline import Peaks, peaks_of, roofline
from skerry.adapt.target_files import load_target
from skerry.core.profile import OperatorTime, Profile

PEAKS = Peaks(gops=100, dtype="float32", bandwidth_gb_s=10, source="a test")


def profile(*operators: OperatorTime) -> Profile:
    """A profile of these operators."""
    return Profile(runtime="r", threads=1, repeats=1, operators=operators)


def operator(
    macs: int | None, moved_bytes: int | None, dtype: str = "float32"
) -> OperatorTime:
    """An operator that takes a millisecond."""
    return OperatorTime(
        name="op",
        op_type="Conv",
        latency_ms=1.0,
        dtype=dtype,
        macs=macs,
        moved_bytes=moved_bytes,
    )


def test_an_operator_is_bound_by_what_takes_longer() -> None:
    """Much work on few bytes by computing, little on many by the memory."""
    computing, moving = roofline(
        profile(operator(25_000_000, 100_000), operator(500_000, 8_000_000)), PEAKS
    )
    assert computing.bound == "compute"
    assert computing.gops == pytest.approx(50)
    assert computing.of_roof == pytest.approx(0.5)
    assert computing.intensity == pytest.approx(500)
    assert moving.bound == "memory"
    assert moving.gb_s == pytest.approx(8)
    assert moving.of_roof == pytest.approx(0.8)
    assert computing.share == moving.share == 0.5


def test_what_is_not_known_is_not_made_up() -> None:
    """No work, no bytes, or a dtype that the peak is not of."""
    silent, mover, other = roofline(
        profile(
            operator(None, None), operator(None, 1000), operator(1000, 1000, "int8")
        ),
        PEAKS,
    )
    assert (silent.bound, silent.of_roof, silent.gops) == ("unknown", None, None)
    assert mover.bound == "memory"
    assert (other.bound, other.of_roof) == ("unknown", None)
    assert other.gops == pytest.approx(0.002)


def test_no_time_is_no_speed() -> None:
    """An operator shorter than the clock can tell divides by nothing."""
    nothing = OperatorTime(name="o", op_type="O", latency_ms=0.0, macs=9, moved_bytes=9)
    (point,) = roofline(profile(nothing), PEAKS)
    assert (point.gops, point.of_roof, point.share) == (None, None, 0)


def test_a_target_states_its_peaks() -> None:
    """In the dtype asked for, with where the figures are from; or not at all."""
    peaks = peaks_of(load_target("ethos-u55-128"), "int8")
    assert peaks is not None
    assert peaks.gops > 0
    assert "ethos-u55-128" in peaks.source
    assert peaks_of(load_target("ethos-u55-128"), "float32") is None


def test_each_dtype_has_its_own_roof() -> None:
    """A target's file may state several; uint8 goes by int8, bfloat16 by none."""
    peaks = replace(PEAKS, others={"int8": 400.0})
    codes, words, other = roofline(
        profile(
            operator(25_000_000, 1000, "uint8"),
            operator(25_000_000, 1000),
            operator(25_000_000, 1000, "bfloat16"),
        ),
        peaks,
    )
    assert codes.of_roof == pytest.approx(0.125)
    assert words.of_roof == pytest.approx(0.5)
    assert (other.bound, other.of_roof) == ("unknown", None)
