from __future__ import annotations

import io
import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from benchmarks import _harness
from benchmarks.__main__ import main
from benchmarks._harness import Measured, Outcome, compare_with_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS = {
    "speed": {
        "drop": {"what": "accuracy lost", "unit": "points", "at_most": 1.0},
        "ratio": {"what": "times faster", "unit": "×", "at_least": 3.0},
    }
}
DROP = Measured(id="drop", figure=1.0, n=9, interval=(0.5, 1.5), peer="theirs 1.0")
RATIO = Measured(id="ratio", figure=2.9, n=9)


def draw(figure: Figure) -> None:
    """Draw something."""
    figure.subplots().plot([1, 2], [3, 4])


OUTCOME = Outcome(
    rows=[{"who": "ours", "ms": 1.23456}, {"who": "theirs", "note": "missing"}],
    measured=[RATIO, DROP],
    draw=draw,
)


def test_a_bar_holds_at_its_limit_and_fails_past_it() -> None:
    """`at_most` and `at_least` look in opposite directions."""
    drop, ratio = compare_with_bars("speed", [RATIO, DROP], BARS)
    assert (drop.id, drop.limit, drop.holds) == ("drop", 1.0, True)
    assert (ratio.id, ratio.limit, ratio.holds) == ("ratio", 3.0, False)


def test_what_could_not_be_measured_does_not_hold() -> None:
    """Nor does it fail: the table says that it was not measured."""
    missing = Measured(id="ratio", figure=None, n=0, peer="theirs (missing)")
    _, bar = compare_with_bars("speed", [DROP, missing], BARS)
    assert bar.holds is None
    assert _harness.bar_cells(bar)[-2:] == ["theirs (missing)", "not measured"]


def test_a_bar_with_a_condition_that_fails_does_not_hold() -> None:
    """However good its figure is; the verdict says what was asked for."""
    lucky = replace(DROP, unmet="60 % of layers are INT8")
    bar, _ = compare_with_bars("speed", [lucky, RATIO], BARS)
    assert bar.holds is False
    assert _harness.bar_cells(bar)[-1] == "NO: 60 % of layers are INT8"


@pytest.mark.parametrize(
    "measured", [[DROP], [DROP, RATIO, Measured(id="x", figure=1, n=1)]]
)
def test_bars_and_figures_must_match(measured: list[Measured]) -> None:
    """No bar is left out silently, and no figure is reported without one."""
    with pytest.raises(ValueError, match="bars are"):
        compare_with_bars("speed", measured, BARS)


def test_a_benchmark_writes_prints_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The result file has the documented form, and names no machine."""
    toml = tmp_path / "bars.toml"
    toml.write_text(
        "[speed.drop]\nwhat='accuracy lost'\nunit='points'\nat_most=1.0\n"
        "[speed.ratio]\nwhat='times faster'\nunit='×'\nat_least=3.0\n"
    )
    monkeypatch.setattr(_harness, "BARS", toml)
    asked = []

    def measure(quick: bool) -> Outcome:  # noqa: FBT001 - as the harness calls it
        asked.append(quick)
        return OUTCOME

    path = tmp_path / "out" / "speed.json"
    _harness.run_benchmark("speed", measure, ["--quick", "--json", str(path)])
    assert asked == [True]
    result = json.loads(path.read_text())
    assert set(result) == {"name", "machine", "rows", "bars"}
    assert result["rows"] == OUTCOME.rows
    assert result["machine"]["cores"] >= 1
    assert [bar["holds"] for bar in result["bars"]] == [True, False]
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "accuracy lost" in capsys.readouterr().out


def test_a_bar_measured_again_replaces_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and the other bars stay as they were."""
    bars = tmp_path / "bars.toml"
    bars.write_text(
        "".join(
            f'[speed."{key}"]\n'
            + "".join(f"{word} = {json.dumps(one)}\n" for word, one in bar.items())
            for key, bar in BARS["speed"].items()
        )
    )
    monkeypatch.setattr(_harness, "BARS", bars)
    path = tmp_path / "speed.json"
    _harness.publish("speed", OUTCOME, path)
    before = json.loads(path.read_text())
    _harness.replace_bars("speed", [replace(RATIO, figure=3.5)], path)
    after = json.loads(path.read_text())
    assert [bar["figure"] for bar in after["bars"]] == [1.0, 3.5]
    assert after["bars"][1]["holds"]
    assert (after["rows"], after["bars"][0]) == (before["rows"], before["bars"][0])
    with pytest.raises(ValueError, match="other"):
        _harness.replace_bars("speed", [replace(RATIO, id="other")], path)


def test_the_table_shows_every_column() -> None:
    """Also one that only a later row has."""
    text = io.StringIO()
    result = _harness.Result(name="speed", machine={}, rows=OUTCOME.rows, bars=[])
    _harness.print_result(result, Console(file=text, width=100))
    assert "note" in text.getvalue()
    assert "1.235" in text.getvalue()


def test_the_shipped_bars_are_well_formed() -> None:
    """Each has words, a unit and exactly one limit, and belongs to a benchmark."""
    folder = _harness.BARS.parent
    for name, bars in tomllib.loads(_harness.BARS.read_text()).items():
        assert (folder / f"{name}.py").exists()
        for bar in bars.values():
            assert set(bar) - {"at_most", "at_least"} == {"what", "unit"}
            assert len(bar) == 3


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """With the known ones, and before anything runs."""
    assert main(["zebra"]) == 2
    assert "no benchmark 'zebra'" in capsys.readouterr().err


def test_a_benchmark_that_fails_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit code is passed on."""
    failed = subprocess.CompletedProcess([sys.executable], 7)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr(Path, "glob", lambda *_: [Path("speed.py")])
    assert main([]) == 7
