from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.cloud.why import ago, why
from skerry.core.fleet import (
    Device,
    DeviceProgress,
    Outcome,
    Rollout,
    RolloutState,
    Shadow,
    Wave,
)
from skerry.core.release import Blob, Manifest, ReleaseId, ReleaseModel

NOW_MS = 1_767_225_600_000  # 2026-01-01 00:00:00 UTC
ONE, TWO = ReleaseId(name="meter", version=1), ReleaseId(name="meter", version=2)
GATEWAY = Device(
    name="gw-1", created_at_ms=1, enrolled_at_ms=2, last_seen_ms=NOW_MS, is_online=True
)
BLOB = Blob(sha256="0" * 64, size_bytes=1)
MANIFEST = Manifest(
    name="meter",
    version=2,
    created_at_ms=1,
    models=(
        ReleaseModel(target="pi", runtime="null", blob=BLOB, inputs=(), outputs=()),
    ),
    golden=BLOB,
    task=BLOB,
    requires=1,
)


def _shadow(
    runs: int | None = 1, wants: int | None = 2, rollout: str = "r-1", **reported: Any
) -> Shadow:
    entry = {"version": runs, "since_ms": NOW_MS - 3_600_000, "probation": False}
    releases = {"meter": entry | reported.pop("entry", {})} if runs else {}
    wanted = {"version": wants, "rollout": rollout} if rollout else {"version": wants}
    return Shadow(
        device="gw-1",
        desired={"releases": {"meter": wanted}} if wants else {},
        reported={"releases": releases, **reported},
    )


def _rollout(
    outcome: Outcome, state: RolloutState = RolloutState.RUNNING, **more: Any
) -> Rollout:
    return Rollout(
        id="r-1",
        release=TWO,
        waves=(Wave(devices=("gw-0",)), Wave(devices=("gw-1",))),
        state=state,
        progress={
            "gw-0": DeviceProgress(outcome=Outcome.SENT),
            "gw-1": DeviceProgress(outcome=outcome, previous=ONE),
        },
        **more,
    )


def _refusal(reason: str, **more: Any) -> dict[str, Any]:
    refusal = {"release": "meter/2", "reason": reason, "what": "", "rollout": "r-1"}
    return {"meter": refusal | {"at_ms": NOW_MS - 240_000} | more}


