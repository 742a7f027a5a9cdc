"""A depthwise-separable net on Fashion-MNIST, and its twin with wide ranges.

The net is trained by `torch_depthwise.py` on the 60,000 training pictures. The twin
computes the same: each channel behind a ReLU is scaled by a factor drawn from
2^U(-3.3, 3.3) and scaled back in the weights that read it, which is what makes
per-tensor quantization lose everything (M. Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", 2019, section 3, in reverse).
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.nets.case import PARTS, write_arrays, write_net
from benchmarks.nets.places import FASHION, TRAINING_TIMEOUT_S, keep, run_script
from skerry.core.errors import ModelError
from skerry.core.seams import LoadOptions
from skerry.graph import (
    Graph,
    Node,
    attribute,
    make_initializer,
    open_model,
    read_graph,
    write_graph,
)
from skerry.runtimes import get_runtime
from skerry.tasks.steps import Softmax, TopK
from skerry.tasks.task import Task, TaskKind

LABELS = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
COUNTS = {"calibration": 300, "selection": 1000, "report": 10_000}
QUICK_COUNTS = {"calibration": 32, "selection": 100, "report": 400}
QUICK_TRAINING = 6000
WIDEST = 3.3
"""Largest power of two, either way, that the twin's channels are scaled by."""

SAME = 1e-4
"""Largest difference of the twin's outputs, relative to the largest output."""

Array = NDArray[np.generic]


def fashion_task() -> Task:
    """How the net is read: ten classes."""
    return Task(
        kind=TaskKind.CLASSIFICATION,
        metric="top1",
        labels=LABELS,
        post=(Softmax(), TopK(k=3)),
    )


def write_depthwise(
    folder: Path, *, seed: int, quick: bool, wide: bool = False
) -> None:
    """Write the case: the net trained with this seed, or its twin."""
    made = folder.parent / "made"
    short = "-quick" * quick
    path = keep(
        made / f"ds-seed{seed}{short}.onnx",
        lambda part: _train(part, seed, quick=quick),
    )
    pictures = read_pictures(seed, quick=quick)
    if wide:
        plain = path
        path = keep(
            made / f"ds_wide-seed{seed}{short}.onnx",
            lambda part: write_graph(widen(read_graph(plain), seed), part),
        )
        check_same(plain, path, pictures["calibration"][0])
    net = write_net(folder, path, fashion_task())
    for part, (array, labels) in pictures.items():
        write_arrays(folder / f"{part}.npz", net.inputs[0].name, array, labels)


def _train(path: Path, seed: int, *, quick: bool) -> None:
    files = [
        FASHION / f"train-{one}-ubyte.gz" for one in ("images-idx3", "labels-idx1")
    ]
    options = ["--seed", str(seed), *(["--first", str(QUICK_TRAINING)] * quick)]
    run_script(
        "torch",
        "torch_depthwise.py",
        [*files, path, *options],
        timeout_s=TRAINING_TIMEOUT_S,
    )


def read_pictures(seed: int, *, quick: bool) -> dict[str, tuple[Array, Array]]:
    """Read each part's pictures, float32 [n, 1, 28, 28] in 0–1, and labels, int64 [n].

    Calibration and selection are drawn from the training pictures, none twice; the
    test pictures report.
    """
    counts = QUICK_COUNTS if quick else COUNTS
    training, test = _read("train"), _read("t10k")
    order = np.random.default_rng([seed, 28]).permutation(len(training[1]))
    first = counts["calibration"]
    chosen = order[:first], order[first : first + counts["selection"]]
    parts = [
        *((training[0][one], training[1][one]) for one in chosen),
        (test[0][: counts["report"]], test[1][: counts["report"]]),
    ]
    return {
        part: (pixels.astype(np.float32) / np.float32(255), labels)
        for part, (pixels, labels) in zip(PARTS, parts, strict=True)
    }


