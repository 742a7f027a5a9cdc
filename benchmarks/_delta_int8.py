"""INT8 versions of the delta benchmark's nets, by our own quantizer, and scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks._delta_train import Part
from benchmarks._train_net import as_source
from benchmarks.nets.places import keep
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.core.seams import LoadOptions
from skerry.graph import open_model, read_graph, write_graph
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


def accuracy(path: Path, part: Part) -> float:
    """The fraction of pictures that a file tells right, on onnxruntime."""
    session = get_runtime("onnxruntime").load(open_model(path), LoadOptions(threads=1))
    answers = [
        session.run({"picture": one[None].numpy()})["logits"].argmax()
        for one in part[0]
    ]
    session.close()
    return float(np.mean(np.asarray(answers) == part[1].numpy()))
