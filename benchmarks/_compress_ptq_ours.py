"""Our own quantizers, each run in a process of its own as the peers are.

`python -m benchmarks._compress_ptq_ours SETTING CASE ARRAYS OUT` writes the model,
`cost.json`, and for the whole command `told.json`: what its report says. Samples come
from the folder of arrays that the peers read too.
"""

from __future__ import annotations

import argparse
import json
import pickle
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

import numpy as np

from skerry.compress.numbers.schemes import Method
from skerry.compress.ptq.quantize import ACCURATE, Quantize, StepContext
from skerry.graph import read_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.sample import Mask, Sample, SampleSource

if TYPE_CHECKING:
    from skerry.tasks.prediction import Label

REPORTED = 16
"""Samples of the command's own report: every model is scored on all of them later, and
what the report costs is not counted, as the peers write none."""


@dataclass(kw_only=True)
class Cost:
    """CPU seconds and peak memory of this process, as they were at some time."""

    cpu_s: float
    peak_rss_bytes: int

    @classmethod
    def now(cls) -> Self:
        """What was used until now."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(
            cpu_s=used.ru_utime + used.ru_stime,
            peak_rss_bytes=used.ru_maxrss * 1024,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArraySource:
    """The samples that the peers read, in the same form: arrays mapped into memory.

    Attributes:
        arrays: By input, one row a sample.
        labels: One a sample, or none.
        rows: Which rows are samples of this source.
    """

    arrays: Mapping[str, Any]
    labels: Sequence[Label | None]
    rows: Sequence[int]

    @classmethod
    def read(cls, folder: Path, names: Sequence[str]) -> Self:
        """Open what `benchmarks._compress_ptq_make` laid out."""
        arrays = {
            name: np.load(folder / f"{index}.npy", mmap_mode="r")
            for index, name in enumerate(names)
        }
        labels = pickle.loads((folder / "labels.pickle").read_bytes())  # noqa: S301 — our own file
        return cls(arrays=arrays, labels=labels, rows=range(len(labels)))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Sample]:
        for row in self.rows:
            inputs = {
                name: np.array(array[row : row + 1])
                for name, array in self.arrays.items()
            }
            yield Sample(inputs=inputs, label=self.labels[row], name=str(row))

    def pick(self, mask: Mask) -> Self:
        """Return the samples whose entry of the mask is true."""
        rows = [row for row, is_kept in zip(self.rows, mask, strict=True) if is_kept]
        return replace(self, rows=rows)


class Watched:
    """Samples of the report; the first look at them ends the search, which is noted."""

    def __init__(self, source: SampleSource) -> None:
        self._source = source
        self.cost: Cost | None = None

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Sample]:
        self.cost = self.cost or Cost.now()
        return iter(self._source)

    def pick(self, mask: Mask) -> SampleSource:
        """Choose among them, which is no look yet."""
        return self._source.pick(mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a quantizer is given: the same as the peers are.

    Attributes:
        folder: Of the case: the source model, its task and the samples of the report.
        arrays: Of the samples.
        out: Where to write.
    """

    folder: Path
    arrays: Path
    out: Path

    def samples(self, part: str) -> ArraySource:
        """The samples of a part: `calibration` or `selection`."""
        names = json.loads((self.arrays / "asked.json").read_bytes())["inputs"]
        return ArraySource.read(self.arrays / part, names)


def whole_command(given: Given, *, runtime: str = "onnxruntime") -> Cost:
    """Run `skerry compress` at its defaults; its report's own cost does not count."""
    # What quantizing once does not need is not to be paid for by it.
    from benchmarks.nets.case import Case
    from skerry.compress.search.evidence import compress
    from skerry.tasks.samples import take

    case = Case.read(given.folder)
    report = Watched(take(case.report, REPORTED))
    done = compress(
        case.model,
        calibration=given.samples("calibration"),
        selection=given.samples("selection"),
        report=report,
        task=case.task,
        runtime=get_runtime(runtime),
    )
    write_graph(done.graph, given.out / "model.onnx")
    told = {
        "notes": list(done.report.notes),
        "chosen": next((one.name for one in done.report.tried if one.chosen), ""),
        "tried": len(done.report.tried),
    }
    (given.out / "told.json").write_text(json.dumps(told))
    return report.cost or Cost.now()


def one_step(given: Given, *, step: Quantize) -> Cost:
    """Quantize once, without any look at labels."""
    context = StepContext(
        calibration=given.samples("calibration"), runtime=get_runtime("onnxruntime")
    )
    source = read_graph(given.folder / "model.onnx")
    write_graph(step.apply(source, context), given.out / "model.onnx")
    return Cost.now()


SETTINGS: Mapping[str, Callable[[Given], Cost]] = {
    "compress": whole_command,
    "compress for openvino": partial(whole_command, runtime="openvino"),
    "fixed": partial(one_step, step=Quantize()),
    "accurate": partial(one_step, step=ACCURATE),
    "accurate per tensor": partial(one_step, step=replace(ACCURATE, per_channel=False)),
}
"""What writes a model, by name."""

MEMORY_SETTINGS: Mapping[str, Callable[[Given], Cost]] = {
    "memory accurate": partial(one_step, step=ACCURATE),
} | {
    f"memory {method}": partial(one_step, step=Quantize(operators="all", method=method))
    for method in get_args(Method)
}
"""Every way to choose ranges, run on many samples for the memory that it takes."""


def main() -> None:
    """Quantize as the command line says."""
    settings = {**SETTINGS, **MEMORY_SETTINGS}
    parser = argparse.ArgumentParser(prog="python -m benchmarks._compress_ptq_ours")
    parser.add_argument("setting", choices=settings)
    parser.add_argument("case", type=Path)
    parser.add_argument("arrays", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    given = Given(folder=chosen.case, arrays=chosen.arrays, out=chosen.out)
    cost = settings[chosen.setting](given)
    (chosen.out / "cost.json").write_text(json.dumps(vars(cost)))


if __name__ == "__main__":
    main()
