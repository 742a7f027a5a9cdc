from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import UsageError
from skerry.core.release import ReleaseId
from skerry.edge.routing import Routing, Versions, falls_to_candidate
from tests.serving import INPUTS, OUTPUTS

OTHER = (replace(OUTPUTS[0], name="z"),)


class _Loaded:
    """A release of which only the name and the signature are looked at."""

    def __init__(self, version: int, outputs: Any = OUTPUTS) -> None:
        self.installed = SimpleNamespace(
            id=ReleaseId(name="meter", version=version),
            inputs=INPUTS,
            outputs=outputs,
        )


def _start(version: int = 1) -> Versions:
    return Versions(loaded=(_Loaded(version),))  # type: ignore[arg-type]


def _switch(versions: Versions, version: int, outputs: Any = OUTPUTS) -> Versions:
    return versions.switched(_Loaded(version, outputs))  # type: ignore[arg-type]


def _numbers(versions: Versions) -> list[int]:
    return [each.installed.id.version for each in versions.loaded]


def _answering(versions: Versions, n: int = 1000) -> dict[int, int]:
    picked = [versions.pick(turn).installed.id.version for turn in range(n)]
    return {version: picked.count(version) for version in set(picked)}


def test_the_latest_answers_and_the_one_before_is_kept_until_it_settled() -> None:
    """What is older goes with the switch."""
    versions = _switch(_switch(_start(), 2), 3)
    assert _numbers(versions) == [3, 2]
    assert _answering(versions) == {3: 1000}
    assert _numbers(versions.settled()) == [3]
    back = versions.rolled_back()
    assert back is not None
    assert _numbers(back) == [2]
    assert back.rolled_back() is None


def test_a_pinned_version_answers_whatever_comes() -> None:
    """Others are loaded beside it, settle, and are rolled back."""
    versions = _start().routed(Routing(kind="pinned", version=1))
    for version in (2, 3, 4):
        versions = _switch(versions, version)
        assert _answering(versions) == {1: 1000}
    assert _numbers(versions) == [4, 3, 1]
    assert _numbers(versions.settled()) == [4, 1]
    back = versions.rolled_back()
    assert back is not None
    assert _numbers(back) == [3, 1]
    assert _answering(back.routed(Routing())) == {3: 1000}
    assert _numbers(back.routed(Routing())) == [3]


def test_a_pinned_version_that_is_rolled_back_is_pinned_no_more() -> None:
    """What served before it answers."""
    versions = _switch(_start(), 2).routed(Routing(kind="pinned", version=2))
    back = versions.rolled_back()
    assert back is not None
    assert back.routing == Routing()
    assert _answering(back) == {1: 1000}


@pytest.mark.parametrize("version", [None, 2])
def test_a_canary_gets_its_share(version: int | None) -> None:
    """Named, or as whatever is on probation."""
    versions = _switch(_start(), 2)
    versions = versions.routed(Routing(kind="canary", version=version, share=0.25))
    assert _answering(versions)[2] == pytest.approx(250, abs=2)
    assert versions.stable.installed.id.version == 1


def test_the_older_one_can_be_the_canary() -> None:
    """The candidate is the version that is named, whenever it came."""
    versions = _switch(_start(), 2)
    versions = versions.routed(Routing(kind="canary", version=1, share=0.1))
    assert _answering(versions)[1] == pytest.approx(100, abs=2)


def test_a_standing_canary_tries_out_each_release_until_it_settles() -> None:
    """Without a version it is the policy for all that come."""
    versions = _start().routed(Routing(kind="canary", share=0.1))
    assert _answering(versions) == {1: 1000}
    versions = _switch(versions, 2)
    assert _answering(versions)[2] == pytest.approx(100, abs=2)
    back = versions.rolled_back()
    assert back is not None
    assert _answering(back) == {1: 1000}
    settled = versions.settled()
    assert (_answering(settled), _numbers(settled)) == ({2: 1000}, [2])


def test_a_named_canary_outlives_its_probation() -> None:
    """Who named it ends it."""
    versions = _switch(_start(), 2)
    versions = versions.routed(Routing(kind="canary", version=2, share=0.5)).settled()
    assert _answering(versions)[2] == pytest.approx(500, abs=2)
    assert _numbers(versions.routed(Routing())) == [2]


def test_a_shadow_answers_nothing() -> None:
    """The stable one does, and the candidate is known."""
    versions = _switch(_start(), 2).routed(Routing(kind="shadow"))
    assert _answering(versions) == {1: 1000}
    assert versions.candidate is versions.loaded[0]
    assert _switch(_start(), 2).candidate is None


@pytest.mark.parametrize("kind", ["canary", "shadow"])
def test_another_signature_is_not_tried_out(kind: Any) -> None:
    """A request fits one of them only; named, it is refused."""
    standing = _start().routed(Routing(kind=kind, share=1.0))
    versions = _switch(standing, 2, OTHER)
    assert versions.candidate is None
    assert _answering(versions) == {1: 1000}
    with pytest.raises(UsageError, match="of the same inputs and outputs"):
        versions.routed(Routing(kind=kind, version=2))


def test_what_cannot_be_routed_to_is_refused() -> None:
    """A version that is not loaded, and a trial of the only one."""
    versions = _start()
    with pytest.raises(UsageError, match="version 7 of 'meter' is not") as caught:
        versions.routed(Routing(kind="pinned", version=7))
    assert caught.value.hint == "Loaded: 1."
    with pytest.raises(UsageError, match="has nothing beside it"):
        versions.routed(Routing(kind="shadow", version=1))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "newest"},
        {"kind": "pinned"},
        {"kind": "latest", "version": 1},
        {"kind": "canary", "share": 1.5},
        {"kind": "canary", "share": float("nan")},
    ],
)
def test_a_routing_makes_sense(fields: Any) -> None:
    """What does not is refused."""
    with pytest.raises(UsageError, match="expected latest"):
        Routing(**fields)


def test_the_same_version_again_takes_the_place_of_its_twin() -> None:
    """Asked for by its number, the one switched to last answers."""
    versions = _switch(_start(), 1)
    assert _numbers(versions) == [1, 1]
    assert versions.find(1) is versions.latest
    assert len(list(versions.without(versions.settled()))) == 1
    assert len(list(versions.without(None))) == 2


@given(
    share=st.floats(0, 1),
    start=st.integers(0, 10_000_000),
    step=st.integers(1, 12),
)
def test_any_stretch_is_split_as_the_whole(share: float, start: int, step: int) -> None:
    """Of 200 requests in a row, and of each n-th of 2400, about the share."""
    turns = range(start, start + 200 * step, step)
    n = sum(falls_to_candidate(turn, share) for turn in turns)
    assert abs(n - 200 * share) <= (3 if step == 1 else 12)


def test_the_extremes_are_exact() -> None:
    """No request for a share of 0, each for a share of 1."""
    turns = np.random.default_rng(1).integers(0, 1 << 40, size=1000).tolist()
    assert not any(falls_to_candidate(turn, 0.0) for turn in turns)
    assert all(falls_to_candidate(turn, 1.0) for turn in turns)
