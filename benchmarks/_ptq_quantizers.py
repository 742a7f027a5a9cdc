"""The quantizers that benchmark `ptq` compares, each run in a process of its own.

`python -m benchmarks._ptq_quantizers NAME CASE_FOLDER OUT.onnx`
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.nets.case import Case
from skerry.compress.ptq.quantize import ACCURATE, StepContext
from skerry.compress.search.evidence import compress
from skerry.graph import read_graph, upgrade_opset, write_graph
from skerry.runtimes import get_runtime

RUNTIME = "onnxruntime"
PEER = "onnxruntime"
"""How the names of the other quantizer's rows begin; its package."""

WEIGHTED_OPERATORS = ("Conv", "Gemm", "MatMul")
PER_CHANNEL_OPSET = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class OrtSettings:
    """How onnxruntime's `quantize_static` is called; its defaults where not said.

    Attributes:
        method: A `CalibrationMethod`, by name.
        per_channel: Whether weights have one scale an output channel.
        operators: Types of operators to quantize; all that it can where empty.
    """

    method: str = "MinMax"
    per_channel: bool = True
    operators: tuple[str, ...] = ()

    def quantize(self, case: Case, path: Path) -> None:
        """Prepare the model as onnxruntime's documentation says, then quantize it.

        The one thing added is the opset, which per-channel weights need.
        """
        get_runtime(RUNTIME)  # imports the library as we do, without its telemetry
        from onnxruntime.quantization import (
            CalibrationMethod,
            quant_pre_process,
            quantize_static,
        )

        options: dict[str, Any] = {}
        if self.operators:
            options["op_types_to_quantize"] = list(self.operators)
        with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
            newer, ready = Path(folder) / "newer.onnx", Path(folder) / "ready.onnx"
            graph = upgrade_opset(read_graph(case.model.path), PER_CHANNEL_OPSET)
            write_graph(graph, newer)
            quant_pre_process(newer, ready, skip_symbolic_shape=True)
            quantize_static(
                ready,
                path,
                _Reader(case),
                per_channel=self.per_channel,
                calibrate_method=CalibrationMethod[self.method],
                **options,
            )


class _Reader:
    """Calibration samples as onnxruntime asks for them, read as a stream."""

    def __init__(self, case: Case) -> None:
        self._length = len(case.calibration)
        self._inputs: Iterator[Any] = (sample.inputs for sample in case.calibration)

    def __len__(self) -> int:
        return self._length

    def get_next(self) -> Any:
        """Return the next sample's inputs, None after the last one."""
        return next(self._inputs, None)


def skerry_plain(case: Case, path: Path) -> None:
    """Run our quantizer once, with the step to begin with: no search, no report."""
    context = StepContext(calibration=case.calibration, runtime=get_runtime(RUNTIME))
    write_graph(ACCURATE.apply(read_graph(case.model.path), context), path)


def skerry_compress(case: Case, path: Path) -> None:
    """Run all of `skerry compress`: the search, the model and the report."""
    done = compress(
        case.model,
        calibration=case.calibration,
        selection=case.selection,
        report=case.report,
        task=case.task,
        runtime=get_runtime(RUNTIME),
    )
    write_graph(done.graph, path)


ORT_DEFAULTS = f"{PEER} defaults"
ORT_PERCENTILE = f"{PEER} percentile"
SKERRY_PLAIN = "skerry, no search"
SKERRY = "skerry compress"
QUANTIZERS: Mapping[str, Callable[[Case, Path], None]] = {
    ORT_DEFAULTS: OrtSettings(per_channel=False).quantize,
    f"{PEER} per channel": OrtSettings().quantize,
    ORT_PERCENTILE: OrtSettings(method="Percentile").quantize,
    f"{PEER} with weights": OrtSettings(operators=WEIGHTED_OPERATORS).quantize,
    SKERRY_PLAIN: skerry_plain,
    SKERRY: skerry_compress,
}
"""What turns a case into a model file, by the name in the table."""


def main() -> None:
    """Quantize as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._ptq_quantizers")
    parser.add_argument("name", choices=QUANTIZERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    QUANTIZERS[chosen.name](Case.read(chosen.folder), chosen.out)


if __name__ == "__main__":
    main()