def _read(which: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a pair of IDX files, whose headers are of 16 and 8 bytes."""
    images, labels = (
        np.frombuffer(
            gzip.decompress((FASHION / f"{which}-{one}-ubyte.gz").read_bytes()),
            dtype=np.uint8,
        )
        for one in ("images-idx3", "labels-idx1")
    )
    return images[16:].reshape(-1, 1, 28, 28), labels[8:].astype(np.int64)


def widen(graph: Graph, seed: int, *, is_partial: bool = False) -> Graph:
    """Scale the channels behind each ReLU, and undo it where they are read.

    Args:
        graph: A chain in which each ReLU has a convolution before it and leads, through
            operators that act on each channel alone, to one convolution or Gemm.
        seed: Draws the factors.
        is_partial: Whether ReLUs that are not in such a chain are left as they are.

    Returns:
        Another graph of the same function.

    Raises:
        ModelError: The graph is not such a chain.
    """
    wide = graph.copy()
    rng = np.random.default_rng([seed, 33])
    for relu in [node for node in wide.nodes if node.op_type == "Relu"]:
        try:
            conv, reader = _writer(relu), _reader(wide, relu)
        except ModelError:
            if is_partial:
                continue
            raise
        channels = _weights(wide, conv).shape[0]
        factors = np.exp2(rng.uniform(-WIDEST, WIDEST, channels)).astype(np.float32)
        for index in range(1, len(conv.inputs)):
            _scale(wide, conv, index, factors, axis=0)
        _scale(wide, reader, 1, 1 / factors, axis=_input_axis(reader))
    return wide


def _writer(relu: Node) -> Node:
    source = relu.inputs[0]
    conv = source.producer() if source is not None else None
    if conv is None or conv.op_type != "Conv":
        raise ModelError(
            f"the ReLU {relu.name!r} has no convolution before it",
            hint="Give a chain of convolutions and ReLUs.",
        )
    return conv


def _reader(graph: Graph, node: Node) -> Node:
    """The one convolution or Gemm that reads these channels."""
    uses = [use.node for use in node.outputs[0].uses()]
    if len(uses) != 1:
        raise ModelError(
            f"{node.name!r} has {len(uses)} readers, expected one",
            hint="Give a chain of convolutions and ReLUs.",
        )
    is_weighted = uses[0].op_type in {"Conv", "Gemm"}
    return uses[0] if is_weighted else _reader(graph, uses[0])


def _input_axis(reader: Node) -> int:
    """The axis of a reader's weights that counts the channels it reads."""
    if reader.op_type == "Gemm":
        return 1 if attribute(reader, "transB", 0) else 0
    return 0 if attribute(reader, "group", 1) > 1 else 1


def _weights(graph: Graph, node: Node, index: int = 1) -> NDArray[np.float32]:
    array = graph.constant(node.inputs[index])
    if array is None:
        raise ModelError(
            f"input {index} of {node.name!r} is no constant",
            hint="Give a net whose weights are initializers.",
        )
    return array.astype(np.float32)


def _scale(
    graph: Graph, node: Node, index: int, factors: NDArray[np.float32], *, axis: int
) -> None:
    array = _weights(graph, node, index)
    shape = [-1 if place == axis else 1 for place in range(array.ndim)]
    scaled = array * factors.reshape(shape)
    name = graph.unique_name(f"{node.name}.{index}")
    value = graph.add_initializer(make_initializer(scaled, name))
    node.replace_input_with(index, value)


def check_same(plain: Path, wide: Path, pictures: Array) -> float:
    """Check that two nets of one input give the same first output.

    Returns:
        The largest difference, relative to the largest output.

    Raises:
        ModelError: They differ by more than rounding.
    """
    outputs = [run(path, pictures) for path in (plain, wide)]
    difference = float(np.abs(outputs[0] - outputs[1]).max() / np.abs(outputs[0]).max())
    if not difference <= SAME:
        raise ModelError(
            f"the twin's outputs differ by {difference:.1e}, expected {SAME:.0e}",
            hint="The chain has an operator that does not act on each channel alone.",
        )
    return difference


def run(path: Path, pictures: Array) -> NDArray[np.float32]:
    """Run a net with one input over samples; its first output, one row a sample."""
    model = open_model(path)
    session = get_runtime("onnxruntime").load(model, LoadOptions(threads=1))
    name = model.inputs[0].name
    try:
        rows = [next(iter(session.run({name: one[None]}).values())) for one in pictures]
        return np.concatenate(rows)
    finally:
        session.close()
