"""Formats: our TFLite files beside ONNX, in Arm's compiler and on LiteRT.

    python -m benchmarks.formats [--quick] [--work DIR] --json OUT.json

MLPerf Tiny's nets and a depthwise net, quantized by our own step and exported, and
MLPerf's own INT8 files, imported and exported again. Vela and TensorFlow's converter
run in their toolchain environments (`skerry toolchain install vela`, and
`… tensorflow-onnx`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import _formats_codes as codes
from benchmarks import _formats_latency as latency
from benchmarks._formats_nets import COMPRESSED, IMPORTED, Exported, export, missing
from benchmarks._found import tell
from benchmarks._harness import Measured, Outcome, Row, command_line, publish
from skerry.adapt.target_files import load_target, target_names
from skerry.app.pipelines.vela import VelaToolchain
from skerry.core.errors import SkerryError
from skerry.core.seams import Tensors
from skerry.runtimes import open_any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "formats"
WORK = Path("build/bench")
SAMPLES = 300
QUICK_SAMPLES = 10
REPEATS = 200
QUICK_REPEATS = 20
_REFERENCE, _DEFAULT = "reference kernels", "default kernels"
_BOTH = "default ÷ reference"


def row(what: str, net: str, **values: str | float | None) -> Row:
    """A line of the table."""
    columns = ("figure", "unit", "n", "note")
    known: Row = {"what": what, "net": net}
    return known | {name: values.get(name) for name in columns}


def measure(work: Path, *, quick: bool) -> Outcome:
    """Make the nets, then look at each bar."""
    rows: list[Row] = []
    nets: list[Exported] = []
    for name in (*COMPRESSED, *IMPORTED):
        if (why := missing(name, work)) is not None:
            rows.append(row("net", name, note=why))
            continue
        tell(f"{name}: graph and file")
        count = QUICK_SAMPLES if quick else SAMPLES
        nets.append(export(name, work, count=count, quick=quick))
    found = {}
    for one in nets:
        if one.samples is None:
            rows.append(row("codes", one.name, note="no samples at hand"))
        else:
            found[one.name] = _compared(one, one.samples(), rows)
    measured = [
        _lsb_bar(found),
        _vela_bar(nets, rows),
        _latency_bar(nets, work, rows, quick=quick),
    ]
    return Outcome(rows=rows, measured=measured, draw=partial(draw, found))


def _compared(
    net: Exported, samples: Iterable[Tensors], rows: list[Row]
) -> codes.Compared:
    tell(f"{net.name}: codes")
    found = codes.compare(net, samples)
    what = "codes off by more than one"
    rows += [
        *(
            row(
                f"{what}: each operator, {kernels}",
                net.name,
                figure=offs.share(2),
                unit="%",
                n=offs.n,
                note=_off_by_one(offs, found.begins[kernels]),
            )
            for kernels, offs in found.operators.items()
        ),
        *(
            row(
                f"{what}: end to end, {kernels}",
                net.name,
                figure=one.share(2),
                unit="%",
                n=one.n,
                note=f"same answer: {100 * found.same_answer[kernels]:.4g} %"
                if kernels in found.same_answer
                else "LiteRT beside itself",
            )
            for kernels, one in found.whole.items()
        ),
    ]
    return found


def _off_by_one(offs: codes.Offs, begins: str) -> str:
    said = f"off by one: {offs.share(1) - offs.share(2):.2g} %"
    return f"{said}; first at {begins}" if begins else said


def _lsb_bar(found: Mapping[str, codes.Compared]) -> Measured:
    """The bar's figure, and beside it what becomes of it from end to end."""
    ours = {name: one for name, one in found.items() if name in COMPRESSED}
    lacking = [name for name in COMPRESSED if name not in found]

    def worst(kernels: str) -> float:
        return max((one.whole[kernels].share(2) for one in ours.values()), default=0.0)

    return Measured(
        id="formats.tflite.lsb_off",
        figure=max(
            (one.operators[_REFERENCE].share(2) for one in ours.values()), default=None
        ),
        n=sum(one.operators[_REFERENCE].n for one in ours.values()),
        peer="none; from end to end, worst net: "
        f"{worst(_REFERENCE):.4g} % on these kernels, {worst(_DEFAULT):.4g} % on the "
        f"default ones, and LiteRT's two sets {worst(_BOTH):.4g} % from each other",
        unmet=f"not measured: {', '.join(lacking)}" if lacking and found else "",
    )


