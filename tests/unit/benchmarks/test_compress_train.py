from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from benchmarks import compress_train
from benchmarks._harness import BARS as FILE
from benchmarks._harness import Measured, Row
from benchmarks._train_plot import DRAWN, draw
from benchmarks.compress_train import Part, find_parts, measure

BARS = {"one": ("bar.one",), "two": ("bar.two", "bar.three")}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Two parts that count how often they are measured."""
    counts = dict.fromkeys(BARS, 0)

    def part(name: str) -> Callable[..., tuple[list[Row], list[Measured]]]:
        def run(work: Path, *, quick: bool) -> tuple[list[Row], list[Measured]]:
            assert work.is_dir()
            assert quick
            counts[name] += 1
            row: Row = {"what": name, "figure": float(counts[name])}
            return [row], [Measured(id=one, figure=1.0, n=3) for one in BARS[name]]

        return run

    parts = {name: (part(name), bars) for name, bars in BARS.items()}
    monkeypatch.setattr(compress_train, "PARTS", parts)
    return counts


def test_what_was_measured_is_told_again(runs: dict[str, int], tmp_path: Path) -> None:
    """A second run without `--part` measures nothing, and says the same."""
    first, second = (measure(tmp_path, (), quick=True) for _ in range(2))
    assert runs == {"one": 1, "two": 1}
    assert second.rows == first.rows
    assert list(second.measured) == list(first.measured)


def test_a_part_that_is_asked_for_is_measured_anew(
    runs: dict[str, int], tmp_path: Path
) -> None:
    """It alone; the others are told as they were."""
    measure(tmp_path, (), quick=True)
    outcome = measure(tmp_path, ["two"], quick=True)
    assert runs == {"one": 1, "two": 2}
    assert [row["figure"] for row in outcome.rows] == [1.0, 2.0]


def test_a_part_that_was_never_run_says_so(
    runs: dict[str, int], tmp_path: Path
) -> None:
    """Its bars have no figure."""
    outcome = measure(tmp_path, ["two"], quick=True)
    assert runs == {"one": 0, "two": 1}
    told = {one.id: (one.figure, one.unmet) for one in outcome.measured}
    assert told["bar.one"] == (None, "not measured yet")
    assert told["bar.two"] == (1.0, "")


def test_parts_that_train_are_told_with_how_many_seeds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The others know of none."""
    told: dict[str, dict[str, object]] = {}

    def note(name: str) -> Part:
        def run(_: Path, **said: object) -> tuple[list[Row], list[Measured]]:
            told[name] = said
            return [], []

        return run

    parts = {name: (note(name), ()) for name in ("qat", "pixels")}
    monkeypatch.setattr(compress_train, "PARTS", parts)
    measure(tmp_path, (), quick=False, seeds=1)
    assert told == {"qat": {"quick": False, "seeds": 1}, "pixels": {"quick": False}}


def test_a_part_that_there_is_not_is_refused() -> None:
    """With the nearest name."""
    assert find_parts("qat,tuner") == ["qat", "tuner"]
    with pytest.raises(SystemExit, match="tuner"):
        find_parts("tunner")


def test_all_bars_belong_to_a_part() -> None:
    """Each bar of the table to one."""
    bars = [bar for _, bars in compress_train.PARTS.values() for bar in bars]
    assert sorted(bars) == sorted(tomllib.loads(FILE.read_text())["compress_train"])


def test_what_is_not_there_is_drawn_as_that() -> None:
    """Each field has its points, or says that it has none."""
    figure = Figure()
    rows: list[Row] = [
        {
            "part": "channels",
            "what": "points lost, ours",
            "figure": 0.3,
            "× as fast": 2,
        },
        {
            "part": "pixels",
            "what": "mAP",
            "net": "a net, 224",
            "figure": 0.3,
            "ms": 9.0,
        },
    ]
    draw(rows, figure)
    said = [[one.get_text() for one in axes.texts] for axes in figure.axes]
    missing = dict(zip(DRAWN, said, strict=True))
    assert missing["channels"] == ["ours"]
    assert missing["pixels"] == ["224"]
    others = {one for one in DRAWN if one not in {"channels", "pixels"}}
    assert all(missing[one] == ["not measured"] for one in others)


def test_points_lost_are_those_of_the_same_seeds() -> None:
    """A way that one seed alone took is set beside that seed's original."""
    scores = {"float32": [91.0, 95.0], "INT4": [90.0, 94.0], "INT4 once": [90.5]}
    rows: list[Row] = [
        {"part": "qat", "what": what, "figure": one, "unit": "% top-1"}
        for what, all_seeds in scores.items()
        for one in all_seeds
    ]
    figure = Figure()
    draw(rows, figure)
    axes = dict(zip(DRAWN, figure.axes, strict=True))["qat"]
    assert [bar.get_width() for bar in axes.patches] == [1.0, 0.5]