CASES = {
    "all is well": (
        GATEWAY,
        _shadow(2),
        [],
        """
        gw-1 is online. It runs meter/2, since 2025-12-31 23:00:00 UTC. That
        is what it should run, by rollout r-1.
        """,
    ),
    "not enrolled": (
        replace(GATEWAY, enrolled_at_ms=None, is_online=False),
        _shadow(None, None),
        [],
        """
        gw-1 is registered but has not enrolled yet: start its gateway with
        its one-time token. It runs no release, and no rollout has it in a
        wave.
        """,
    ),
    "never online": (
        replace(GATEWAY, last_seen_ms=None, is_online=False),
        _shadow(None, 2),
        [],
        """
        gw-1 has enrolled but was never online. It runs no meter. It should
        run meter/2, by rollout r-1. Not yet, since it is offline. As soon
        as it is back it reads its shadow and begins.
        """,
    ),
    "offline": (
        replace(GATEWAY, last_seen_ms=NOW_MS - 3 * 3_600_000, is_online=False),
        _shadow(),
        [],
        """
        gw-1 has been offline for 3 h. It ran, when last heard, meter/1,
        since 2025-12-31 23:00:00 UTC. It should run meter/2, by rollout
        r-1. Not yet, since it is offline. As soon as it is back it reads
        its shadow and begins.
        """,
    ),
    "waiting for its wave": (
        GATEWAY,
        _shadow(1, 1, "r-0"),
        [_rollout(Outcome.WAITING)],
        """
        gw-1 is online. It runs meter/1, since 2025-12-31 23:00:00 UTC. That
        is what it should run, by rollout r-0. Rollout r-1 brings it meter/2
        in wave 2; wave 1 of 2 is under way, with 0 of 1 updated.
        """,
    ),
    "its wave never came": (
        GATEWAY,
        _shadow(1, 1, ""),
        [_rollout(Outcome.WAITING, RolloutState.STOPPED, reason="stopped by ann")],
        """
        gw-1 is online. It runs meter/1, since 2025-12-31 23:00:00 UTC. That
        is what it should run, as an operator set it. Rollout r-1 of meter/2
        ended before its wave (2) came: stopped by ann.
        """,
    ),
    "refused for latency": (
        GATEWAY,
        _shadow(refused=_refusal("latency", measured=12.41, allowed=8)),
        [_rollout(Outcome.REFUSED)],
        """
        gw-1 is online. It runs meter/1, since 2025-12-31 23:00:00 UTC. It
        should run meter/2, by rollout r-1. It refused that 4 min ago for
        latency (12.4 ms measured, 8 ms allowed). meter/1 goes on serving.
        It will not try again by itself. It takes a faster model, a larger
        budget, or a device less busy.
        """,
    ),
    "refused for memory": (
        GATEWAY,
        _shadow(
            None,
            refused=_refusal("memory", measured=2e6, allowed=9000, what="too large."),
        ),
        [],
        """
        gw-1 is online. It runs no meter. It should run meter/2, by rollout
        r-1. It refused that 4 min ago for memory: too large (2,000 kB
        measured, 9000 B allowed). It will not try again by itself. It takes
        a smaller model or a larger budget.
        """,
    ),
    "refused by a newer agent": (
        GATEWAY,
        _shadow(refused=_refusal("too-hot")),
        [],
        """
        gw-1 is online. It runs meter/1, since 2025-12-31 23:00:00 UTC. It
        should run meter/2, by rollout r-1. It refused that 4 min ago for
        too-hot. meter/1 goes on serving. It will not try again by itself.
        Publish a release that holds.
        """,
    ),
    "downloading": (
        GATEWAY,
        _shadow(update={"meter": {"version": 2, "phase": "downloading"}}),
        [],
        """
        gw-1 is online. It runs meter/1, since 2025-12-31 23:00:00 UTC. It
        should run meter/2, by rollout r-1. It is downloading it right now.
        """,
    ),
    "on probation": (
        GATEWAY,
        _shadow(2, entry={"probation": True}),
        [],
        """
        gw-1 is online. It runs meter/2, since 2025-12-31 23:00:00 UTC,
        still on probation. That is what it should run, by rollout r-1. If
        it fails in that time it goes back by itself.
        """,
    ),
    "retrying": (
        GATEWAY,
        _shadow(
            refused=_refusal("unreachable", what="no route"),
            update={
                "meter": {
                    "version": 2,
                    "phase": "waiting",
                    "attempt": 3,
                    "retry_at_ms": NOW_MS + 40_000,
                }
            },
        ),
        [],
        """
        gw-1 is online. It runs meter/1, since 2025-12-31 23:00:00 UTC. It
        should run meter/2, by rollout r-1. Attempt 3 did not work
        (unreachable: no route); it tries again at 2026-01-01 00:00:40 UTC,
        in 40 s.
        """,
    ),
    "no answer yet": (
        GATEWAY,
        _shadow(),
        [_rollout(Outcome.SENT)],
        """
        gw-1 is online. It runs meter/1, since 2025-12-31 23:00:00 UTC. It
        should run meter/2, by rollout r-1. It has not answered yet; it
        begins within moments.
        """,
    ),
    "no model for it": (
        GATEWAY,
        _shadow(agent={"level": 1, "target": "jetson"}),
        [],
        """
        gw-1 is online. It runs meter/1, since 2025-12-31 23:00:00 UTC. It
        should run meter/2, by rollout r-1. The release has no model for its
        target jetson.
        """,
    ),
    "an agent too old": (
        GATEWAY,
        _shadow(agent={"level": 0, "target": "pi"}),
        [],
        """
        gw-1 is online. It runs meter/1, since 2025-12-31 23:00:00 UTC. It
        should run meter/2, by rollout r-1. Its agent understands level 0
        and the release needs 1: upgrade Skerry on the device.
        """,
    ),
    "superseded": (
        GATEWAY,
        _shadow(1, 1, "r-9"),
        [_rollout(Outcome.SUPERSEDED)],
        """
        gw-1 is online. It runs meter/1, since 2025-12-31 23:00:00 UTC. That
        is what it should run, by rollout r-9. Rollout r-1 of meter/2 no
        longer concerns it: its shadow was changed since.
        """,
    ),
    "being undone": (
        GATEWAY,
        _shadow(2, 1),
        [_rollout(Outcome.UNDOING, RolloutState.UNDOING, reason="undone by ann")],
        """
        gw-1 is online. It runs meter/2, since 2025-12-31 23:00:00 UTC. It
        should run meter/1, by rollout r-1. It has not answered yet; it
        begins within moments. Rollout r-1 is taking it back from meter/2:
        undone by ann.
        """,
    ),
    "no longer wanted": (
        GATEWAY,
        _shadow(1, None),
        [],
        """
        gw-1 is online. It runs meter/1, since 2025-12-31 23:00:00 UTC. Its
        shadow wants none of that name any more: what it has serves on.
        """,
    ),
    "to update once it enrols": (
        replace(GATEWAY, enrolled_at_ms=None, is_online=False),
        _shadow(None),
        [_rollout(Outcome.SENT)],
        """
        gw-1 is registered but has not enrolled yet: start its gateway with
        its one-time token. It runs no meter. It should run meter/2, by
        rollout r-1. Not yet, since it has not enrolled; then it begins.
        """,
    ),
    "superseded long ago": (
        GATEWAY,
        _shadow(1, 1, "r-9"),
        [_rollout(Outcome.UPDATED), _rollout(Outcome.SUPERSEDED)],
        """
        gw-1 is online. It runs meter/1, since 2025-12-31 23:00:00 UTC. That
        is what it should run, by rollout r-9.
        """,
    ),
    "could not go back": (
        GATEWAY,
        _shadow(2, 2),
        [_rollout(Outcome.UNDOING, RolloutState.STOPPED, reason="1 could not")],
        """
        gw-1 is online. It runs meter/2, since 2025-12-31 23:00:00 UTC. That
        is what it should run, by rollout r-1. Rollout r-1 could not take it
        back from meter/2: 1 could not.
        """,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_paragraph_says_it(case: str) -> None:
    """What it runs, what it should, why not yet, what happens next."""
    device, shadow, rollouts, expected = CASES[case]
    paragraph = why(device, shadow, rollouts, manifests={TWO: MANIFEST}, now_ms=NOW_MS)
    assert paragraph == " ".join(expected.split())


def test_time_is_said_coarsely() -> None:
    """Seconds, minutes, hours, days; never is said where it never was."""
    spans = [5, 119, 120, 7199, 7200, 172_799, 172_800]
    assert [ago(0, span * 1000) for span in spans] == [
        "5 s",
        "119 s",
        "2 min",
        "119 min",
        "2 h",
        "47 h",
        "2 days",
    ]
    assert ago(None, 5) == "never"
    assert ago(9000, 0) == "0 s"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "meter",
                    "version",
                    "since_ms",
                    "reason",
                    "release",
                    "phase",
                    "measured",
                    "allowed",
                    "at_ms",
                    "retry_at_ms",
                    "attempt",
                    "rollout",
                ]
            ),
            inner,
        )
    ),
    max_leaves=12,
)
SIDES = st.dictionaries(
    st.sampled_from(["releases", "refused", "update", "agent", "drift"]), JSON
)


@given(desired=SIDES, reported=SIDES)
def test_whatever_a_device_says_there_is_a_paragraph(
    desired: dict[str, Any], reported: dict[str, Any]
) -> None:
    """A shadow of any shape is explained, never tripped over."""
    shadow = Shadow(device="gw-1", desired=desired, reported=reported)
    rollouts = [_rollout(Outcome.SENT)]
    assert why(GATEWAY, shadow, rollouts, manifests={TWO: MANIFEST}, now_ms=NOW_MS)
