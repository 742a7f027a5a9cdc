"""Quantize a model's file in one call."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from skerry.compress.ptq.calibrate import Progress
from skerry.compress.ptq.quantize import ACCURATE, Quantize, StepContext
from skerry.core.errors import UsageError
from skerry.core.model import Model
from skerry.core.seams import Tensors
from skerry.graph import open_model, read_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.sample import MemorySource, Sample, SampleSource


def quantize_model(
    model: str | Path,
    samples: str | Path | Iterable[Tensors],
    *,
    out: str | Path,
    step: Quantize = ACCURATE,
    runtime: str = "onnxruntime",
    threads: int = 1,
    progress: Progress | None = None,
) -> Model:
    """Quantize a model by one fixed step, without looking at labels.

    What that costs in accuracy is not measured: `skerry.compress.compress` does.

    Args:
        model: The float model, an ONNX file.
        samples: Real inputs: an `.npz` with one array an input, or dicts of arrays by
            name of input, with a batch axis.
        out: Where the quantized model is put; the folder is there.
        step: How to quantize.
        runtime: What runs the model on the samples.
        threads: CPU threads.
        progress: Told of each sample.

    Returns:
        What was written.

    Raises:
        DataError: The samples do not fit the model, or there are none.
        ModelError: The model is none, is damaged, or cannot be quantized.
        StorageError: The disk refused.
        UsageError: There is no such file, or the output would replace it.
    """
    source, target = Path(model), Path(out)
    if source.resolve() == target.resolve():
        raise UsageError(
            f"the quantized model would replace {source}",
            hint="Choose another name for the output.",
        )
    if not target.parent.is_dir():
        raise UsageError(
            f"the folder {target.parent} is not there",
            hint="Make it, or choose another one.",
        )
    graph = read_graph(source)
    context = StepContext(
        calibration=_open(samples, open_model(source)),
        runtime=get_runtime(runtime),
        threads=threads,
        progress=progress,
    )
    return write_graph(step.apply(graph, context), target)


def _open(samples: str | Path | Iterable[Tensors], model: Model) -> SampleSource:
    if isinstance(samples, str | Path):
        from skerry.tasks.samples import open_samples

        return open_samples(Path(samples), model.inputs, None)
    return MemorySource(
        samples=tuple(
            Sample(inputs=dict(inputs), label=None, name=f"sample {index}")
            for index, inputs in enumerate(samples)
        )
    )
