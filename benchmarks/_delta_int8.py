"""INT8 versions of the delta benchmark's nets, by our own quantizer, and scores."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._delta_train import Part
from benchmarks._train_net import as_source
from benchmarks.nets.places import keep
from skerry.compress.alike.choose import Loss
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.core.seams import LoadOptions
from skerry.graph import Graph, read_graph, write_graph
from skerry.runtimes import get_runtime


def quantize(path: Path, calibration: Part) -> Path:
    """Quantize a net with `Quantize()`, a scale a channel, once."""
    step = Quantize()
    context = StepContext(
        calibration=as_source(*calibration), runtime=get_runtime("onnxruntime")
    )

    def write(part: Path) -> None:
        write_graph(step.apply(read_graph(path), context), part)

    return keep(path.with_suffix(".int8.onnx"), write)


def accuracy(graph: Graph, part: Part) -> float:
    """The fraction of pictures that a graph tells right, on onnxruntime."""
    return float(_right(graph, part).mean())


def drop(native: Graph, parts: Sequence[Part]) -> Callable[[Graph], Loss]:
    """What others lose against a graph: the most that they lose on one of the parts."""
    before = [_right(native, part) for part in parts]

    def lose(graph: Graph) -> Loss:
        lost = [
            one - _right(graph, part) for one, part in zip(before, parts, strict=True)
        ]
        errors = [one.std() / np.sqrt(one.size) for one in lost]
        return Loss(
            drop=max(float(one.mean()) for one in lost),
            at_worst=max(
                float(one.mean() + error)
                for one, error in zip(lost, errors, strict=True)
            ),
        )

    return lose


def _right(graph: Graph, part: Part) -> NDArray[np.float64]:
    with tempfile.TemporaryDirectory() as folder:
        model = write_graph(graph, Path(folder) / "net.onnx")
        session = get_runtime("onnxruntime").load(model, LoadOptions(threads=1))
        answers = [
            session.run({"picture": one[None].numpy()})["logits"].argmax()
            for one in part[0]
        ]
        session.close()
    return np.asarray(np.asarray(answers) == part[1].numpy(), np.float64)
