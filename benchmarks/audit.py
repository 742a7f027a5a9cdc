"""The audit, against Arm's Vela and against what users report of other NPUs.

    python -m benchmarks.audit [--quick] --json OUT.json

The audit places a model before Vela sees it, by rules alone. The models are those of
`SKERRY_DATA` (MLPerf Tiny, MobileNets) and random nets; the seed of these was fixed
after the operator tables were written, and is in no test. Vela comes from
`skerry toolchain install vela`; without it its bar is not measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks._audit_compare import Comparison, compare
from benchmarks._audit_nets import random_net
from benchmarks._harness import Measured, Outcome, Row, run_benchmark
from benchmarks.nets.places import data_folder
from skerry.adapt.target_files import load_target
from skerry.adapt.tflite import write_tflite
from skerry.app.pipelines.vela import VelaToolchain
from skerry.core.errors import ToolchainError, UsageError
from tests.documented import CASES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "audit"
SEED = 77_123
RANDOM_NETS = 24
QUICK_NETS = 10
TARGETS = ("ethos-u55-128", "ethos-u65-256", "ethos-u85-256")
FOLDERS = ("models_mlperf_tiny", "models_imagenet_tflite")

Found = tuple[str, str, Comparison]
"""The target's name, the model's, and how the two place it."""


def measure(quick: bool) -> Outcome:  # noqa: FBT001 - the harness calls it so
    """Compare all models on all targets, then ask the documented cases."""
    documented = [(case, case.is_reproduced()) for case in CASES]
    missed = [case for case, is_reproduced in documented if not is_reproduced]
    rows: list[Row] = [
        {"target": case.target, "model": case.source, "what": case.what, "missed": 1}
        for case in missed
    ]
    found: list[Found] = []
    vela = VelaToolchain()
    try:
        peer = vela.version
    except ToolchainError:
        peer = "Vela (missing)"
    else:
        found = list(_compared(vela, quick=quick))
    rows += [_row(*one) for one in found]
    differing = sum(len(one.differing) for _, _, one in found)
    models = {model for _, model, _ in found}
    return Outcome(
        rows=rows,
        measured=[
            Measured(
                id="audit.vela.disagree",
                figure=differing if found else None,
                n=len(models),
                peer=peer,
            ),
            Measured(id="audit.documented.missed", figure=len(missed), n=len(CASES)),
        ],
        draw=partial(draw, found),
    )


def _compared(vela: VelaToolchain, *, quick: bool) -> Iterator[Found]:
    targets = [load_target(name) for name in TARGETS]
    with TemporaryDirectory() as scratch:
        paths = [
            *_real(),
            *_random(Path(scratch), QUICK_NETS if quick else RANDOM_NETS),
        ]
        for target in targets:
            for path in paths:
                yield target.name, path.stem, compare(path, target, vela)


def _real() -> list[Path]:
    """The models beside the project; none where there are no data."""
    try:
        folders = [data_folder(name) for name in FOLDERS]
    except UsageError:
        return []
    return [path for folder in folders for path in sorted(folder.rglob("*.tflite"))]


def _random(folder: Path, number: int) -> Iterator[Path]:
    for seed in range(SEED, SEED + number):
        path = folder / f"random-{seed}.tflite"
        path.write_bytes(write_tflite(random_net(seed)))
        yield path


def _row(target: str, model: str, found: Comparison) -> Row:
    return {
        "target": target,
        "model": model,
        "operators": found.operators,
        "on_cpu": found.on_cpu,
        "differing": len(found.differing),
        "which": "; ".join(found.differing),
        "audit_ms": found.audited_ms,
        "vela_ms": found.compiled_ms,
    }


def draw(found: Sequence[Found], figure: Figure) -> None:
    """Where operators are placed, and the audit's times against Vela's."""
    left, right = figure.subplots(1, 2)
    names = sorted({target for target, _, _ in found})
    for place, name in enumerate(names):
        mine = [one for target, _, one in found if target == name]
        on_cpu = sum(one.on_cpu for one in mine)
        on_npu = sum(one.operators for one in mine) - on_cpu
        left.bar(place, on_npu, color="tab:blue", label="NPU" if place == 0 else "")
        left.bar(
            place,
            on_cpu,
            bottom=on_npu,
            color="tab:orange",
            label="CPU" if place == 0 else "",
        )
        wrong = sum(len(one.differing) for one in mine)
        left.text(place, on_npu + on_cpu, f"{wrong} differ", ha="center", va="bottom")
    left.set_xticks(range(len(names)), names, fontsize=8)
    left.set_ylabel("operators, as Vela places them")
    left.set_title("Operators placed unlike Vela", fontsize=10)
    left.legend(loc="lower right")
    _draw_times(right, found)


def _draw_times(axes: Axes, found: Sequence[Found]) -> None:
    both = [
        (one.compiled_ms, one.audited_ms)
        for _, _, one in found
        if one.audited_ms and one.compiled_ms
    ]
    axes.set_title("Time of nets that run on the NPU alone", fontsize=10)
    axes.set_xlabel("Vela, ms")
    axes.set_ylabel("audit, ms")
    if not both:
        return
    compiled, audited = zip(*both, strict=True)
    ends = (min(*compiled, *audited), max(*compiled, *audited))
    axes.loglog(compiled, audited, ".")
    axes.loglog(ends, ends, color="gray", linewidth=1)


if __name__ == "__main__":
    run_benchmark(NAME, measure)
