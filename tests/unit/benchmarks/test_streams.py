from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks import streams
from benchmarks._harness import BARS, compare_with_bars
from benchmarks._streams_footage import (
    COLUMNS,
    FRAMES_PER_S,
    PERIOD_S,
    ROWS,
    SHARE,
    is_active,
    read_frames,
    scene,
    write,
)
from benchmarks._streams_stage import Ran
from benchmarks._streams_teacher import Missed, follow, missed_events
from benchmarks.streams import STAGES
from skerry.core.config import read_toml
from skerry.edge.streams.figures import StreamFigures
from skerry.edge.streams.tracks import Seen
from tests.videos import walk


def test_every_bar_has_a_figure_even_where_nothing_was_measured() -> None:
    """The bars of the issue's table; the plot stands it, too."""
    found = {name: STAGES.nothing(name, "not yet") for name in STAGES.parts}
    measured = [one for part in found.values() for one in part.measured]
    bars = compare_with_bars("streams", measured, read_toml(BARS))
    assert {bar.holds for bar in bars} == {None}
    assert {bar.id for bar in bars} >= {"streams.quiet.p99_ms", "streams.unblurred"}
    streams.draw(found, Figure())


def test_a_quiet_camera_is_active_a_fifth_of_the_time() -> None:
    """And of all cameras a fifth is, at any time."""
    times = np.arange(0, PERIOD_S, 0.1)
    assert np.mean([is_active(3, at, "quiet") for at in times]) == SHARE
    assert np.mean([is_active(n, 1.0, "quiet") for n in range(50)]) == SHARE
    assert all(is_active(3, at, "busy") for at in times)
    assert not any(is_active(3, at, "idle") for at in times)


def test_a_camera_is_made_of_a_video(tmp_path: Path) -> None:
    """Of our size and rate, and two cameras of one video differ."""
    frames = np.stack(list(walk(20)))
    path = tmp_path / "a.mkv"
    write(path, scene(frames, 1, "busy", 2.0))
    made = read_frames(path)
    assert made.shape == (2 * FRAMES_PER_S, ROWS, COLUMNS, 3)
    other = next(scene(frames, 5, "busy", 2.0))
    assert np.abs(made[0].astype(int) - other).mean() > 5


def _ran(*told: tuple[str, float]) -> Ran:
    events = [
        {"name": "stream.appeared", "camera": camera, "at_ms": 1000 + 1000 * at_s}
        for camera, at_s in told
    ]
    figures = StreamFigures(level="full", capacity=1.0, costs_ms={})
    return Ran(
        seconds=10,
        cpu_s=1,
        events=events,
        begun_ms={"c00": 1000, "c01": 1000},
        figures=figures,
    )


def test_an_event_is_missed_where_none_was_told_of_about_then() -> None:
    """Each that was told of stands for one of the teacher's, on its own camera."""
    truth = {"00.mkv": [1.0, 1.2, 8.0, 9.0], "01.mkv": [5.0]}
    ran = _ran(("c00", 1.4), ("c00", 2.0), ("c00", 5.0), ("c01", 20.0))
    found = missed_events(truth, ran, seconds=11.5, since_s=0.0)
    assert found == Missed(missed=2, known=4, spare=2)  # none of them too near the end
    found = missed_events(truth, ran, seconds=11.5)
    assert found == Missed(missed=2, known=2, spare=2)


def test_the_teacher_counts_those_whom_it_saw_often_and_surely() -> None:
    """Five pictures with the score; who came and went is none."""

    def look(*scores: float) -> list[Seen]:
        return [
            Seen(region=(0.3 * n, 0.1, 0.3 * n + 0.1, 0.5), score=score, label="person")
            for n, score in enumerate(scores)
        ]

    looks = [look(0.9, 0.55)] * 8
    assert follow(looks, 0.6) == [0.2]
    assert follow(looks, 0.0) == [0.2, 0.2]
    assert follow(looks[:3], 0.0) == []
