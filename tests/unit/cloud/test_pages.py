from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.cloud.pages import LogLine, Overview, overview, render
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

NOW_MS = 1_767_225_600_000
EVIL = "<script>alert(1)</script>\"'&"


def _device(name: str, **more: Any) -> Device:
    known: dict[str, Any] = {"created_at_ms": 1, "enrolled_at_ms": 2}
    known |= {"last_seen_ms": NOW_MS - 5000, "is_online": True}
    return Device(name=name, **known | more)


def _shadow(name: str, runs: int, wants: int, **more: Any) -> Shadow:
    entry = {"version": runs, "since_ms": NOW_MS, "probation": False}
    return Shadow(
        device=name,
        desired={"releases": {"meter": {"version": wants, "rollout": "r-1"}}},
        reported={
            "agent": {"target": "any", "address": "http://127.0.0.1:8001"},
            "releases": {"meter": entry},
            **more,
        },
    )


def _manifest(version: int, notes: str) -> Manifest:
    blob = Blob(sha256="0" * 64, size_bytes=432_000)
    return Manifest(
        name="meter",
        version=version,
        created_at_ms=NOW_MS,
        models=(
            ReleaseModel(
                target="any", runtime="onnxruntime", blob=blob, inputs=(), outputs=()
            ),
        ),
        golden=blob,
        task=blob,
        notes=notes,
    )


REFUSAL = {
    "release": "meter/2",
    "reason": "latency",
    "what": f"too slow {EVIL}",
    "measured": 31.07,
    "allowed": 8.0,
    "rollout": "r-1",
}
ROLLOUT = Rollout(
    id="r-1",
    release=ReleaseId(name="meter", version=2),
    waves=(Wave(devices=("gw-1",)), Wave(devices=("gw-2", "gw-3"))),
    state=RolloutState.RUNNING,
    wave=1,
    reason=EVIL,
    progress={
        "gw-1": DeviceProgress(outcome=Outcome.UPDATED),
        "gw-2": DeviceProgress(outcome=Outcome.REFUSED, reason=EVIL),
        "gw-3": DeviceProgress(outcome=Outcome.SENT),
    },
    started_at_ms=NOW_MS - 60_000,
)


def make_overview() -> Overview:
    """Make a fleet in which each thing that the page can show happens."""
    drift = {"meter": {"is_drift": True, "since_ms": NOW_MS - 9000, "samples_sent": 1}}
    fleet = [
        (_device("gw-1", labels={"site": EVIL}), _shadow("gw-1", 2, 2, drift=drift)),
        (_device("gw-2"), _shadow("gw-2", 1, 2, refused={"meter": REFUSAL})),
        (
            _device("gw-3", is_online=False),
            _shadow("gw-3", 1, 2, update={"meter": {"phase": "downloading"}}),
        ),
        (_device("gw-4", enrolled_at_ms=None, is_online=False), Shadow(device="gw-4")),
        (
            _device("gw-5", last_seen_ms=None, is_online=False),
            Shadow(device="gw-5"),
        ),
    ]
    return overview(
        fleet,
        rollouts=[ROLLOUT],
        releases=[_manifest(2, EVIL), _manifest(1, "first")],
        log=[
            LogLine(
                device="gw-2",
                at_ms=NOW_MS,
                name="release.refused",
                fields={"reason": EVIL, "what": "x" * 300, "none": None},
            )
        ],
        tenant="main",
        now_ms=NOW_MS,
    )


class _Tags(HTMLParser):
    """Counts tags, and checks that each that opens is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_page_says_what_the_fleet_does() -> None:
    """Who is there, what each runs and should, refusals, drift, waves, events."""
    text = _text(render(make_overview()))
    for expected in (
        "2 of 5 devices online, 1 running what they should. One rollout under way.",
        "31.1 ms measured, 8 ms allowed",
        "input has drifted for 9 s, 1 sample sent",
        "offline for 5 s",
        "not enrolled",
        "never online",
        "Wave 2 (now)",
        "1 of 3 updated",
        "432 kB",
        "release.refused",
    ):
        assert expected in text


def test_everything_is_escaped_and_nothing_runs() -> None:
    """What a device, an operator or a publisher wrote is text, wherever it stands."""
    page = render(make_overview())
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert "script" not in tags.seen
    assert page.count("&lt;script&gt;alert(1)") >= 5
    assert '<meta http-equiv="refresh" content="5">' in page


def test_an_empty_hub_has_a_page() -> None:
    """It says what to do first."""
    page = overview([], rollouts=[], releases=[], log=[], tenant="main", now_ms=0)
    assert "No device yet" in render(page)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["meter", "version", "since_ms", "reason", "phase", "is_drift"]
            ),
            inner,
        )
    ),
    max_leaves=10,
)
SIDES = st.dictionaries(
    st.sampled_from(["releases", "refused", "update", "agent", "drift"]), JSON
)


@settings(max_examples=60)
@given(desired=SIDES, reported=SIDES)
def test_whatever_a_device_says_there_is_a_page(
    desired: dict[str, Any], reported: dict[str, Any]
) -> None:
    """A shadow of any shape is shown, never tripped over."""
    shadow = Shadow(device="gw-1", desired=desired, reported=reported)
    page = overview(
        [(_device("gw-1"), shadow)],
        rollouts=[],
        releases=[],
        log=[],
        tenant="main",
        now_ms=NOW_MS,
    )
    assert render(page).endswith("</html>")
