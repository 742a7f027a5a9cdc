from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.device.capture import (
    LONGEST_TRANSIT_S,
    BackOff,
    CaptureTimes,
    FilePace,
    PacketHint,
)


def test_what_waited_in_a_buffer_counts_as_taken_when_it_was() -> None:
    """The camera's clock tells what arrival alone would hide."""
    times = CaptureTimes()
    for number in range(10):
        now_s = 100 + number * 0.2
        assert times.place(number * 0.2, now_s=now_s, waited_s=0.2) == now_s
    stalled = [times.place(number * 0.2, now_s=105, waited_s=0) for number in (10, 11)]
    assert stalled == pytest.approx([102.0, 102.2], abs=0.01)


def test_a_clock_that_jumps_is_not_believed() -> None:
    """Its pictures count as taken when they came, and the lie is counted."""
    times = CaptureTimes()
    times.place(0.0, now_s=100, waited_s=0.1)
    assert times.place(1e6, now_s=100.2, waited_s=0.1) == pytest.approx(100.2)
    assert times.place(5.0, now_s=100.4, waited_s=0.1) == pytest.approx(100.4)
    assert times.place(5.2, now_s=100.6, waited_s=0.1) == pytest.approx(100.6)
    assert times.lies == 2


def test_a_clock_that_runs_slowly_does_not_make_pictures_look_old() -> None:
    """What has only just come was taken just now, whatever it says."""
    times = CaptureTimes()
    ages = [
        now_s - times.place(now_s / 4, now_s=now_s, waited_s=0.1)
        for now_s in (0.2 * number for number in range(100))
    ]
    assert max(ages) <= LONGEST_TRANSIT_S
    assert times.lies > 5


@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(-1e9, 1e9),
            st.floats(0, 5),
            st.sampled_from([0.0, 0.1]),
        )
    )
)
def test_a_picture_is_never_of_the_future_nor_before_the_last(
    steps: list[tuple[float | None, float, float]],
) -> None:
    """Whatever a camera says of the time."""
    times, now_s, last_s = CaptureTimes(), 0.0, float("-inf")
    for pts_s, elapsed_s, waited_s in steps:
        now_s += elapsed_s
        taken_s = times.place(pts_s, now_s=now_s, waited_s=waited_s)
        assert last_s <= taken_s <= now_s
        if waited_s:
            assert now_s - taken_s <= LONGEST_TRANSIT_S + 1e-6
        last_s = taken_s


@given(st.lists(st.none() | st.floats(-1e6, 1e6)))
def test_a_files_pictures_are_due_in_order_and_without_long_gaps(
    stamps: list[float | None],
) -> None:
    """Timestamps that jump are passed over."""
    pace, last_s = FilePace(begun_s=10, period_s=0.2), 9.8
    for pts_s in stamps:
        due_s = pace.place(pts_s)
        assert last_s - 1e-6 <= due_s <= last_s + 5.3
        last_s = due_s


def test_a_large_packet_tells_of_movement() -> None:
    """And what goes on moving is told of for a while, not for ever as the usual."""
    hint = PacketHint()
    assert not any(hint.take(300) for _ in range(20))
    assert all(hint.take(6000) for _ in range(5))
    assert not hint.take(300)


def test_waits_grow_and_begin_anew() -> None:
    """Up to the longest, and each camera at a moment of its own."""
    early, late = BackOff(share=0.0), BackOff(share=1.0)
    assert [early.fail() for _ in range(6)] == [0.5, 1, 2, 4, 8, 15]
    assert [late.fail() for _ in range(3)] == [1, 2, 4]
    early.reset()
    assert early.fail() == 0.5
