"""What training brings beside quantization, and the tuner that finds the recipe.

    python -m benchmarks.compress_train [--quick] [--work DIR] [--part PART,…]
                                        [--seeds N] --json OUT.json

Trained nets, the grid of recipes and the tuner's experiment stay in the work folder,
and so does what each part came to: a run measures the parts that are not there yet, and
with `--part` these alone, anew, from the nets that are there. So nets may be trained at
any time, and timed later on a quiet machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from benchmarks import (
    _train_distil,
    _train_prune_channels,
    _train_prune_layers,
    _train_prune_pixels,
    _train_qat,
    _train_tune,
)
from benchmarks._found import Found
from benchmarks._harness import Measured, Outcome, Row, command_line, publish
from benchmarks._train_net import SEEDS
from benchmarks._train_plot import draw
from skerry.core.durable import make_folder, write_file
from skerry.core.names import did_you_mean

NAME = "compress_train"
WORK = Path("out/bench/train")

Part = Callable[..., tuple[list[Row], Measured | list[Measured]]]
PARTS: dict[str, tuple[Part, tuple[str, ...]]] = {
    "qat": (_train_qat.measure, ("train.qat.lsb_off", "train.qat.int4_lost")),
    "channels": (_train_prune_channels.measure, ("train.prune.lost_at_2x",)),
    "layers": (_train_prune_layers.measure, ("train.prune.layers_speedup",)),
    "pixels": (_train_prune_pixels.measure, ("train.resolution.rows",)),
    "distil": (_train_distil.measure, ("train.distil.gap_closed",)),
    "tuner": (_train_tune.measure_tuner, ("train.tuner.vs_random",)),
    "combined": (_train_tune.measure_combined, ("train.combined.speedup",)),
}
"""By name, what measures a part, and its bars."""

SEEDED = ("qat", "channels", "layers", "distil", "combined")
"""The parts that are trained once a seed."""


def measure(
    work: Path, asked: Sequence[str], *, quick: bool, seeds: int = SEEDS
) -> Outcome:
    """Measure some parts, and tell what is known of all.

    Args:
        work: What is kept.
        asked: The parts to measure; none for those that were not measured yet.
        quick: One seed, fewer pictures and epochs.
        seeds: With how many seeds parts are trained.
    """
    rows: list[Row] = []
    measured: list[Measured] = []
    for name in PARTS:
        path = work / "found" / f"{name}{'-quick' * quick}.json"
        if name in asked or not (asked or path.exists()):
            found = _measured(name, work, quick=quick, seeds=seeds)
            make_folder(path.parent)
            write_file(path, msgspec.json.encode(found))
        elif path.exists():
            found = msgspec.json.decode(path.read_bytes(), type=Found)
        else:
            found = _nothing(name)
        rows += [{"part": name, **row} for row in found.rows]
        measured += found.measured
    return Outcome(rows=rows, measured=measured, draw=partial(draw, rows))


def _measured(name: str, work: Path, *, quick: bool, seeds: int) -> Found:
    make_folder(work)
    more = {"seeds": seeds} if name in SEEDED else {}
    rows, figures = PARTS[name][0](work, quick=quick, **more)
    one = isinstance(figures, Measured)
    return Found(rows=rows, measured=[figures] if one else figures)


def _nothing(name: str) -> Found:
    why = "not measured yet"
    bars = PARTS[name][1]
    return Found(
        measured=[Measured(id=one, figure=None, n=0, unmet=why) for one in bars]
    )


def find_parts(text: str) -> list[str]:
    """The parts that the command line asks for.

    Raises:
        SystemExit: It asks for one that there is not.
    """
    asked = [name for name in text.split(",") if name]
    for name in asked:
        if name not in PARTS:
            sys.exit(f"there is no part {name!r}. {did_you_mean(name, PARTS)}")
    return asked


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for, and write all that is known."""
    parser = command_line(NAME)
    parser.add_argument("--work", type=Path, default=WORK, help="what is kept")
    parser.add_argument("--part", default="", metavar="PART,…", help="of the parts")
    parser.add_argument(
        "--seeds", type=int, choices=range(1, SEEDS + 1), default=SEEDS, help="of three"
    )
    chosen = parser.parse_args(arguments)
    asked = find_parts(chosen.part)
    outcome = measure(chosen.work, asked, quick=chosen.quick, seeds=chosen.seeds)
    publish(NAME, outcome, chosen.json)


if __name__ == "__main__":
    main()
