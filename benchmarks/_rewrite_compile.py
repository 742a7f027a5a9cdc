"""Fit a net to an Ethos-U: adapt, quantize, write as TFLite, and ask Vela."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._rewrite_nets import Array, Net
from skerry.adapt.rewrite import adapt
from skerry.adapt.rewrite.residence import residence
from skerry.adapt.tflite import write_tflite
from skerry.app.pipelines.export import complete_scales
from skerry.app.pipelines.vela import VelaToolchain
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.core.target import ProcessorKind, Target
from skerry.graph import Graph, infer_shapes
from skerry.runtimes import get_runtime, open_any
from skerry.tasks.samples import MemorySource, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What became of a net.

    Attributes:
        net: Its name.
        operators: How many it has.
        refused: How many the audit says do not run on the NPU.
        replaced: How many `adapt` replaced.
        left: How many the audit says are left.
        rules: The rules used, the most frequent first.
        compiled: How many operators Vela schedules.
        on_cpu: How many of those it leaves on the CPU.
        time_ms: Of one inference, by Vela's estimate.
        adapt_s: Seconds that `adapt` took.
    """

    net: str
    operators: int
    refused: int
    replaced: int
    left: int
    rules: tuple[str, ...]
    compiled: int
    on_cpu: int
    time_ms: float | None
    adapt_s: float


def fit(net: Net, target: Target, vela: VelaToolchain) -> Fitted:
    """Fit a net to a target, and let Vela say what it leaves on the CPU.

    Raises:
        SkerryError: A step refused.
    """
    before = residence(net.graph, target)
    begun_s = time.perf_counter()
    adapted = adapt(net.graph, target)
    adapt_s = time.perf_counter() - begun_s
    codes = _quantized(adapted.graph, net.inputs)
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.tflite"
        path.write_bytes(write_tflite(codes))
        compiled = vela.compile(open_any(path), target)
    rules = Counter(name for one in adapted.applied for name in one.rules)
    on_cpu = [one for one in compiled.operators if one.kind is ProcessorKind.CPU]
    return Fitted(
        net=net.name,
        operators=before.of,
        refused=before.of - before.operators,
        replaced=len(adapted.applied),
        left=len(adapted.left),
        rules=tuple(name for name, _ in rules.most_common()),
        compiled=len(compiled.operators),
        on_cpu=len(on_cpu),
        time_ms=compiled.time_ms,
        adapt_s=adapt_s,
    )


def _quantized(graph: Graph, inputs: Sequence[dict[str, Array]]) -> Graph:
    runtime = get_runtime("onnxruntime")
    samples = MemorySource(
        samples=tuple(
            Sample(inputs=dict(one), label=None, name=str(number))
            for number, one in enumerate(inputs)
        )
    )
    context = StepContext(calibration=samples, runtime=runtime)
    codes = infer_shapes(Quantize(operators="all").apply(graph, context))
    return complete_scales(codes, (dict(one) for one in inputs), runtime)
