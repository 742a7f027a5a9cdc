"""What training brings beside quantization, and the tuner that finds the recipe.

`python -m benchmarks.compress_train --json OUT.json [--quick]`: trained
nets, the grid of recipes and the tuner's experiment stay in `--work`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import _train_distil, _train_prune, _train_qat, _train_tune
from benchmarks._harness import Measured, Outcome, Row, command_line, publish

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "compress_train"
WORK = Path("out/bench/train")

Part = Callable[..., tuple[list[Row], list[Measured]]]
PARTS: dict[str, Part] = {
    "qat": _train_qat.measure,
    "prune": _train_prune.measure,
    "distil": _train_distil.measure,
    "tune": _train_tune.measure,
}


def measure(work: Path, *, quick: bool) -> Outcome:
    """Measure every part."""
    rows: list[Row] = []
    measured: list[Measured] = []
    for name, part in PARTS.items():
        work.mkdir(parents=True, exist_ok=True)
        found, figures = part(work, quick=quick)
        rows += [{"part": name, **row} for row in found]
        measured += figures
    return Outcome(rows=rows, measured=measured, draw=lambda figure: draw(rows, figure))


def draw(rows: Sequence[Row], figure: Figure) -> None:
    """The room that each sampler's front covers."""
    axes = figure.subplots()
    found = [
        (str(row["what"]).rpartition(", ")[2], row["figure"])
        for row in rows
        if str(row["what"]).startswith("hypervolume") and row.get("figure") is not None
    ]
    axes.bar([name for name, _ in found], [float(value or 0) for _, value in found])
    axes.set_ylabel("share of the budget's room covered")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = command_line(NAME)
    parser.add_argument("--work", type=Path, default=WORK, help="what is kept")
    chosen = parser.parse_args(arguments)
    publish(NAME, measure(chosen.work, quick=chosen.quick), chosen.json)


if __name__ == "__main__":
    main()