def _vela_bar(nets: Sequence[Exported], rows: list[Row]) -> Measured:
    vela = VelaToolchain()
    targets = [load_target(name) for name in target_names() if name.startswith("ethos")]
    total, count = 0, 0
    for net in nets:
        for target in targets:
            tell(f"{net.name}: Vela for {target.name}")
            try:
                compiled = vela.compile(open_any(net.path), target)
            except SkerryError as error:
                rows.append(row("Vela", net.name, note=f"{target.name}: {error}"))
                return Measured(
                    id="formats.tflite.vela_cpu_ops",
                    figure=None,
                    n=count,
                    peer=f"vela ({error})",
                )
            falls = [one.name for one in compiled.fallbacks]
            total, count = total + len(falls), count + 1
            rows.append(
                row(
                    f"operators on the CPU, {target.name}",
                    net.name,
                    figure=len(falls),
                    unit="operators",
                    n=len(compiled.operators),
                    note=", ".join(falls)
                    or f"{compiled.time_ms:.3g} ms by Vela's word",
                )
            )
    return Measured(
        id="formats.tflite.vela_cpu_ops",
        figure=float(total) if count else None,
        n=count,
        peer=vela.version if count else "vela (missing)",
    )


def _latency_bar(
    nets: Sequence[Exported], work: Path, rows: list[Row], *, quick: bool
) -> Measured:
    why = latency.missing()
    paths = {one.name: one.path for one in nets}
    ratios = []
    for name in latency.SOURCES if why is None else ():
        if name not in paths:
            continue
        tell(f"{name}: LiteRT, beside TensorFlow's converter")
        theirs = latency.converted(name, work, quick=quick)
        repeats = QUICK_REPEATS if quick else REPEATS
        found, ours_ms, theirs_ms = latency.compare(
            paths[name], theirs, repeats=repeats
        )
        ratios.append(found)
        rows.append(
            row(
                "LiteRT's CPU time ÷ that of TensorFlow's converter's file",
                name,
                figure=found.median,
                unit="×",
                n=repeats,
                note=f"{ours_ms:.3g} ÷ {theirs_ms:.3g} ms",
            )
        )
    worst = max(ratios, key=lambda one: one.median, default=None)
    return Measured(
        id="formats.tflite.litert_latency",
        figure=None if worst is None else worst.median,
        n=len(ratios) * (QUICK_REPEATS if quick else REPEATS),
        interval=None if worst is None else (worst.low, worst.high),
        peer=why or "TensorFlow's converter, tensorflow-cpu 2.19.1",
    )


def draw(found: Mapping[str, codes.Compared], figure: Figure) -> None:
    """How far codes are off: each operator, and end to end by both sets of kernels."""
    axes = figure.subplots()
    bars = {
        f"each operator, {_REFERENCE}": [
            c.operators[_REFERENCE] for c in found.values()
        ],
        **{
            f"end to end, {kernels}": [c.whole[kernels] for c in found.values()]
            for kernels in (_REFERENCE, _DEFAULT)
        },
        "LiteRT's kernels beside each other": [c.whole[_BOTH] for c in found.values()],
    }
    width = 0.8 / len(bars)
    floor = 1e-3
    for place, (label, offs) in enumerate(bars.items()):
        at = [x + place * width for x in range(len(found))]
        heights = [max(one.share(2), floor) for one in offs]
        axes.bar(at, heights, width, label=label)
    axes.axhline(0.1, color="black", linewidth=0.8, linestyle="--")
    axes.set_yscale("log")
    axes.set_ylim(bottom=floor)
    axes.set_ylabel("codes off by more than one, %")
    axes.set_xticks([x + 0.3 for x in range(len(found))], list(found), fontsize=8)
    axes.set_title("Nothing to see is nothing off", fontsize=8, loc="right")
    axes.legend(fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = command_line(NAME)
    parser.add_argument("--work", type=Path, default=WORK, help="what is kept")
    chosen = parser.parse_args(arguments)
    folder = chosen.work / "quick" if chosen.quick else chosen.work
    publish(NAME, measure(folder, quick=chosen.quick), chosen.json)


if __name__ == "__main__":
    main()
