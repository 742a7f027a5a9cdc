from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import UsageError
from skerry.core.fleet import Device
from skerry.evolve.rollout.plan import Stages, foreseen_refusal, split
from tests.publishing import make_parts


def _fleet(n: int, **labels: str) -> list[Device]:
    return [
        Device(name=f"gw-{i}", created_at_ms=0, labels={"n": str(i), **labels})
        for i in range(n)
    ]


@pytest.mark.parametrize(
    ("stages", "sizes"),
    [
        (Stages(), [1, 9]),
        (Stages(canary="3"), [3, 7]),
        (Stages(canary="0"), [10]),
        (Stages(sizes=("4",)), [1, 4, 4, 1]),
        (Stages(sizes=("10%", "50%")), [1, 1, 5, 3]),
        (Stages(canary="0", sizes=("2", "100%")), [2, 8]),
        (Stages(growth=2), [1, 2, 4, 3]),
        (Stages(canary="0", growth=3), [1, 3, 6]),
        (Stages(canary="2", growth=1.5), [2, 3, 4, 1]),
        (Stages(canary="n in (7,8)"), [2, 8]),
    ],
)
def test_devices_are_split_as_asked(stages: Stages, sizes: list[int]) -> None:
    """Fixed sizes, percents, growing waves, canaries by number or by label."""
    waves = split(_fleet(10), stages)
    assert [len(wave.devices) for wave in waves] == sizes
    assert len({name for wave in waves for name in wave.devices}) == 10


def test_canaries_by_label_come_first_in_their_order() -> None:
    """The others keep theirs."""
    waves = split(_fleet(4), Stages(canary="n in (2,3)"))
    assert [wave.devices for wave in waves] == [("gw-2", "gw-3"), ("gw-0", "gw-1")]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (Stages(sizes=("0",)), "number of devices"),
        (Stages(sizes=("101%",)), "number of devices"),
        (Stages(sizes=("1.5",)), "number of devices"),
        (Stages(sizes=("many",)), "number of devices"),
        (Stages(growth=1), "grow by the factor"),
        (Stages(growth=float("nan")), "grow by the factor"),
        (Stages(growth=2, sizes=("1",)), "both were given"),
        (Stages(canary="ring=none"), "is a canary"),
    ],
)
def test_stages_that_make_no_sense_are_refused(stages: Stages, message: str) -> None:
    """Each message names what is wrong."""
    with pytest.raises(UsageError, match=message):
        split(_fleet(10), stages)


@given(
    n=st.integers(0, 200),
    canary=st.integers(0, 9).map(str),
    growth=st.none() | st.floats(1.1, 5),
    sizes=st.lists(st.sampled_from(["1", "7", "3%", "40%"]), max_size=3),
)
def test_waves_never_overlap_and_leave_nobody_out(
    n: int, canary: str, growth: float | None, sizes: list[str]
) -> None:
    """However it is split, each device stands in one wave, in its order."""
    given_sizes = () if growth else tuple(sizes)
    waves = split(_fleet(n), Stages(canary=canary, growth=growth, sizes=given_sizes))
    assert all(wave.devices for wave in waves)
    names = [name for wave in waves for name in wave.devices]
    assert names == [device.name for device in _fleet(n)]


@pytest.mark.parametrize(
    ("agent", "why"),
    [
        ({"target": "any", "level": 2}, ""),
        ({}, ""),
        ({"target": 3, "level": "x"}, ""),
        ({"target": "any", "level": 0}, "too-new: it needs an agent of level 1"),
        ({"target": "any", "level": 2, "runtimes": ["ncnn"]}, "unfit: it needs the"),
    ],
)
def test_a_refusal_is_foreseen_by_what_the_agent_says(
    agent: Mapping[str, Any], why: str
) -> None:
    """What it does not say is not held against it."""
    found = foreseen_refusal(make_parts(1)[0], {"agent": dict(agent)})
    assert found.startswith(why)
    assert bool(found) == bool(why)
